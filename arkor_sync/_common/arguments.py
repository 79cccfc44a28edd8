"""Checks of what a program gives, and how a refused argument is worded. Pure; any thread."""

from __future__ import annotations

import inspect
import math
from typing import Any, Callable

from arkor_sync.errors import ArkorUsageError


def show(value: object) -> str:
    """Describe a value for an error message: its type, and a short form if it is a scalar."""
    if value is None or isinstance(value, (bool, int, float, str)):
        text = repr(value)
        short = text if len(text) <= 60 else f"{text[:57]}..."
        return short if value is None else f"{type(value).__name__} {short}"
    return f"a {type(value).__name__}"


def check(name: str, value: object, fits: bool, wanted: str) -> None:
    """Refuse an argument.

    Raises:
        ArkorUsageError: It does not fit. The text says what was given and what would do.
    """
    if not fits:
        raise ArkorUsageError(f"{name}: got {show(value)}; give {wanted}")


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold."""
    try:
        return type(value) is not bool and math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return False


def check_callback(name: str, given: Any) -> Callable[[Any], Any]:
    """Return the function, or refuse one that cannot be called with one context.

    Raises:
        ArkorUsageError: It is no function, or it takes no or more arguments.
    """
    function: Callable[[Any], Any] = given
    if not callable(function):
        raise ArkorUsageError(f"{name} must be a function of one context, not {function!r:.80}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function  # a function written in C may not tell its arguments
    try:
        signature.bind(None)
    except TypeError as error:
        label = getattr(function, "__qualname__", repr(function))
        raise ArkorUsageError(
            f"{name} is called with one argument, the context; {label}{signature} cannot be: "
            f"{error}"
        ) from None
    return function
