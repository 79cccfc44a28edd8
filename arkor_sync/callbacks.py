"""The forms in which callbacks may be given, and who is called for which event. Pure."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple, Union

from arkor_sync._common.arguments import check_callback, refusal
from arkor_sync.contexts import Callback, Callbacks
from arkor_sync.stream.events import CALLBACK_NAMES, unknown_callback

__all__ = [
    "Callback",
    "Callbacks",
    "CallbacksInput",
    "HandlerTable",
    "decorator",
    "flatten",
    "handler_table",
]

_One = Union[None, Callback, Callbacks, Mapping[str, Callable[[Any], Any]]]
_OneOrMore = Union[_One, Sequence[_One]]
# Any nesting works; a type checker allows two levels. A type that contains itself would allow a
# str, and with Iterable mypy cannot tell the type of a dict of functions.
CallbacksInput = Union[_One, Sequence[_OneOrMore], Iterator[_OneOrMore]]

HandlerTable = Dict[str, List[Tuple[str, Callable[[Any], Any]]]]


def decorator(name: str) -> Callable[[Any, Any], Any]:
    """Make the method of `Trainer` that adds a callback of this name."""

    def decorate(self: Any, function: Any) -> Any:
        return self._add(name, function)

    decorate.__name__, decorate.__qualname__ = name, f"Trainer.{name}"
    decorate.__doc__ = f"""Add an `{name}` callback: a decorator. See `Callback.{name}`.

        It is called after the callbacks that were given before it.

        Raises:
            ArkorUsageError: The run has started, or the function cannot take one context.
        """
    return decorate


def flatten(callbacks: CallbacksInput) -> Tuple[Any, ...]:
    """List callbacks that may be nested, and may come from an iterator."""
    if isinstance(callbacks, Iterable) and not isinstance(callbacks, (Mapping, str, bytes)):
        return tuple(each for group in callbacks for each in flatten(group))
    return () if callbacks is None else (callbacks,)


def handler_table(callbacks: CallbacksInput) -> HandlerTable:
    """Sort callbacks by event type, in the order in which they were given.

    Args:
        callbacks: `Callbacks`, a `Callback`, a mapping of names to functions, or a list of these.

    Returns:
        For each event type, the `(name, function)` pairs to call.
    """
    table: HandlerTable = {}
    pairs = (pair for each in flatten(callbacks) for pair in _pairs(each))
    for name, function in pairs:
        table.setdefault(CALLBACK_NAMES[name], []).append((name, function))
    return table


def _pairs(callbacks: Any) -> Iterable[Tuple[str, Callable[[Any], Any]]]:
    if isinstance(callbacks, Callbacks):
        yield from callbacks.functions.items()
    elif isinstance(callbacks, Callback):
        yield from _overridden(callbacks)
    elif isinstance(callbacks, Mapping):
        for name, function in callbacks.items():
            if name not in CALLBACK_NAMES:
                raise unknown_callback(name)
            yield name, check_callback(name, function)
    else:
        raise refusal(
            "callbacks",
            callbacks,
            "Callbacks(on_log=...), a Callback object, a dict of functions or a list of these",
        )


def _overridden(callback: Callback) -> Iterable[Tuple[str, Callable[[Any], Any]]]:
    for name in dir(type(callback)):
        if name.startswith("on_") and name not in CALLBACK_NAMES:
            raise unknown_callback(name)
    for name in CALLBACK_NAMES:
        method = getattr(callback, name)
        if getattr(method, "__func__", method) is not getattr(Callback, name):
            yield name, check_callback(name, method)


def stateful(callbacks: CallbacksInput) -> Dict[str, Any]:
    """Find the callbacks that keep state across processes: `state_dict` and `load_state_dict`.

    Args:
        callbacks: As for `handler_table`.

    Returns:
        Them by their `state_key`, or by their class's name, numbered where it comes again.
    """
    found: Dict[str, Any] = {}
    for callback in flatten(callbacks):
        if hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict"):
            base = key = str(getattr(callback, "state_key", type(callback).__qualname__))
            while key in found:
                key = f"{base}#{len(found) + 1}"
            found[key] = callback
    return found
