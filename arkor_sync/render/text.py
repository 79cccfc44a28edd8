"""How runs are put into words and figures, for people. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Optional

_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # and whatever else is an order to a terminal
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?")


def one_line(text: str, columns: int) -> str:
    """Make one line of a text: no control characters, and cut where it is too long.

    Args:
        text: Whatever the cloud or the user wrote.
        columns: Of a terminal; East Asian characters take two.
    """
    plain = without_colours(text)
    clean = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    if len(clean) <= columns and columns_of(clean) <= columns:
        return clean
    clean = clean[:columns]
    while clean and columns_of(clean) >= columns:
        clean = clean[:-1]
    return clean.rstrip() + "…"


def without_colours(text: str) -> str:
    """Take out what colours a text in a terminal: a traceback may be full of it."""
    return _COLOURS.sub("", text)


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def duration(seconds: float) -> str:
    """Write a duration in the two units that matter."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min {whole % 60} s"
    if not days:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def figure(value: float) -> str:
    """Write a metric with four significant digits."""
    try:
        return f"{value:.4g}"
    except OverflowError:  # a whole number that no float can hold
        return "inf" if value > 0 else "-inf"


def moment(timestamp: Optional[str]) -> Optional[float]:
    """Read an ISO 8601 time as seconds since 1970; what is none is None. No zone means UTC."""
    parts = _TIME.fullmatch(timestamp or "")
    if parts is None:
        return None
    whole, fraction, zone = parts.groups()
    try:
        read = datetime.fromisoformat(whole + ("+00:00" if zone in (None, "Z") else zone))
    except ValueError:
        return None
    return read.timestamp() + float(fraction or 0)  # Python 3.9 reads 3 or 6 digits only


def between(start: Optional[str], end: Optional[str]) -> Optional[float]:
    """Return the seconds from one timestamp to another, or None."""
    first, last = moment(start), moment(end)
    return None if first is None or last is None else max(0.0, last - first)
