"""What a cursor store is, what it keeps of a job, and the JSON of that. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence

from arkor_sync._common.json import dump_json, parse_json
from arkor_sync.errors import CursorStoreError

VERSION = 2  # of what is stored


@dataclasses.dataclass(frozen=True)
class SavedCursor:
    """What a store keeps of one job, so that another process can continue.

    Attributes:
        acknowledged_id: Id of the last event that the callbacks have finished with; the stream is
            resumed after it. None: from the start.
        delivered: How many events that were, from the job's start.
        opening: Fingerprints of the job's first two events. They show whether a server sends the
            whole history again.
        finished: Whether the callbacks have finished with the terminal event.
        state: What each callback's `state_dict()` returned after that event, by the callback's key.
        before_ids: How many of those events came before the first one with an id, without those
            that could not be delivered. So many are skipped of a history in which none has an id.
        after_id: How many of those events came without an id behind `acknowledged_id`, without
            those that could not be delivered.
        latest: Fingerprints: of the first event with `acknowledged_id`, and of the newest of those
            that came behind it, without an id or with the same.
        owner: The process that saved it, as text for people.
        epoch: How many runs have followed the job with this store, this one included. A store that
            serves several machines refuses to replace a higher epoch by a lower one.
    """

    acknowledged_id: Optional[str] = None
    delivered: int = 0
    opening: Sequence[str] = ()
    finished: bool = False
    state: Dict[str, Any] = dataclasses.field(default_factory=dict)
    before_ids: int = 0
    after_id: int = 0
    latest: Sequence[str] = ()
    owner: Optional[str] = None
    epoch: int = 0


class CursorStore(Protocol):
    """Keeps the acknowledged position of jobs, and lets one run at a time follow each job.

    `FileCursorStore` is one; an object with these methods will do. A method that fails should raise
    `CursorStoreError`.
    """

    def load(self, job_id: str) -> SavedCursor:
        """Return what was saved last, or an empty `SavedCursor`.

        It is called on the thread that starts to follow the job.
        """

    def save(self, job_id: str, saved: SavedCursor) -> None:
        """Replace what was saved, atomically.

        It is called on the worker thread, after every event. If it raises, the error policy
        decides, as if the exception were that of a callback `cursor_store`.
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
        "version": VERSION,
        "jobId": job_id,
        "acknowledgedId": saved.acknowledged_id,
        "delivered": saved.delivered,
        "beforeIds": saved.before_ids,
        "afterId": saved.after_id,
        "opening": list(saved.opening),
        "latest": list(saved.latest),
        "finished": saved.finished,
        "owner": saved.owner,
        "epoch": saved.epoch,
        "state": saved.state,
    }
    try:
        return dump_json(fields)
    except (TypeError, ValueError, RecursionError) as error:
        raise CursorStoreError(f"a callback's state_dict() is not JSON: {error}") from error


def decode_cursor(document: bytes) -> SavedCursor:
    """Read what `encode_cursor` returned, in this version or an older one.

    Raises:
        ValueError: It is something else.
        CursorStoreError: A newer version wrote it.
    """
    fields = parse_json(document)
    if not isinstance(fields, dict):
        raise ValueError(f"expected an object, got {fields!r:.40}")
    version = _typed({"version": 1, **fields}, "version", int)
    if version > VERSION:
        raise CursorStoreError(
            f"it is of version {version}, and this arkor_sync reads up to version {VERSION}; "
            "upgrade arkor_sync"
        )
    if version == 1:
        fields = _from_version_1(fields)
    return SavedCursor(
        acknowledged_id=_typed(fields, "acknowledgedId", str, type(None)),
        delivered=_count(fields, "delivered"),
        opening=_texts(fields, "opening"),
        finished=_typed(fields, "finished", bool),
        state=_typed(fields, "state", dict),
        before_ids=_count(fields, "beforeIds"),
        after_id=_count(fields, "afterId"),
        latest=_texts(fields, "latest"),
        owner=_typed(fields, "owner", str, type(None)),
        epoch=_count(fields, "epoch"),
    )


def decode_position(job_id: str, text: Optional[str]) -> SavedCursor:
    """Read what a backend keeps of a job; None is an empty `SavedCursor`.

    Raises:
        CursorStoreError: It cannot be used.
    """
    if text is None:
        return SavedCursor()
    try:
        return decode_cursor(text.encode("utf-8", "surrogatepass"))
    except CursorStoreError as error:
        raise CursorStoreError(f"the position of job {job_id} cannot be used: {error}") from None
    except ValueError as error:
        raise CursorStoreError(
            f"what is stored of job {job_id} is not a saved cursor ({error}); remove its row to "
            "follow from the start"
        ) from error


def _from_version_1(fields: Dict[str, Any]) -> Dict[str, Any]:
    """Add what 0.1 did not write. It counted all events, and had no use for a version."""
    counted = fields.get("delivered") if fields.get("acknowledgedId") is None else 0
    return {"beforeIds": counted, "afterId": 0, "latest": [], "owner": None, "epoch": 0, **fields}


def _typed(fields: Dict[str, Any], key: str, *types: type) -> Any:
    """Return a field of exactly one of these types: `True` is no number."""
    value = fields.get(key, ...)
    if type(value) not in types:
        got = "nothing" if value is ... else f"{value!r:.40}"
        raise ValueError(f"{key}: expected {types[0].__name__}, got {got}")
    return value


def _count(fields: Dict[str, Any], key: str) -> int:
    value: int = _typed(fields, key, int)
    if value < 0:
        raise ValueError(f"{key}: expected 0 or more, got {value}")
    return value


def _texts(fields: Dict[str, Any], key: str) -> List[str]:
    value: List[str] = _typed(fields, key, list)
    if not all(type(each) is str for each in value):
        raise ValueError(f"{key}: expected texts, got {value!r:.40}")
    return value
