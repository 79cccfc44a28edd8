"""What callbacks are called with: one context for each event. Pure.

The worker thread builds them. They may be kept, passed to other threads, and pickled.
"""

from __future__ import annotations

import dataclasses
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    Optional,
    Sequence,
    Union,
    cast,
)

from arkor_sync._log_context import read_when_asked
from arkor_sync.result import Metrics, TrainingResult
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
    from arkor_sync.cloud.chat import ChatResponse
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.run import Run


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


@read_when_asked
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
    adapter = {"kind": "checkpoint", "jobId": job.id, "step": step}
    return CheckpointContext(step, adapter, job, events.items(data.get("artifacts")))


def _completed(data: Dict[str, Any], job: TrainingJob) -> Context:
    metrics = Metrics.from_json(data.get("metrics"))
    return CompletedContext(job, events.items(data.get("artifacts")), metrics)


def _failed(data: Dict[str, Any], job: TrainingJob) -> Context:
    return FailedContext(job, job.error or "", whole(data.get("step")))


_BUILDERS: Dict[str, Callable[[Dict[str, Any], TrainingJob], Context]] = {
    events.STARTED: lambda _, job: StartedContext(job),
    events.LOG: _log,
    events.CHECKPOINT: _checkpoint,
    events.COMPLETED: _completed,
    events.FAILED: _failed,
    events.CANCELLED: lambda _, job: CancelledContext(job),
}
