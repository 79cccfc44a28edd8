"""The two positions in a job's event stream, and which events have been seen. Pure.

The channel's lock guards it, except for `acknowledge`: only the worker calls that, without a lock.

The *read* position is the last event put on the channel: where a broken connection resumes. The
*acknowledged* position is the last event that the callbacks are done with: where a redelivery
begins, and the only position that may outlive the process.
"""

from __future__ import annotations

import hashlib
from typing import Dict, List, Optional, Sequence, Set, Tuple

from arkor_sync.stores.base import SavedCursor
from arkor_sync.stream.batches import Batch, EventBatch, id_order
from arkor_sync.stream.events import TrainingEvent

_OPENING = 2
REMEMBERED = 10_000  # at least so many events are recognised when they come again
_MAX_LATER = 4 << 20  # characters of batches that wait for their keys


def _fingerprint(event: TrainingEvent) -> str:
    """Tell events apart across processes. `key` is faster, but only within one."""
    text = f"{event.id!r} {event.type!r} {event.timestamp!r} {event.step!r}"
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


class _Generation:
    """Accepted events by their keys, each with the number of the connection that brought it.

    Attributes:
        begins: How many events had been accepted before its first one.
        size: How many it has.
    """

    def __init__(self, begins: int) -> None:
        self.begins = begins
        self.size = 0
        self._keys: Dict[int, int] = {}
        # Batches whose keys are made when one of their ids comes again, which may be never.
        self._later: List[Tuple[int, Batch]] = []
        self._later_size = 0
        self._ids: Set[Optional[str]] = set()  # of those batches that were looked through
        self._looked_through = 0

    def add(self, batch: Batch, connection: int) -> None:
        self.size += len(batch)
        if batch.keys_are_known:
            self._keys.update(dict.fromkeys(batch.keys(), connection))
        else:
            self._later.append((connection, batch))
            self._later_size += batch.size
            if self._later_size > _MAX_LATER:
                self._make_keys()

    def find(self, event: TrainingEvent) -> Optional[int]:
        """Return the connection that brought an event, or None."""
        for _, batch in self._later[self._looked_through :]:
            self._ids.update(batch.ids)
        self._looked_through = len(self._later)
        if event.id in self._ids:
            self._make_keys()
        return self._keys.get(event.key)

    def _make_keys(self) -> None:
        for connection, batch in self._later:
            self._keys.update(dict.fromkeys(batch.keys(), connection))
        self._later.clear()
        self._ids.clear()
        self._looked_through = self._later_size = 0

    def discard(self, event: TrainingEvent) -> None:
        if self.find(event) is not None:
            del self._keys[event.key]
            self.size -= 1


class Cursor:
    """Knows what was read, what is done with, and what has been seen before.

    Threads: the worker calls `acknowledge`; everything else comes under the channel's lock.

    Attributes:
        read: Id of the last event put on the channel; `None` before the first.
        acknowledged: Id of the last event that the callbacks are done with.
        delivered: How many events that were, in earlier processes too.
        opening: Fingerprints of the job's first two events.
    """

    def __init__(self, saved: Optional[SavedCursor] = None, remembered: int = REMEMBERED) -> None:
        saved = saved or SavedCursor()
        self.read = saved.acknowledged_id
        self.acknowledged = saved.acknowledged_id
        self.delivered = saved.delivered
        self.opening = list(saved.opening)
        self._remembered = remembered
        self._connection = 0
        self._position = 0  # data events of this connection
        self._from_start = False  # whether this connection has sent nothing but the history so far
        self._accepted = saved.delivered
        self._forgotten = saved.delivered  # the oldest events, which `_old` and `_new` do not have
        # The older half of what is remembered is dropped as a whole when the newer one is full.
        self._old = _Generation(saved.delivered)
        self._new = _Generation(saved.delivered)
        self._highest = 0, ""  # of all ids so far, ordered by length and then as text

    def connect(self) -> Optional[str]:
        """Begin a connection.

        Returns:
            The id to resume after.
        """
        self._connection += 1
        self._position = 0
        self._from_start = True
        return self.read

    def accept(self, batch: Batch) -> Batch:
        """Move the read position over events, and return those that were not here before.

        An event with an id is recognised wherever it comes again. One without is only recognised
        on a later connection: on the same one, two equal events are two events.

        A server that ignores the resume id sends the whole history. Its first events may be too
        old to be remembered, but they come in the old order, so counting them is enough. Two
        events must match before that is believed: a server may greet with the first one.
        """
        counting = self._position < max(_OPENING, self._forgotten if self._from_start else 0)
        ids = None if counting else batch.rising_ids()
        if ids is None or id_order(ids[0]) <= self._highest:
            new = [event for event in batch if self._accept_one(event)]
            return batch if len(new) == len(batch) else EventBatch(new)
        # The id of each is above all that came before, so none of them can have been here.
        count = len(batch)
        self._position += count
        self._count(count)
        self._new.add(batch, self._connection)
        self.read = ids[1]
        self._highest = id_order(ids[1])
        return batch

    def knows(self, event: TrainingEvent) -> bool:
        """Whether an event was accepted lately."""
        return self._brought_by(event) is not None

    def acknowledge(self, batch: Batch) -> None:
        """Move the acknowledged position over the next events."""
        self.delivered += len(batch)
        if batch.last_id is not None:
            self.acknowledged = batch.last_id

    def rewind(self, unacknowledged: Sequence[TrainingEvent]) -> None:
        """Move the read position back to the acknowledged one, as if these had never come."""
        for event in unacknowledged:
            self._new.discard(event)
            self._old.discard(event)
        self._accepted = self.delivered
        self._new.begins = min(self._new.begins, self.delivered)
        self.read = self.acknowledged

    def restore(self, events: Sequence[TrainingEvent]) -> None:
        """Undo a rewind: these events are in hand, and are not waited for any more.

        They came on an earlier connection than the one at hand. If that one brings one of them
        after all, it is recognised, also without an id.
        """
        for event in events:
            self._admit(event, self._connection - 1)

    def _accept_one(self, event: TrainingEvent) -> bool:
        position = self._position
        self._position += 1
        if position < _OPENING:
            fingerprint = _fingerprint(event)
            if position == len(self.opening) == self._accepted:
                self.opening.append(fingerprint)
            known = self.opening[position : position + 1]
            self._from_start = self._from_start and known == [fingerprint]
        if self._from_start and position < self._forgotten:
            return False
        seen = self._brought_by(event)
        if seen is not None and (event.id is not None or seen != self._connection):
            return False
        self._admit(event, self._connection)
        return True

    def _brought_by(self, event: TrainingEvent) -> Optional[int]:
        found = self._new.find(event)
        return self._old.find(event) if found is None else found

    def _admit(self, event: TrainingEvent, connection: int) -> None:
        self._count(1)
        self._new.add(EventBatch([event]), connection)
        if event.id is not None:
            self.read = event.id
            self._highest = max(self._highest, id_order(event.id))

    def _count(self, events: int) -> None:
        """Count accepted events, and forget the older half of the keys where that is due."""
        if self._new.size >= self._remembered and self.delivered >= self._new.begins:
            self._forgotten = self._new.begins
            self._old, self._new = self._new, _Generation(self._accepted)
        self._accepted += events
