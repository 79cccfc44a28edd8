"""Checks of what a program gives, and the one wording of a refused argument. Pure."""

from __future__ import annotations

import inspect
import math
import os
from datetime import timedelta
from typing import Any, Callable, Iterable, Mapping, Sequence

from arkor_sync._common.secret import Secret, redact
from arkor_sync.errors import ArkorUsageError

MAX_SECONDS = 1_000_000_000
"""The longest time that a thread can be asked to wait, in seconds."""


def refusal(
    name: str, value: object, wanted: str, *, got: str = "", secret: bool = False
) -> ArkorUsageError:
    """Build the error for an argument that cannot work; the caller raises it.

    Args:
        name: The argument, as the caller of the public function knows it: `save_steps['ratio']`.
        value: What was given.
        wanted: What would work, in the words that follow "give".
        got: What is wrong with the value, where the value alone does not show it.
        secret: Whether only the type of the value may be shown.
    """
    return ArkorUsageError(f"{name}: got {got or show(value, secret)}; give {wanted}")


def check(name: str, value: object, fits: bool, wanted: str) -> None:
    """Refuse an argument that does not fit.

    Raises:
        ArkorUsageError: It does not fit; see `refusal`.
    """
    if not fits:
        raise refusal(name, value, wanted)


def show(value: object, secret: bool = False) -> str:
    """Describe a value for an error message.

    Returns:
        The type, and for a text, a number, a path, a duration or a list of numbers also its first
        60 characters; of an object its keys, and of another list its length: what they hold may be
        secret. Nothing but the type of what is secret, and of all other values.
    """
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    secret = secret or isinstance(value, Secret)
    name = "str" if isinstance(value, str) else type(value).__name__
    bare = f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
    if secret:
        return bare
    if isinstance(value, Mapping) and value:
        return f"{bare} with {_cut(redact(', '.join(map(repr, value))))}"
    if _is_scalar(value) or _holds_numbers(value):
        return f"{name} {_cut(repr(value))}"
    if isinstance(value, (os.PathLike, timedelta)):
        return f"{name} {_cut(repr(str(value)))}"
    if isinstance(value, (list, tuple, set, frozenset, Mapping)):
        return f"{bare} of {len(value)}" if value else f"an empty {name}"
    return bare


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold."""
    try:
        return type(value) is not bool and math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return False


def is_seconds(value: object) -> bool:
    """Whether it is a number of seconds that a thread can be asked to wait, 0 included."""
    return isinstance(value, (int, float)) and is_number(value) and 0 <= value <= MAX_SECONDS


def check_timeout(timeout: object) -> None:
    """Refuse the timeout of a wait that is neither None nor a number from 0; infinity is one."""
    is_time = isinstance(timeout, (int, float)) and type(timeout) is not bool and timeout >= 0
    check("timeout", timeout, timeout is None or is_time, "a number of seconds from 0, or None")


def check_client(client: object) -> None:
    """Refuse what has not the two parts of a `CloudApiClient` that a run uses."""
    forgot = "; did you forget .client()?" if hasattr(client, "client") else ""
    fits = hasattr(client, "jobs") and hasattr(client, "transport")
    check("client", client, fits, f"a CloudApiClient{forgot}")


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Return ` (did you mean 'testSize'?)` for a misspelt name, or nothing if none is near it.

    Nothing either if only one is known: the list that the message has is then the same. Case, and
    `_` and `-` between words, make no difference.
    """
    from difflib import get_close_matches  # here: only a misspelt name needs it

    names = {_plain(name): name for name in known}
    near = get_close_matches(_plain(given), names, n=1)
    return f" (did you mean {names[near[0]]!r}?)" if near and len(names) > 1 else ""


def check_keys(
    name: str,
    value: Mapping[Any, Any],
    known: Sequence[str],
    or_else: str = "",
    *,
    closed: bool = True,
) -> None:
    """Refuse an object with a key that the cloud does not know: it would ignore it.

    Args:
        name: The argument, as the caller of the public function knows it.
        value: The object.
        known: The keys that the cloud knows.
        or_else: What else would do, in words that follow the list of these keys.
        closed: Whether a key is refused too that is near no known one: a newer cloud may know it.

    Raises:
        ArkorUsageError: It has another key. The message names the nearest known one.
    """
    for key in value:
        meant = "" if key in known else did_you_mean(key, known)
        if meant or (closed and key not in known):
            got = f"the key {show(key)}, which the cloud would ignore"
            raise refusal(
                name, value, f"only {', '.join(map(repr, known))}{meant}{or_else}", got=got
            )


def check_callback(name: str, given: Any, argument: str = "context") -> Callable[[Any], Any]:
    """Return the function, or refuse one that cannot be called with one argument.

    Args:
        name: The argument, as the caller of the public function knows it.
        given: The function.
        argument: What the function is called with.

    Raises:
        ArkorUsageError: It is no function, or it takes no or more arguments.
    """
    function: Callable[[Any], Any] = given
    if not callable(function):
        raise refusal(name, function, f"a function of one {argument}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function  # a function written in C may not tell its arguments
    try:
        signature.bind(None)
    except TypeError as error:
        label = getattr(function, "__qualname__", repr(function))
        raise refusal(
            name,
            function,
            f"a function that can be called with one argument, the {argument}",
            got=f"{label}{signature} ({error})",
        ) from None
    return function


def _plain(name: object) -> str:
    return str(name).lower().replace("_", "").replace("-", "")


def _is_scalar(value: object) -> bool:
    return isinstance(value, (bool, int, float, str))


def _holds_numbers(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(each is None or isinstance(each, (int, float)) for each in value)
