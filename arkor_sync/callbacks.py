"""What a program hooks into a run: callbacks, their contexts, and who is called for which event.

Every callback runs on the run's worker thread, one at a time, in a copy of the context variables
of the thread that began to follow the run. What it returns is ignored, unless it is a future, a
coroutine or another awaitable: then the next callback waits for it.
"""

from __future__ import annotations

import inspect
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NoReturn,
    Optional,
    Tuple,
    Union,
)

from arkor_sync.contexts import (
    CancelledContext,
    CheckpointContext,
    CompletedContext,
    EndContext,
    FailedContext,
    LogContext,
    ReconnectContext,
    StartedContext,
)
from arkor_sync.errors import ArkorUsageError
from arkor_sync.stream.callback_names import CALLBACK_NAMES, unknown_callback

if TYPE_CHECKING:
    pass


class Callback:
    """Base class of callbacks that are objects. Override what you need; the rest costs nothing.

    The methods run on the run's worker thread, one at a time, and take one context each. What they
    return is ignored, unless it can be awaited; what they raise is the error policy's business.

    A callback that also has `state_dict()` and `load_state_dict(state)` keeps its state, which must
    be JSON, in the run's cursor store: saved together with the position, and given back before the
    first call when another process carries on. `state_key` names it there; by default the class.
    """

    def on_started(self, ctx: StartedContext) -> Any:
        """The job began to run."""

    def on_log(self, ctx: LogContext) -> Any:
        """Metrics of one step came."""

    def on_checkpoint(self, ctx: CheckpointContext) -> Any:
        """A checkpoint was saved; `ctx.infer` chats with it."""

    def on_completed(self, ctx: CompletedContext) -> Any:
        """The training completed."""

    def on_failed(self, ctx: FailedContext) -> Any:
        """The training failed."""

    def on_cancelled(self, ctx: CancelledContext) -> Any:
        """The job was cancelled."""

    def on_reconnect(self, ctx: ReconnectContext) -> Any:
        """The event stream was lost, and is opened again."""

    def on_end(self, ctx: EndContext) -> Any:
        """The run is over, however it ended; `wait()` returns after this."""


class Callbacks:
    """Callbacks from plain functions. Each takes one context.

    They run on the run's worker thread, one at a time; see `Callback`.

    Args:
        on_started: Called when the job begins to run (`training.started`).
        on_log: Called with the metrics of a step (`training.log`).
        on_checkpoint: Called when a checkpoint was saved (`checkpoint.saved`).
        on_completed: Called when the training completed (`training.completed`).
        on_failed: Called when the training failed (`training.failed`).
        on_cancelled: Called when the job's record says that it was cancelled.
        on_reconnect: Called when the event stream was lost and is to be opened again; where that
            happens several times while another callback runs, once, with the last.
        on_end: Called last, however the run ended, before `wait()` returns. Nothing that it
            returns is awaited once the run was aborted.

    Raises:
        ArkorUsageError: A name that does not exist, or something that cannot be called with one
            argument. It is also a `ValueError`.
    """

    def __init__(
        self,
        *,
        on_started: Optional[Callable[[StartedContext], Any]] = None,
        on_log: Optional[Callable[[LogContext], Any]] = None,
        on_checkpoint: Optional[Callable[[CheckpointContext], Any]] = None,
        on_completed: Optional[Callable[[CompletedContext], Any]] = None,
        on_failed: Optional[Callable[[FailedContext], Any]] = None,
        on_cancelled: Optional[Callable[[CancelledContext], Any]] = None,
        on_reconnect: Optional[Callable[[ReconnectContext], Any]] = None,
        on_end: Optional[Callable[[EndContext], Any]] = None,
        **unknown: NoReturn,
    ) -> None:
        for name in unknown:
            raise unknown_callback(name)
        given = {
            "on_started": on_started,
            "on_log": on_log,
            "on_checkpoint": on_checkpoint,
            "on_completed": on_completed,
            "on_failed": on_failed,
            "on_cancelled": on_cancelled,
            "on_reconnect": on_reconnect,
            "on_end": on_end,
        }
        self.functions: Dict[str, Callable[[Any], Any]] = {
            name: check_callable(name, function)
            for name, function in given.items()
            if function is not None
        }

    def __repr__(self) -> str:
        return f"Callbacks({', '.join(self.functions)})"


# An iterator is none of them: it would be used up where it is checked.
CallbacksInput = Union[None, Callback, Callbacks, Mapping[str, Callable[[Any], Any]], Iterable[Any]]


HandlerTable = Dict[str, List[Tuple[str, Callable[[Any], Any]]]]


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
            yield name, check_callable(name, function)
    else:
        raise ArkorUsageError(
            "callbacks must be Callbacks(on_log=...), a Callback object, a dict of functions "
            f"or a list of these, not {callbacks!r:.80}"
        )


def _overridden(callback: Callback) -> Iterable[Tuple[str, Callable[[Any], Any]]]:
    for name in dir(type(callback)):
        if name.startswith("on_") and name not in CALLBACK_NAMES:
            raise unknown_callback(name)
    for name in CALLBACK_NAMES:
        method = getattr(callback, name)
        if getattr(method, "__func__", method) is not getattr(Callback, name):
            yield name, check_callable(name, method)


def check_callable(name: str, given: Any) -> Callable[[Any], Any]:
    """Return the function, or say why it cannot be called with one context."""
    function: Callable[[Any], Any] = given
    if not callable(function):
        raise ArkorUsageError(f"{name} must be a function of one context, not {function!r:.80}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function  # written in C: it says nothing about its arguments
    try:
        signature.bind(None)
    except TypeError as error:
        label = getattr(function, "__qualname__", repr(function))
        raise ArkorUsageError(
            f"{name} is called with one argument, the context; {label}{signature} cannot be: "
            f"{error}"
        ) from None
    return function


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
