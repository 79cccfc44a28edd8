"""The configuration of a job as flat names and values, without secrets. Pure."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping

_SECRET = re.compile(
    r"(token|secret|pass(word|wd|phrase)|key|auth(orization)?|bearer|cookie|credential)s?$", re.I
)
# Only the groups are kept: they are the parts of a URL without secrets.
_URL = re.compile(r"(\w+://)(?:[^/?#\s]*@)?([^?#\s]*)\S*")


def flatten_hyperparams(config: Mapping[str, Any]) -> Dict[str, Any]:
    """Flatten a job's configuration: nested names are joined with dots, short lists become a text.

    Values that may be secret are left out: tokens and keys, and of a URL the user and the query.
    """
    flat: Dict[str, Any] = {}
    for key, value in config.items():
        if _SECRET.search(key) and not isinstance(value, (int, float)):
            continue
        if isinstance(value, (list, tuple)):
            nested = any(isinstance(each, (Mapping, list, tuple)) for each in value)
            if nested or not value:
                value = {str(index): each for index, each in enumerate(value)}
            else:
                value = ", ".join(str(_without_url_secrets(each)) for each in value)
        if isinstance(value, Mapping):
            flat.update({f"{key}.{k}": v for k, v in flatten_hyperparams(value).items()})
        elif value is not None:
            flat[key] = _without_url_secrets(value)
    return flat


def _without_url_secrets(value: Any) -> Any:
    return _URL.sub(r"\1\2", value) if isinstance(value, str) else value
