"""Texts, numbers, durations and times, formatted for people. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Optional

from arkor_sync._common.text import safe_line

_MAX_TEXT = 10_000  # characters; more are on no line
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?!24)\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
"""A time in the form of RFC 3339, which allows lower case and a space; without a zone too."""


def one_line(text: str, columns: int) -> str:
    """Return a safe text on one line, shortened if it is too long for a terminal.

    Args:
        text: Any text of the cloud or the user.
        columns: The longest result, in columns of a terminal; East Asian characters take two.
    """
    clean = safe_line(text, _MAX_TEXT)
    if len(clean) <= columns and display_width(clean) <= columns:
        return clean
    clean = clean[:columns]
    while clean and display_width(clean) >= columns:
        clean = clean[:-1]
    return clean.rstrip() + "…"


def display_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):  # it joins the one before it
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def format_duration(seconds: float) -> str:
    """Format a duration in its two largest units, such as `3 h 20 min`."""
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


def format_number(value: float) -> str:
    """Format a metric with four significant digits."""
    try:
        return f"{value:.4g}"
    except OverflowError:  # an integer that no float can hold
        return "inf" if value > 0 else "-inf"


def parse_timestamp(timestamp: Optional[str]) -> Optional[float]:
    """Convert a time of RFC 3339 to seconds since 1970, or None if it is none. No zone means UTC.

    A leap second (`23:59:60`) is the second after `23:59:59`, as in the time of Unix.
    """
    parts = _TIMESTAMP.fullmatch(timestamp or "")
    if parts is None:
        return None
    date, minute, second, fraction, zone = parts.groups()
    leap = second == "60"
    zone = "+00:00" if zone in (None, "Z", "z") else zone
    try:
        parsed = datetime.fromisoformat(f"{date}T{minute}{'59' if leap else second}{zone}")
    except ValueError:
        return None
    # The fraction is added here, because Python 3.9 only parses one of 3 or 6 digits.
    return parsed.timestamp() + leap + float(fraction or 0)


def seconds_between(start: Optional[str], end: Optional[str]) -> Optional[float]:
    """Return the seconds from one ISO 8601 time to another, at least 0; None if one is missing."""
    first, last = parse_timestamp(start), parse_timestamp(end)
    return None if first is None or last is None else max(0.0, last - first)
