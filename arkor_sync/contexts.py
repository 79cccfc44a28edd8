"""The callbacks, and the context that each is called with. Pure.

The table of callbacks is `CALLBACK_NAMES` of `arkor_sync.stream.events`. What only a declaration
can give an exact type is declared here, for each callback: its context, the decorator of `Trainer`,
the method of `Callback` and the argument of `Callbacks`.
"""

from __future__ import annotations

import dataclasses
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    List,
    NoReturn,
    Optional,
    Tuple,
    TypeVar,
    Union,
    cast,
)

from arkor_sync._common.arguments import check_callback
from arkor_sync._inference import Inference, no_client
from arkor_sync._log_context import read_when_asked
from arkor_sync.cloud.chat_request import adapter_of
from arkor_sync.result import Artifact, Metrics, TrainingResult
from arkor_sync.stream import events
from arkor_sync.stream.events import (
    METRICS,
    RunEnded,
    RunEvent,
    StreamLost,
    TrainingEvent,
    number,
    whole,
)

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.run import Run


class Context:
    """What every context has. The worker thread builds one for each event.

    All callbacks of one event and attempt get the same context. It may be kept, passed to other
    threads, and pickled. A pickled context has no run.

    Attributes:
        job: The job as of this event, with the status and the times that the event tells.
        run: The run. A callback may call `run.abort()`, `run.stop()` and `run.cancel()`.
        event: The event as the cloud sent it. `event.data` is its JSON.
        attempt: 1 for the first call for this event, 2 for the first repeat, and so on.
    """

    job: TrainingJob
    run: Run = cast(Any, None)
    event: TrainingEvent = cast(Any, None)
    attempt: int = 1

    def __getstate__(self) -> Dict[str, Any]:
        """Pickle everything but the run, which belongs to this process."""
        data = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(cast(Any, self))
        }
        return {**data, "event": self.event, "attempt": self.attempt, "run": None}


@dataclasses.dataclass
class StartedContext(Context):
    """The job has started to run (`training.started`).

    `job.started_at` is the `timestamp` of the event.
    """

    job: TrainingJob


@read_when_asked
@dataclasses.dataclass
class LogContext(Context):
    """The metrics of one step (`training.log`). A metric that the cloud did not send is None.

    Attributes:
        step: The number of the optimiser step (`step`).
        loss: The training loss (`loss`).
        eval_loss: The loss on the held-out split (`evalLoss`).
        learning_rate: The learning rate (`learningRate`).
        epoch: Passes over the data so far, with a fraction (`epoch`).
        samples_per_second: The speed of the training (`samplesPerSecond`).
    """

    step: int
    loss: Optional[float]
    eval_loss: Optional[float]
    learning_rate: Optional[float]
    epoch: Optional[float]
    samples_per_second: Optional[float]
    job: TrainingJob


@dataclasses.dataclass
class CheckpointContext(Context, Inference):
    """A checkpoint was saved (`checkpoint.saved`). `infer` chats with it, also after the callback.

    Attributes:
        step: The step at which it was saved (`step`).
        adapter: The checkpoint in the form that the chat route takes: `{"kind": "checkpoint",
            "jobId": ..., "step": ...}`.
        artifacts: The list that the cloud sent (`artifacts`), unchanged.
    """

    step: int
    adapter: Dict[str, Any]
    job: TrainingJob
    artifacts: List[Artifact]

    def _client_and_adapter(self, step: Optional[int]) -> Tuple[CloudApiClient, Dict[str, Any]]:
        run: Optional[Run] = self.run
        if run is None:
            raise no_client("context", self.job, self.step if step is None else step)
        return run.client, self.adapter if step is None else adapter_of(self.job, step)


@dataclasses.dataclass
class CompletedContext(Context):
    """The training completed (`training.completed`).

    Attributes:
        artifacts: The list that the cloud sent (`artifacts`), unchanged.
        metrics: The final loss, the number of steps and the time (`metrics`).
    """

    job: TrainingJob
    artifacts: List[Artifact]
    metrics: Metrics


@dataclasses.dataclass
class FailedContext(Context):
    """The training failed (`training.failed`).

    Attributes:
        error: The reason that the cloud gave (`error`).
        step: The step at which it failed (`step`); None if it failed before the first step.
    """

    job: TrainingJob
    error: str
    step: Optional[int]


@dataclasses.dataclass
class CancelledContext(Context):
    """The job was cancelled.

    The stream has no such event. It is built from the job's record, and `event.synthesized` is
    true. After `StopTraining` or `run.stop()` there is none, because the run ends at once.
    """

    job: TrainingJob


@dataclasses.dataclass
class ReconnectContext(Context):
    """The event stream was lost, and will be opened again.

    The run tells this itself; the cloud sends no such event.

    Attributes:
        error: Why it was lost, as a text.
        failures: How many attempts have failed in a row.
        delay: Seconds from the loss to the next attempt.
    """

    job: TrainingJob
    error: str
    failures: int
    delay: float


@dataclasses.dataclass
class EndContext(Context):
    """The run is over, and `wait()` is about to return or to raise.

    The run tells this itself; the cloud sends no such event.

    Attributes:
        result: What `wait()` will return, or None if it will raise.
        error: What `wait()` will raise, or None.
    """

    job: TrainingJob
    result: Optional[TrainingResult]
    error: Optional[BaseException]


