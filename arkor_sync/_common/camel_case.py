"""Dataclasses as JSON objects whose keys are in camelCase, by dataclasses-json. Pure.

No other module imports dataclasses-json. It is loaded at the first use: that takes longer than to
load all the rest of the package.

dataclasses-json has had no maintainer since November 2025. To do without it, `_names` would use
`camel_case`, and `encode` would loop over the same fields.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any, Dict, cast


def load() -> None:
    """Load dataclasses-json before its first use."""
    import dataclasses_json  # noqa: F401


def decode(cls: Any, values: Dict[str, Any]) -> Any:
    """Build a dataclass from values by their names on the wire.

    The values have the types of their fields. dataclasses-json returns such values as they are, but
    for objects, which it copies; and it takes most of a millisecond to look at the class again for
    each object. So it is asked for the names alone, once for each class.
    """
    names = _names(cls)
    return cls(
        **{
            names[name]: dict(value) if isinstance(value, dict) else value
            for name, value in values.items()
        }
    )


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
def _names(cls: Any) -> Dict[str, str]:
    """Return the names of the fields by their names on the wire."""
    from dataclasses_json import LetterCase

    on_the_wire = cast(Any, LetterCase.CAMEL)
    return {on_the_wire(field.name): field.name for field in fields(cls)}


@cache
def _codec(cls: Any) -> Any:
    from dataclasses_json import DataClassJsonMixin, LetterCase, config

    cls.dataclass_json_config = config(letter_case=cast(Any, LetterCase.CAMEL))["dataclasses_json"]
    return DataClassJsonMixin
