"""What the reader and the worker ask of the run that owns them. Any thread."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    Union,
)

from arkor_sync.cloud.bodies import ByteStream
from arkor_sync.cloud.transport import Transport
from arkor_sync.stream.batches import Batch, Delivery
from arkor_sync.stream.error_policy import Failure
from arkor_sync.stream.events import RunEnded, RunEvent, TrainingEvent

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob

Event = Union[TrainingEvent, RunEvent]
Handlers = Sequence[Tuple[str, Callable[[Any], Any]]]
"""Callbacks in the order in which they are called, with their names."""


class Record(Protocol):
    """What the events tell of the job. The worker thread alone changes it."""

    def apply(self, event: TrainingEvent) -> None:
        """Bring the job's copy up to date: it has started, or ended."""

    def append(self, event: TrainingEvent) -> None:
        """Keep a log or a checkpoint for the run's history, before its callbacks."""

    def append_logs(self, delivery: Delivery) -> None:
        """Keep plain logs, each from when the delivery has begun with it."""

    def close_logs(self) -> None:
        """Count what was kept last: all that is wanted of it has been delivered."""

    def ended(self, error: Optional[BaseException]) -> RunEnded:
        """Return what the callbacks are told at the end of the run."""

    def context(self, event: Event, attempt: int) -> Any:
        """Build the argument of an event's callbacks."""

    def log_contexts(self, batch: Batch, logs: List[Dict[str, Any]]) -> Iterator[Any]:
        """Build the arguments for plain logs, one after the other."""


class Canceller(Protocol):
    """Cancels the job, where a callback's exception asks for it."""

    def stop(self, reason: str) -> bool:
        """Cancel the job and end the run with a result; False if the job has ended already."""

    def cancel(self) -> None:
        """Ask the cloud to stop the job."""


class Control(Canceller, Protocol):
    """What the worker asks of its run."""

    def redeliver(self) -> None:
        """Have the stream opened again; the channel is being rewound."""

    def finish_stop(self) -> None:
        """Wait for the answer to a `stop` that is under way; raise `Interrupted` if it worked."""

    def ending(self, error: Optional[BaseException]) -> Optional[BaseException]:
        """Return what `wait()` raises, from what the deliveries ended with."""

    def settle(self, error: Optional[BaseException], failure: Optional[Failure]) -> None:
        """Fix the run's outcome: the worker is done."""


class OpenStream(Protocol):
    """Opens the job's event stream after an event."""

    def __call__(
        self, *, transport: Transport, last_event_id: Optional[str], timeout: Tuple[float, float]
    ) -> ByteStream:
        """Return the open stream; raise `CloudApiError` or `ArkorConnectionError`."""


class ReadJob(Protocol):
    """Reads the job's record."""

    def __call__(self, *, transport: Transport) -> TrainingJob:
        """Return it; raise `CloudApiError`, `ResponseError` or `ArkorConnectionError`."""
