"""Dataclasses as JSON objects whose keys are in camelCase, by dataclasses-json. Pure.

No other module imports dataclasses-json. It is loaded at the first use: that takes longer than to
load all the rest of the package.

dataclasses-json has had no maintainer since November 2025. To do without it, `decode` would call
`cls(**values)` with the names of the fields as keys, and `encode` would loop over the same fields:
`camel_case` is all that both need.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Dict, cast


def load() -> None:
    """Load dataclasses-json before its first use."""
    import dataclasses_json  # noqa: F401


def decode(cls: Any, values: Dict[str, Any]) -> Any:
    """Build a dataclass from values by their names on the wire."""
    return _codec(cls).from_dict.__func__(cls, values)


def encode(record: Any) -> Dict[str, Any]:
    """Return the values of a dataclass by their names on the wire."""
    cls: Any = type(record)
    wire: Dict[str, Any] = _codec(cls).to_dict(record)
    return wire


@cache
def camel_case(name: str) -> str:
    """Return the name on the wire of a field in snake_case."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@cache
def _codec(cls: Any) -> Any:
    from dataclasses_json import DataClassJsonMixin, LetterCase, config

    cls.dataclass_json_config = config(letter_case=cast(Any, LetterCase.CAMEL))["dataclasses_json"]
    return DataClassJsonMixin
