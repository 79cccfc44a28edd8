"""A job's configuration as names and values, without what may be secret. Pure."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping

_SECRET = re.compile(
    r"(token|secret|pass(word|wd|phrase)|key|auth(orization)?|bearer|cookie|credential)s?$", re.I
)
_URL = re.compile(r"(\w+://)(?:[^/?#\s]*@)?([^?#\s]*)\S*")  # what may be secret is in no group


def hyperparams_of(config: Mapping[str, Any]) -> Dict[str, Any]:
    """Flatten a job's configuration: names with dots, values plain, short lists as one text.

    What may be secret is left out: tokens and keys, the user's part and the query of a URL.
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
                value = ", ".join(str(_plain(each)) for each in value)
        if isinstance(value, Mapping):
            flat.update({f"{key}.{k}": v for k, v in hyperparams_of(value).items()})
        elif value is not None:
            flat[key] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    return _URL.sub(r"\1\2", value) if isinstance(value, str) else value
