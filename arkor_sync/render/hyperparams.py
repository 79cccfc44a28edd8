"""The configuration of a job as flat names and values, without secrets. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from arkor_sync._common.secret import Secret, hide_secrets, redact


def flatten_hyperparams(config: Mapping[str, Any]) -> Dict[str, Any]:
    """Flatten a job's configuration: nested names are joined with dots, short lists become a text.

    Values that may be secret are left out: tokens and keys by their names, and what looks like one
    within a text; of a URL the user and the query.
    """
    return _flatten(hide_secrets(config, by_form=False))


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> Dict[str, List[Any]]:
    """Return the values of each setting that differs between flat configurations.

    They are in the order of the configurations; None stands where one does not have the setting.
    """
    names = dict.fromkeys(name for config in configs for name in config)
    values = {name: [config.get(name) for config in configs] for name in names}
    return {name: found for name, found in values.items() if any(v != found[0] for v in found)}


def _flatten(config: Mapping[str, Any]) -> Dict[str, Any]:
    flat: Dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, list):
            nested = any(isinstance(each, (dict, list, Secret)) for each in value)
            if nested or not value:
                value = {str(index): each for index, each in enumerate(value)}
            else:
                value = ", ".join(redact(str(each)) for each in value)
        if isinstance(value, dict):
            flat.update({f"{key}.{k}": v for k, v in _flatten(value).items()})
        elif value is not None and not isinstance(value, Secret):
            flat[key] = redact(value) if isinstance(value, str) else value
    return flat