StartedFunction = TypeVar("StartedFunction", bound=Callable[[StartedContext], Any])
LogFunction = TypeVar("LogFunction", bound=Callable[[LogContext], Any])
CheckpointFunction = TypeVar("CheckpointFunction", bound=Callable[[CheckpointContext], Any])
CompletedFunction = TypeVar("CompletedFunction", bound=Callable[[CompletedContext], Any])
FailedFunction = TypeVar("FailedFunction", bound=Callable[[FailedContext], Any])
CancelledFunction = TypeVar("CancelledFunction", bound=Callable[[CancelledContext], Any])
ReconnectFunction = TypeVar("ReconnectFunction", bound=Callable[[ReconnectContext], Any])
EndFunction = TypeVar("EndFunction", bound=Callable[[EndContext], Any])


if TYPE_CHECKING:

    class _TrainerDecorators:
        """The types of the decorators of `Trainer`, which `decorator` of `callbacks` makes."""

        def on_started(self, function: StartedFunction) -> StartedFunction: ...
        def on_log(self, function: LogFunction) -> LogFunction: ...
        def on_checkpoint(self, function: CheckpointFunction) -> CheckpointFunction: ...
        def on_completed(self, function: CompletedFunction) -> CompletedFunction: ...
        def on_failed(self, function: FailedFunction) -> FailedFunction: ...
        def on_cancelled(self, function: CancelledFunction) -> CancelledFunction: ...
        def on_reconnect(self, function: ReconnectFunction) -> ReconnectFunction: ...
        def on_end(self, function: EndFunction) -> EndFunction: ...

else:
    _TrainerDecorators = object


class Callback:
    """Base class of callbacks that are objects. Override the methods that you need.

    The methods run on the run's worker thread, one at a time, in a copy of the context variables of
    the thread that started the run. Each takes one context. What it returns is ignored, unless it
    can be awaited: then the next callback waits for it. What it raises is handled by the error
    policy.

    A callback with the methods `state_dict()` and `load_state_dict(state)` has its state, which
    must be JSON, saved in the run's cursor store together with the position. Another process that
    follows the job from there loads the state before the first call. `state_key` is its key in the
    store; the default is the name of the class.
    """

    def on_started(self, ctx: StartedContext) -> Any:
        """Called when the job has started to run (`training.started`)."""

    def on_log(self, ctx: LogContext) -> Any:
        """Called with the metrics of one step (`training.log`)."""

    def on_checkpoint(self, ctx: CheckpointContext) -> Any:
        """Called when a checkpoint was saved (`checkpoint.saved`). `ctx.infer` chats with it."""

    def on_completed(self, ctx: CompletedContext) -> Any:
        """Called when the training has completed (`training.completed`)."""

    def on_failed(self, ctx: FailedContext) -> Any:
        """Called when the training has failed (`training.failed`)."""

    def on_cancelled(self, ctx: CancelledContext) -> Any:
        """Called when the job's record says that the job was cancelled."""

    def on_reconnect(self, ctx: ReconnectContext) -> Any:
        """Called when the event stream was lost and will be opened again.

        If the stream is lost several times while another callback runs, it is called once, for the
        last time.
        """

    def on_end(self, ctx: EndContext) -> Any:
        """Called last, however the run has ended, before `wait()` returns.

        After an abort, what it returns is not awaited.
        """


class Callbacks:
    """Callbacks from plain functions.

    Each argument is a function of one context, and is called as the method of `Callback` with the
    same name would be.

    Raises:
        ArkorUsageError: There is no such name, or the value cannot be called with one argument. It
            is also a `ValueError`.
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
        given = locals()  # the arguments by name
        for name in unknown:
            raise events.unknown_callback(name)
        self.functions: Dict[str, Callable[[Any], Any]] = {
            name: check_callback(name, given[name])
            for name in events.CALLBACK_NAMES
            if given[name] is not None
        }

    def __repr__(self) -> str:
        return f"Callbacks({', '.join(self.functions)})"


def build_context(
    event: Union[TrainingEvent, RunEvent], attempt: int, job: TrainingJob, run: Run
) -> Context:
    """Build the context of one call."""
    if isinstance(event, StreamLost):
        ctx: Context = ReconnectContext(job, event.error, event.failures, event.delay)
    elif isinstance(event, RunEnded):
        ctx = EndContext(job, event.result, event.error)
    else:
        ctx = _BUILDERS[event.type](event.data, job)
    ctx.run = run
    ctx.event = cast(Any, event)
    ctx.attempt = attempt
    return ctx


def _log(data: Dict[str, Any], job: TrainingJob) -> Context:
    metrics = {name: number(data.get(field)) for name, field in METRICS.items()}
    return LogContext(**{**metrics, "step": data["step"]}, job=job)


def _checkpoint(data: Dict[str, Any], job: TrainingJob) -> Context:
    step = data["step"]
    artifacts = events.items(data.get("artifacts"))
    return CheckpointContext(step, adapter_of(job, step), job, artifacts)


_BUILDERS: Dict[str, Callable[[Dict[str, Any], TrainingJob], Context]] = {
    events.STARTED: lambda _, job: StartedContext(job),
    events.LOG: _log,
    events.CHECKPOINT: _checkpoint,
    events.COMPLETED: lambda data, job: CompletedContext(
        job, events.items(data.get("artifacts")), Metrics.from_json(data.get("metrics"))
    ),
    events.FAILED: lambda data, job: FailedContext(job, job.error or "", whole(data.get("step"))),
    events.CANCELLED: lambda _, job: CancelledContext(job),
}
