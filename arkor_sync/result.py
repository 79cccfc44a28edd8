"""What following a run comes to: its result, and its health on the way. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional

from arkor_sync.errors import TrainingCancelledError, TrainingFailedError
from arkor_sync.stream.events import number, whole

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob


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


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a job ended. `wait()` returns it for every terminal status. Any thread may use it.

    Attributes:
        job: The job with its final status, error and times.
        artifacts: What `training.completed` listed (`artifacts`), as it is; empty for any other
            end.
        metrics: Final loss, steps and time (`metrics`); each None where the cloud did not say.
        stop_reason: Why the program itself stopped the job (`StopTraining`, `run.stop`), or None.
    """

    job: TrainingJob
    artifacts: List[Any] = dataclasses.field(default_factory=list, hash=False)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    stop_reason: Optional[str] = None

    @property
    def status(self) -> str:
        """`completed`, `failed` or `cancelled`."""
        return self.job.status

    def raise_for_status(self) -> TrainingResult:
        """Return self if the job completed.

        Raises:
            TrainingFailedError: It failed; the text is the cloud's.
            TrainingCancelledError: It was cancelled.
        """
        if self.status == "failed":
            why = self.job.error or "no reason given"
            raise TrainingFailedError(
                f"job {self.job.id} ({self.job.name}) failed: {why}", self.job
            )
        if self.status == "cancelled":
            why = f": {self.stop_reason}" if self.stop_reason else ""
            raise TrainingCancelledError(
                f"job {self.job.id} ({self.job.name}) was cancelled{why}", self.job
            )
        return self


class RunHealth(NamedTuple):
    """One look at a run that is being followed. Ages are seconds; None means never yet.

    Attributes:
        state: `new`, `connecting`, `streaming`, `backing off` or `ended` (the reader), `stopping`,
            or `settled`.
        last_byte_age: Since the last bytes of the stream, pings included.
        last_event_age: Since the last new event was read.
        last_acknowledged_age: Since the callbacks were last done with an event.
        queue_depth: Events that wait for the worker.
        queue_high_water: The most that ever waited.
        delivered: Events that the callbacks are done with.
        duplicates: Events that came again and were dropped.
        skipped: Events that could not be read, or whose type is unknown.
        given_up: Failures of callbacks that the policy logged away.
        failures: Consecutive failures of the connection.
        reconnects: Connections after the first.
        callback: The callback that is running or awaited, or None.
        callback_age: Since it was called.
        acknowledged_id: The last acknowledged event's id: where a new process would resume.
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
