"""Reads metrics from a log event, including values that are not finite. Pure."""

from __future__ import annotations

import math
from typing import Any, Dict, Optional

from arkor_sync.stream.events import METRICS

_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
_NAMES = {field: name for name, field in METRICS.items()}


def metric_value(data: Dict[str, Any], name: str) -> Optional[float]:
    """Return a metric of a log event, or None where the event does not have it.

    JSON has no NaN and no infinity. `1e309` is read as infinity, and the texts `"NaN"` and
    `"Infinity"` as the values that they name.

    Args:
        data: `ctx.event.data`.
        name: A name in `METRICS`, or the wire's name of another field.
    """
    value = data.get(METRICS.get(name, name))
    if type(value) is str:
        return float(value) if value.strip("+-").lower() in _NOT_FINITE else None
    if type(value) is not float and type(value) is not int:
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def metric_names(data: Dict[str, Any]) -> Dict[str, None]:
    """Return the names of all metrics of a log event, in the event's order, as an ordered set."""
    names = (_NAMES.get(field, field) for field in data)
    return dict.fromkeys(n for n in names if n != "step" and metric_value(data, n) is not None)


def float_to_json(value: Optional[float]) -> Any:
    """Convert a number to a value that JSON can hold: NaN and infinity become texts."""
    return value if value is None or math.isfinite(value) else str(value)


def float_from_json(value: Any) -> Optional[float]:
    """Convert a value that `float_to_json` returned back to a number."""
    return None if value is None else float(value)
