"""The result of a run, and its state while it goes on. Pure."""

# Without the future import of annotations: pdoc cannot read those of a NamedTuple as texts.
import dataclasses
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional

from arkor_sync._common.text import safe_line, safe_text
from arkor_sync.errors import TrainingCancelledError, TrainingFailedError
from arkor_sync.stream.events import number, whole

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob


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
class TrainingResult:
    """How a job has ended. `wait()` returns it for every terminal status. Any thread may use it.

    Attributes:
        job: The job with its final status, error and times.
        artifacts: The list of `training.completed` (`artifacts`), unchanged. It is empty if the job
            has not completed.
        metrics: The final loss, the number of steps and the time (`metrics`).
        stop_reason: The reason that the program gave to `StopTraining` or `run.stop`, or None.
    """

    job: "TrainingJob"
    artifacts: List[Any] = dataclasses.field(default_factory=list, hash=False)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    stop_reason: Optional[str] = None

    @property
    def status(self) -> str:
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
        """Show the result in a notebook."""
        from arkor_sync.render.html import run_html  # only for notebooks

        return run_html(self.job, self)

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
    """

    state: str
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
