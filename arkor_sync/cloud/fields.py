"""Checks of the fields of a job's configuration. Pure."""

from __future__ import annotations

from typing import Any, Dict, Optional

from arkor_sync._common.arguments import check, is_number


def present(**values: Any) -> Dict[str, Any]:
    """Return the values that are not None, by their names."""
    return {key: value for key, value in values.items() if value is not None}


def is_real(value: object) -> bool:
    """Whether it is an int or a float that is finite."""
    return isinstance(value, (int, float)) and is_number(value)


def is_integer(value: object) -> bool:
    """Whether it is an int."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_whole(value: Any, least: int = 0) -> bool:
    """Whether it is an int, `least` or more."""
    return is_integer(value) and value >= least


def is_share(value: Any) -> bool:
    """Whether it is a number above 0 and below 1."""
    return is_real(value) and 0 < value < 1


def check_whole(name: str, value: Optional[int], least: int = 0) -> Optional[int]:
    """Return a whole number, or None; refuse all else."""
    fits = value is None or is_whole(value, least)
    check(name, value, fits, f"a whole number, {least} or more")
    return value


def check_number(name: str, value: Optional[float]) -> Optional[float]:
    """Return a number that is not negative, or None; refuse all else."""
    fits = value is None or (is_real(value) and value >= 0)
    check(name, value, fits, "a finite number, 0 or more")
    return value


def check_text(name: str, value: Optional[str]) -> Optional[str]:
    """Return a text that is not blank, or None; refuse all else."""
    fits = value is None or (isinstance(value, str) and bool(value.strip()))
    check(name, value, fits, "a string that is not empty")
    return value


def check_flag(name: str, value: Optional[bool]) -> Optional[bool]:
    """Return True, False or None; refuse all else."""
    check(name, value, value is None or isinstance(value, bool), "True or False")
    return value
