"""The result of a run, and its state while it goes on. Pure."""

# Without the future import of annotations: pdoc cannot read those of a NamedTuple as texts.
import dataclasses
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Dict,
    List,
    Literal,
    NamedTuple,
    Optional,
    Tuple,
    TypedDict,
    Union,
)

from arkor_sync._common.text import safe_line, safe_text
from arkor_sync._inference import Inference, final_or_checkpoint, no_client
from arkor_sync.errors import ArkorUsageError, TrainingCancelledError, TrainingFailedError
from arkor_sync.stream.events import number, whole

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.history import History

_MAX_LINE = 500  # columns


class Artifact(TypedDict, total=False):
    """A file of a model, as the cloud names it: an object of an `artifacts` list, unchanged.

    What the cloud sends is not documented. These are the keys that were seen, none of them in all
    artifacts; others may come. To chat with a model, `infer` needs no artifact.

    Attributes:
        pathname: The name of the file, such as `adapter.json`.
        type: The kind of the artifact, such as `local-adapter`.
        path: Where it is, where it has a kind.
    """

    pathname: str
    type: str
    path: str


# An editor suggests what is known; a type checker takes them for texts.
FinalStatus = Union[Literal["completed", "failed", "cancelled"], str]
RunState = Union[
    Literal["new", "connecting", "streaming", "backing off", "ended", "stopping", "settled"], str
]


@dataclasses.dataclass(frozen=True)
class Metrics:
    """The metrics of a completed training (`metrics`). One that the cloud did not send is None.

    Attributes:
        final_loss: The last training loss (`finalLoss`).
        total_steps: The number of steps (`totalSteps`).
        total_time: How long it took, in seconds (`totalTime`).
    """

    final_loss: Optional[float] = None
    total_steps: Optional[int] = None
    total_time: Optional[float] = None

    @classmethod
    def from_json(cls, metrics: Any) -> "Metrics":
        """Read the `metrics` of a `training.completed`. What is missing or no number is None."""
        data: Dict[str, Any] = metrics if type(metrics) is dict else {}
        return cls(
            final_loss=number(data.get("finalLoss")),
            total_steps=whole(data.get("totalSteps")),
            total_time=number(data.get("totalTime")),
        )


@dataclasses.dataclass(frozen=True)
class TrainingResult(Inference):
    """How a job has ended. `wait()` returns it for every terminal status. Any thread may use it.

    `infer` chats with the final model of a job that has completed, or with a checkpoint. A copy
    (pickled, or made by `copy`) has neither the client nor the history that the result has.

    Attributes:
        job: The job with its final status, error and times.
        artifacts: The list of `training.completed` (`artifacts`), unchanged. It is empty if the job
            has not completed.
        metrics: The final loss, the number of steps and the time (`metrics`).
        stop_reason: The reason that the program gave to `StopTraining` or `run.stop`, or None.
    """

    job: "TrainingJob"
    artifacts: List[Artifact] = dataclasses.field(default_factory=list, hash=False)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    stop_reason: Optional[str] = None

    # No fields: `dataclasses.asdict`, `repr` and comparisons are about the values alone.
    _source: ClassVar[Optional[Tuple["CloudApiClient", "History"]]] = None

    def _of_run(self, client: "CloudApiClient", history: "History") -> "TrainingResult":
        """Say whose result it is; return self."""
        object.__setattr__(self, "_source", (client, history))
        return self

    def __getstate__(self) -> Dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _client_and_adapter(self, step: Optional[int]) -> Tuple["CloudApiClient", Dict[str, Any]]:
        if self._source is None:
            raise no_client("result", self.job, step)
        client, history = self._source
        return client, final_or_checkpoint(self.job, step, history.checkpoints)

    @property
    def history(self) -> "History":
        """The metrics and checkpoints of the run: `run.history`, which stays in memory with this.

        Raises:
            ArkorUsageError: The result is a copy, which has none.
        """
        if self._source is None:
            raise ArkorUsageError(
                "this result is a copy (it was unpickled, for instance), and a copy has no "
                "history; take what you need before, with result.history.to_dicts()"
            )
        return self._source[1]

    @property
    def status(self) -> FinalStatus:
        """`completed`, `failed` or `cancelled`."""
        return self.job.status

    def raise_for_status(self) -> "TrainingResult":
        """Return self if the job completed.

        Raises:
            TrainingFailedError: The job failed. The text holds the reason that the cloud gave.
            TrainingCancelledError: The job was cancelled.
        """
        if self.status == "failed":
            why = safe_text(self.job.error or "no reason given")
            raise TrainingFailedError(f"{self._name} failed: {why}", self.job)
        if self.status == "cancelled":
            why = f": {self.stop_reason}" if self.stop_reason else ""
            raise TrainingCancelledError(f"{self._name} was cancelled{safe_text(why)}", self.job)
        return self

    def _repr_html_(self) -> str:
        """Show the result in a notebook, with the curve of the run; a copy has no curve."""
        from arkor_sync.render.html import run_html  # only for notebooks

        if self._source is None:
            return run_html(self.job, self)
        return run_html(self.job, self, None, self.history.logs, self.history.checkpoints)

    def __str__(self) -> str:
        """Say how it ended, on one line: `job 1 (night) completed: final loss 0.42, 100 steps`."""
        from arkor_sync.render.outcome import describe_outcome, shorten_reason
        from arkor_sync.render.text import format_number, one_line

        status, reason = describe_outcome(self.job, self, None)
        loss, steps = self.metrics.final_loss, self.metrics.total_steps
        facts = [
            "" if loss is None else f"final loss {format_number(loss)}",
            "" if steps is None else f"{steps} steps",
        ]
        told = shorten_reason(reason) or ", ".join(filter(None, facts))
        return one_line(f"{self._name} {status}{told and ': '}{told}", _MAX_LINE)

    @property
    def _name(self) -> str:
        return f"job {safe_line(self.job.id)} ({safe_line(self.job.name)})"


class RunHealth(NamedTuple):
    """The state of a run at one moment.

    An age is in seconds. It is None if the thing has not happened yet.

    Attributes:
        state: What the reader does: `new`, `connecting`, `streaming`, `backing off` or `ended`.
            Or `stopping` after an abort, or `settled` once the run is over.
        last_byte_age: The age of the last bytes of the stream, pings included.
        last_event_age: The age of the last new event that was read.
        last_acknowledged_age: The age of the last event that was acknowledged.
        queue_depth: The number of events that wait for the worker.
        queue_high_water: The most events that have waited at one time.
        delivered: The number of events whose callbacks are done.
        duplicates: The number of events that came again and were dropped.
        skipped: The number of events that could not be read, or whose type is unknown.
        given_up: The number of callback errors that were logged and then ignored.
        failures: How many connections have failed in a row.
        reconnects: The number of connections after the first one.
        callback: The name of the callback that runs or is awaited, or None.
        callback_age: The age of its call.
        acknowledged_id: The id of the last acknowledged event. A new process would continue there.
        retry_in: The seconds until the stream is opened again, while it is `backing off`.
        step: The step of the event that was delivered last, or is being delivered. None if that
            event has none.
    """

    state: RunState
    last_byte_age: Optional[float]
    last_event_age: Optional[float]
    last_acknowledged_age: Optional[float]
    queue_depth: int
    queue_high_water: int
    delivered: int
    duplicates: int
    skipped: int
    given_up: int
    failures: int
    reconnects: int
    callback: Optional[str]
    callback_age: Optional[float]
    acknowledged_id: Optional[str]
    retry_in: Optional[float] = None
    step: Optional[int] = None
