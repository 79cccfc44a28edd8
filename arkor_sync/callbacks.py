"""What a program hooks into a run: callbacks, their contexts, and who is called for which event.

Every callback runs on the run's worker thread, one at a time, in a copy of the context variables
of the thread that began to follow the run. What it returns is ignored, unless it is a future, a
coroutine or another awaitable: then the next callback waits for it.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
    Union,
    cast,
)

from arkor_sync import events
from arkor_sync.bursts import LogBatch
from arkor_sync.callback_names import CALLBACK_NAMES, unknown_callback
from arkor_sync.errors import ArkorUsageError
from arkor_sync.events import TrainingEvent, number, whole

if TYPE_CHECKING:
    from arkor_sync.chat import ChatResponse
    from arkor_sync.models import TrainingJob
    from arkor_sync.result import TrainingResult
    from arkor_sync.run import Run


METRICS = {
    "step": "step",
    "loss": "loss",
    "eval_loss": "evalLoss",
    "learning_rate": "learningRate",
    "epoch": "epoch",
    "samples_per_second": "samplesPerSecond",
}


class Context:
    """What every context has. The worker thread builds one for each event and hands it over.

    Callbacks of the same event and attempt get the same one. It may be kept, passed to other
    threads, and pickled; the run is then left out.

    Attributes:
        job: The job as of this event: status and times are the event's.
        run: The run; `run.abort()`, `run.stop()` and `run.cancel()` are legal in a callback.
        event: The event as the cloud sent it; its JSON is `event.data`.
        attempt: 1 for the first call for this event, 2 for the first repeat, and so on.
    """

    job: TrainingJob
    run: Run = cast(Any, None)
    event: TrainingEvent = cast(Any, None)
    attempt: int = 1

    def __getstate__(self) -> Dict[str, Any]:
        """Pickle the data; the run belongs to its process."""
        data = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(cast(Any, self))
        }
        return {**data, "event": self.event, "attempt": self.attempt, "run": None}


@dataclasses.dataclass
class StartedContext(Context):
    """The job began to run (`training.started`). `job.started_at` is the event's `timestamp`."""

    job: TrainingJob


@dataclasses.dataclass
class LogContext(Context):
    """Metrics of one step (`training.log`). A metric that the cloud did not send is None.

    Attributes:
        step: The optimiser step (`step`).
        loss: Training loss (`loss`).
        eval_loss: Loss on the held-out split (`evalLoss`).
        learning_rate: (`learningRate`).
        epoch: Passes over the data, fractional (`epoch`).
        samples_per_second: (`samplesPerSecond`).
    """

    step: int
    loss: Optional[float]
    eval_loss: Optional[float]
    learning_rate: Optional[float]
    epoch: Optional[float]
    samples_per_second: Optional[float]
    job: TrainingJob


class _Metric:
    """A metric of a log: read from its fields when it is asked for, unless it was set."""

    def __init__(self, field: str) -> None:
        self._field = field

    def __get__(self, ctx: Any, owner: Any) -> Any:
        if ctx is None:
            return self
        value = ctx._data.get(self._field)
        return value if type(value) is float or type(value) is int else None


class _EventOfLog:
    """The event of a log: built when it is asked for, unless it was set."""

    def __get__(self, ctx: Any, owner: Any) -> Any:
        if ctx is None:
            return None
        batch, index = ctx._source
        ctx.event = event = batch[index]
        return event


for _name, _field in METRICS.items():
    setattr(LogContext, _name, _Metric(_field))
LogContext.event = cast(Any, _EventOfLog())


