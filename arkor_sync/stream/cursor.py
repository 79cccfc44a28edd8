"""The two positions in a job's event stream, and which events have been seen. Pure.

The channel's lock guards it, except for `acknowledge`: only the worker calls that, without a lock.

The *read* position is the last event put on the channel: where a broken connection resumes. The
*acknowledged* position is the last event that the callbacks are done with: where a redelivery
begins, and the only position that may outlive the process.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import Deque, Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union

from arkor_sync._common.log import get_logger
from arkor_sync.stores.base import SavedCursor
from arkor_sync.stream.batches import Batch, EventBatch, id_order
from arkor_sync.stream.events import TrainingEvent
from arkor_sync.stream.replay import Replay, fingerprint, lasting_key

_OPENING = 2
REMEMBERED = 10_000  # at least half so many events are recognised when they come again
_MAX_LATEST = 256
_MAX_LATER = 4 << 20  # characters of batches that wait for their keys

logger = get_logger("arkor_sync.stream.reader")


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

    Threads: the worker calls `acknowledge`, and reads what is done with; everything else comes
    under the channel's lock.

    Attributes:
        read: Id of the last event put on the channel; `None` before the first.
        acknowledged: Id of the last event that the callbacks are done with.
        delivered: How many events that were, in earlier processes too.
    """

    def __init__(self, saved: Optional[SavedCursor] = None, remembered: int = REMEMBERED) -> None:
        saved = saved or SavedCursor()
        self.read = saved.acknowledged_id
        self.acknowledged = saved.acknowledged_id
        self.delivered = saved.delivered
        self._opening = list(saved.opening)
        self._before_ids = saved.before_ids
        # The first event with the acknowledged id, as the last one of a batch, or its lasting key;
        # and the lasting keys of the newest ones that were done with since then.
        self._last: Union[Batch, str, None] = next(iter(saved.latest), None)
        self._latest: Deque[str] = deque(saved.latest[1:], _MAX_LATEST)
        self._after_id = saved.after_id
        self._known_latest = frozenset(saved.latest)  # as of the last restart or rewind
        self._saved_id = None if saved.latest else saved.acknowledged_id
        self._remembered = remembered
        self._connection = 0
        self._replay: Optional[Replay] = None
        self._accepted = saved.delivered
        self._forgets = saved.delivered > 0  # whether `_old` and `_new` do not have all events
        # The older half of what is remembered is dropped as a whole when the newer one is full.
        self._old = _Generation(saved.delivered)
        self._new = _Generation(saved.delivered)
        self._highest = id_order(self.read or "")  # of all ids so far, as far as they are known

    def connect(self) -> Optional[str]:
        """Begin a connection.

        Returns:
            The id to resume after.
        """
        self._connection += 1
        self._replay = None
        # What is new on this connection must not displace what it may send again.
        self._forget_beyond(self._remembered // 2)
        if self._forgets:
            # Of what was done with behind the id, the newest are recognised one by one.
            behind = self._after_id - min(_MAX_LATEST, self._remembered // 2)
            if self.read != self.acknowledged:
                behind = 0
            replay = Replay(tuple(self._opening), self.read, self._before_ids, max(0, behind))
            self._replay = None if replay.over else replay
        return self.read

    def accept(self, batch: Batch) -> Batch:
        """Move the read position over events, and return those that were not here before.

        An event with an id is recognised wherever it comes again. One without is only recognised
        on a later connection: on the same one, two equal events are two events. What is no longer
        remembered is recognised by `Replay`.
        """
        replay = self._replay
        ids = None if replay is not None else batch.rising_ids()
        if ids is None or id_order(ids[0]) <= self._highest:
            arrived = batch if replay is None else self._after_replay(replay, batch)
            new = [event for event in arrived if self._accept_one(event)]
            return batch if replay is None and len(new) == len(batch) else EventBatch(new)
        # The id of each is above all that came before, so none of them can have been here.
        self._count(len(batch))
        self._new.add(batch, self._connection)
        self.read = ids[1]
        self._highest = id_order(ids[1])
        return batch

    @property
    def replaying(self) -> bool:
        """Whether the connection may be sending again what is no longer remembered."""
        return self._replay is not None

    def pause(self) -> None:
        """Say that the stream has paused; see `Replay.pause`."""
        if self._replay is not None:
            self._replay.pause()

    def knows(self, event: TrainingEvent) -> bool:
        """Whether an event was accepted lately."""
        return self._brought_by(event) is not None

    def acknowledge(self, batch: Batch) -> None:
        """Move the acknowledged position over the next events."""
        self.delivered += len(batch)
        if len(self._opening) < _OPENING:
            self._remember_opening(batch)
        ids = batch.rising_ids()
        if ids is None or ids[0] == self.acknowledged:
            self._acknowledge_each(batch)
        else:
            self.acknowledged = ids[1]
            self._last = batch
            if self._after_id:
                self._latest.clear()
                self._after_id = 0

    def position(self) -> SavedCursor:
        """Return what another process needs in order to go on behind the acknowledged position."""
        last = self._last
        key = last if last is None or isinstance(last, str) else lasting_key(last[-1])
        return SavedCursor(
            acknowledged_id=self.acknowledged,
            delivered=self.delivered,
            opening=list(self._opening),
            before_ids=self._before_ids,
            after_id=self._after_id,
            latest=[] if key is None else [key, *self._latest],
        )

    def position_after(self, batch: Batch) -> SavedCursor:
        """Return what `position` will return once these events are acknowledged."""
        ahead = copy.copy(self)
        ahead._opening, ahead._latest = list(self._opening), self._latest.copy()
        ahead.acknowledge(batch)
        return ahead.position()

    def rewind(self, unacknowledged: Sequence[TrainingEvent]) -> None:
        """Move the read position back to the acknowledged one, as if these had never come.

        The worker calls it, so what is acknowledged does not change meanwhile.
        """
        self._known_latest = frozenset(self.position().latest)
        self.forget(unacknowledged)
        self._accepted = self.delivered
        self._new.begins = min(self._new.begins, self.delivered)
        self.read = self.acknowledged

    def forget(self, events: Sequence[TrainingEvent]) -> None:
        """Take events for new ones if they come again."""
        for event in events:
            self._new.discard(event)
            self._old.discard(event)

    def restore(self, events: Sequence[TrainingEvent]) -> None:
        """Undo a rewind: these events are in hand, and are not waited for any more.

        They came on an earlier connection than the one at hand. If that one brings one of them
        after all, it is recognised, also without an id.
        """
        for event in events:
            self._admit(event, self._connection - 1)

    def _remember_opening(self, batch: Batch) -> None:
        for event in batch:
            if event.problem is None and len(self._opening) < _OPENING:
                self._opening.append(fingerprint(event))

    def _acknowledge_each(self, batch: Batch) -> None:
        for number, event in enumerate(batch):
            if event.id is not None and event.id != self.acknowledged:
                self.acknowledged = event.id
                self._last = batch[number : number + 1]
                self._latest.clear()
                self._after_id = 0
            elif event.problem is not None:
                continue
            elif self.acknowledged is None:
                self._before_ids += 1
            else:
                self._latest.append(lasting_key(event))
                self._after_id += event.id is None

    def _after_replay(self, replay: Replay, batch: Batch) -> Iterator[TrainingEvent]:
        """Give the events that are not held back as long forgotten."""
        for event in batch:
            if self._replay is None:
                yield event
                continue
            known = self._remembered_from(event) not in (None, self._connection)
            taken = replay.take(event, known)
            if replay.over:
                self._replay = None
                if replay.missed:
                    what = "event %r did not come again; what came before may be delivered twice"
                    logger.warning(what, self.read)
                    if replay.lost:
                        logger.error("events that were not kept and are lost: %d", replay.lost)
            yield from taken

    def _accept_one(self, event: TrainingEvent) -> bool:
        seen = self._brought_by(event)
        if seen is not None and (event.id is not None or seen != self._connection):
            return False
        self._admit(event, self._connection)
        return True

    def _brought_by(self, event: TrainingEvent) -> Optional[int]:
        """Return the connection that brought an event: 0 if that is not remembered."""
        found = self._remembered_from(event)
        if found is None and self._known_latest and lasting_key(event) in self._known_latest:
            return 0
        if found is None and event.id == self._saved_id is not None and not event.is_terminal:
            return 0  # 0.1 kept nothing else of it
        return found

    def _remembered_from(self, event: TrainingEvent) -> Optional[int]:
        found = self._new.find(event)
        return self._old.find(event) if found is None else found

    def _admit(self, event: TrainingEvent, connection: int) -> None:
        self._count(1)
        self._new.add(EventBatch([event]), connection)
        if event.id is not None:
            self.read = event.id
            self._highest = max(self._highest, id_order(event.id))

    def _count(self, events: int) -> None:
        self._forget_beyond(self._remembered)
        self._accepted += events

    def _forget_beyond(self, size: int) -> None:
        """Forget the older half of the keys if the newer one has so many."""
        if self._new.size >= size and self.delivered >= self._new.begins:
            self._forgets = self._forgets or self._old.size > 0
            self._old, self._new = self._new, _Generation(self._accepted)
