"""Metrics as callbacks that judge them see them: numbers that are not finite included. Pure."""

from __future__ import annotations

import math
from typing import Any, Dict, Optional

from arkor_sync.stream.events import METRICS

_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
_NAMES = {field: name for name, field in METRICS.items()}


def value_of(data: Dict[str, Any], name: str) -> Optional[float]:
    """Return a metric of a log event's JSON, or None where it has none.

    `1e309` is read as infinity, and so are `"NaN"` and `"Infinity"` as what they say: JSON has no
    other words for them.

    Args:
        data: `ctx.event.data`.
        name: As in `METRICS`, or the wire's name of another field.
    """
    value = data.get(METRICS.get(name, name))
    if type(value) is str:
        return float(value) if value.strip("+-").lower() in _NOT_FINITE else None
    if type(value) is not float and type(value) is not int:
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


def names_of(data: Dict[str, Any]) -> Dict[str, None]:
    """Return the names of all metrics that an event has, in its order."""
    names = (_NAMES.get(field, field) for field in data)
    return dict.fromkeys(n for n in names if n != "step" and value_of(data, n) is not None)


def to_json(value: Optional[float]) -> Any:
    """Return a number as JSON can carry it; `float` turns what is not None back."""
    return value if value is None or math.isfinite(value) else str(value)


def from_json(value: Any) -> Optional[float]:
    """Turn back what `to_json` returned."""
    return None if value is None else float(value)