@dataclasses.dataclass
class CheckpointContext(Context):
    """A checkpoint was saved (`checkpoint.saved`).

    Attributes:
        step: The step that it holds (`step`).
        adapter: The checkpoint as the chat route names it: `{"kind": "checkpoint", "jobId",
            "step"}`.
        artifacts: What the cloud listed (`artifacts`), as it is.
    """

    step: int
    adapter: Dict[str, Any]
    job: TrainingJob
    artifacts: List[Any]

    def infer(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        stream: bool = True,
        temperature: Optional[float] = None,
        top_p: Optional[float] = None,
        max_tokens: Optional[int] = None,
        tools: Optional[Sequence[Mapping[str, Any]]] = None,
        tool_choice: Optional[Union[str, Mapping[str, Any]]] = None,
        response_format: Optional[Mapping[str, Any]] = None,
        structured_outputs: Optional[Mapping[str, Any]] = None,
        timeout: Optional[float] = None,
        extra: Optional[Mapping[str, Any]] = None,
    ) -> ChatResponse:
        """Chat with this checkpoint. It may be kept and called after the callback.

        It runs on the calling thread, is not retried, and asks the cloud anew at each call.

        Args:
            messages: `{"role": ..., "content": ...}`, oldest first.
            stream: Whether the answer comes piece by piece.
            temperature: 0 to 2. What is left out is up to the cloud.
            top_p: 0 to 1 (`topP`).
            max_tokens: The longest answer, in tokens (`maxTokens`).
            tools: Functions that the model may call.
            tool_choice: `"auto"`, `"none"`, `"required"` or a named function (`toolChoice`).
            response_format: Plain text, a JSON object or a JSON schema (`responseFormat`).
            structured_outputs: One constraint: `json`, `regex`, `choice`, `grammar` or
                `json_object` (`structuredOutputs`).
            timeout: Seconds of silence that are allowed; 300 by default.
            extra: More fields of the request, as the wire names them.

        Returns:
            The answer; it holds the raw `requests.Response`.

        Raises:
            ArkorUsageError: The request cannot work; nothing was sent.
            CloudApiError: The cloud refused it.
            ArkorConnectionError: The answer did not come.
        """
        return self.run.client.chat(
            messages,
            adapter=self.adapter,
            stream=stream,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            tools=tools,
            tool_choice=tool_choice,
            response_format=response_format,
            structured_outputs=structured_outputs,
            timeout=timeout,
            extra=extra,
        )


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What the cloud says of a completed training (`metrics`). Each may be None.

    Attributes:
        final_loss: The last training loss (`finalLoss`).
        total_steps: Steps taken (`totalSteps`).
        total_time: Seconds (`totalTime`).
    """

    final_loss: Optional[float] = None
    total_steps: Optional[int] = None
    total_time: Optional[float] = None

    @classmethod
    def from_json(cls, metrics: Any) -> Metrics:
        """Read the `metrics` of a `training.completed`; what is missing or odd is None."""
        data: Dict[str, Any] = metrics if type(metrics) is dict else {}
        return cls(
            final_loss=number(data.get("finalLoss")),
            total_steps=whole(data.get("totalSteps")),
            total_time=number(data.get("totalTime")),
        )


@dataclasses.dataclass
class CompletedContext(Context):
    """The training completed (`training.completed`).

    Attributes:
        artifacts: What the cloud listed (`artifacts`), as it is.
        metrics: Final loss, steps and time (`metrics`).
    """

    job: TrainingJob
    artifacts: List[Any]
    metrics: Metrics


@dataclasses.dataclass
class FailedContext(Context):
    """The training failed (`training.failed`).

    Attributes:
        error: The cloud's text (`error`).
        step: Where it failed (`step`), or None if it had not begun.
    """

    job: TrainingJob
    error: str
    step: Optional[int]


@dataclasses.dataclass
class CancelledContext(Context):
    """The job was cancelled. No event says so; it comes from the job's record.

    `event.synthesized` is true. After `StopTraining` or `run.stop()` it does not come: the run has
    ended by then.
    """

    job: TrainingJob


@dataclasses.dataclass
class ReconnectContext(Context):
    """The event stream was lost, and is opened again after a while. No event says so.

    Attributes:
        error: What went wrong.
        failures: How many times in a row.
        delay: Seconds until the next attempt, from when the stream was lost.
    """

    job: TrainingJob
    error: str
    failures: int
    delay: float


@dataclasses.dataclass
class EndContext(Context):
    """The run is over, and `wait()` is about to return or to raise.

    Attributes:
        result: What `wait()` returns; None where it raises before the cloud told of an end.
        error: What `wait()` raises, or None.
    """

    job: TrainingJob
    result: Optional[TrainingResult]
    error: Optional[BaseException]


def build_context(event: TrainingEvent, attempt: int, job: TrainingJob, run: Run) -> Context:
    """Build the context of one call."""
    ctx = _BUILDERS[event.type](event.data, job)
    ctx.run = run
    ctx.event = event
    ctx.attempt = attempt
    return ctx


def log_contexts(
    batch: LogBatch, fields: List[Dict[str, Any]], job: TrainingJob, run: Run
) -> Iterator[Context]:
    """Build the contexts of many logs, from what `LogBatch.fields` made of them."""
    new = LogContext.__new__
    for index, data in enumerate(fields):
        ctx: Any = new(LogContext)
        ctx.step = data["step"]
        ctx._data = data
        ctx._source = batch, index
        ctx.job = job
        ctx.run = run
        yield ctx


def _log(data: Dict[str, Any], job: TrainingJob) -> Context:
    ctx: Any = LogContext.__new__(LogContext)
    ctx._data = data
    ctx.job = job
    return cast(Context, ctx)


def _checkpoint(data: Dict[str, Any], job: TrainingJob) -> Context:
    step = data["step"]
    adapter = {"kind": "checkpoint", "jobId": job.id, "step": step}
    return CheckpointContext(step, adapter, job, events.items(data.get("artifacts")))


def _completed(data: Dict[str, Any], job: TrainingJob) -> Context:
    metrics = Metrics.from_json(data.get("metrics"))
    return CompletedContext(job, events.items(data.get("artifacts")), metrics)


def _lost(data: Dict[str, Any], job: TrainingJob) -> Context:
    return ReconnectContext(job, data["error"], data["failures"], data["delay"])


def _ended(data: Dict[str, Any], job: TrainingJob) -> Context:
    return EndContext(job, data["result"], data["error"])


def _failed(data: Dict[str, Any], job: TrainingJob) -> Context:
    return FailedContext(job, job.error or "", whole(data.get("step")))


_BUILDERS: Dict[str, Callable[[Dict[str, Any], TrainingJob], Context]] = {
    events.STARTED: lambda _, job: StartedContext(job),
    events.LOG: _log,
    events.CHECKPOINT: _checkpoint,
    events.COMPLETED: _completed,
    events.FAILED: _failed,
    events.CANCELLED: lambda _, job: CancelledContext(job),
    events.LOST: _lost,
    events.ENDED: _ended,
}


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
