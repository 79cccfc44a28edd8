"""What a cursor store is, what it keeps of a job, and the JSON of that. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, Optional, Protocol, Sequence

from arkor_sync._common.json import dump_json, parse_json
from arkor_sync.errors import CursorStoreError


@dataclasses.dataclass(frozen=True)
class SavedCursor:
    """What a store keeps of one job, so that another process can continue.

    Attributes:
        acknowledged_id: Id of the last event that the callbacks have finished with; the stream is
            resumed after it. None: from the start.
        delivered: How many events the callbacks have finished with. A server that ignores the id
            sends the whole history, and so many of its events are skipped.
        opening: Fingerprints of the job's first two events. They show whether a server has sent
            the whole history.
        finished: Whether the callbacks have finished with the terminal event.
        state: What each callback's `state_dict()` returned after that event, by the callback's key.
    """

    acknowledged_id: Optional[str] = None
    delivered: int = 0
    opening: Sequence[str] = ()
    finished: bool = False
    state: Dict[str, Any] = dataclasses.field(default_factory=dict)


class CursorStore(Protocol):
    """Keeps the acknowledged position of jobs, and lets one run at a time follow each job.

    `FileCursorStore` is one; an object with these methods will do. A method that fails should raise
    `CursorStoreError`; whatever it raises ends the run, and `wait()` raises it.
    """

    def load(self, job_id: str) -> SavedCursor:
        """Return what was saved last, or an empty `SavedCursor`.

        It is called on the thread that starts to follow the job.
        """

    def save(self, job_id: str, saved: SavedCursor) -> None:
        """Replace what was saved, atomically.

        It is called on the worker thread, after every event.
        """

    def lease(self, job_id: str) -> Callable[[], None]:
        """Reserve the job for one run, and return the function that ends the reservation.

        It is called on the thread that starts to follow the job. What it returns is called when
        the run ends, on any thread, but only in the process that reserved the job: a reservation
        outlives a fork. Where a forked child inherits what holds it, such as an open file, the
        store has to close the child's copy (`os.register_at_fork`). If it raises, that is logged.

        Raises:
            LeaseHeldError: Another run has reserved the job.
        """


def encode_cursor(job_id: str, saved: SavedCursor) -> str:
    """Return the JSON text that a store keeps.

    Raises:
        CursorStoreError: The state of a callback cannot be written as JSON.
    """
    fields = {
        "jobId": job_id,
        "acknowledgedId": saved.acknowledged_id,
        "delivered": saved.delivered,
        "opening": list(saved.opening),
        "finished": saved.finished,
        "state": saved.state,
    }
    try:
        return dump_json(fields)
    except (TypeError, ValueError) as error:
        raise CursorStoreError(f"a callback's state_dict() is not JSON: {error}") from error


def decode_cursor(document: bytes) -> SavedCursor:
    """Read what `encode_cursor` returned.

    Raises:
        ValueError: It is something else.
    """
    fields = parse_json(document)
    if not isinstance(fields, dict):
        raise ValueError(f"expected an object, got {fields!r:.40}")
    return SavedCursor(
        acknowledged_id=_typed(fields, "acknowledgedId", str, type(None)),
        delivered=_typed(fields, "delivered", int),
        opening=_typed(fields, "opening", list),
        finished=_typed(fields, "finished", bool),
        state=_typed(fields, "state", dict),
    )


def _typed(fields: Dict[str, Any], key: str, *types: type) -> Any:
    """Return a field of exactly one of these types: `True` is no number."""
    value = fields.get(key, ...)
    if type(value) not in types:
        got = "nothing" if value is ... else f"{value!r:.40}"
        raise ValueError(f"{key}: expected {types[0].__name__}, got {got}")
    return value
