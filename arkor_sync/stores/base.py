"""What a cursor store is, and what it keeps of a job. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, Optional, Protocol, Sequence


@dataclasses.dataclass(frozen=True)
class SavedCursor:
    """What a store keeps of one job, so that another process can carry on.

    Attributes:
        acknowledged_id: Id of the last event that the callbacks were done with; the stream is
            resumed after it. None: from the start.
        delivered: How many events that were, so that they are recognised where a server ignores
            the id and sends the whole history.
        opening: Fingerprints of the job's first two events, for the same purpose.
        finished: Whether the terminal event was among them.
        state: What each callback's `state_dict()` returned after that event, by its key.
    """

    acknowledged_id: Optional[str] = None
    delivered: int = 0
    opening: Sequence[str] = ()
    finished: bool = False
    state: Dict[str, Any] = dataclasses.field(default_factory=dict)


class CursorStore(Protocol):
    """Keeps the acknowledged position of jobs, and sees to it that one run follows each.

    `FileCursorStore` is one; anything with these methods will do. A method that fails should raise
    `CursorStoreError`; whatever it raises ends the run and surfaces in `wait()`.
    """

    def load(self, job_id: str) -> SavedCursor:
        """Return what was saved last, or an empty `SavedCursor`. The following thread calls it."""

    def save(self, job_id: str, saved: SavedCursor) -> None:
        """Replace what was saved, atomically. The worker thread calls it after every event."""

    def lease(self, job_id: str) -> Callable[[], None]:
        """Take the job for one run, or raise `LeaseHeldError`; return what gives it back."""
