"""The two positions in a job's event stream. Pure bookkeeping; the channel guards it.

The *read* position is the last event put on the channel: where a broken connection resumes. The
*acknowledged* position is the last event that the callbacks are done with: where a redelivery
begins, and the only position that may outlive the process.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, Iterable, Optional

from arkor_sync.events import TrainingEvent

REMEMBERED = 10_000  # acknowledged events that are recognised when they come again


class Cursor:
    """Knows what was read, what is done with, and what has been seen before.

    Threads: the reader calls `connect` and `accept`, the worker `acknowledge`; `rewind` and
    `restore` come from either, under the channel's lock, as do `connect` and `accept`.

    Attributes:
        read: Id of the last event put on the channel; `None` before the first.
        acknowledged: Id of the last event that the callbacks are done with.
    """

    def __init__(self, acknowledged: Optional[str] = None, remembered: int = REMEMBERED) -> None:
        self.read = acknowledged
        self.acknowledged = acknowledged
        self._remembered = remembered
        self._connection = 0
        self._position = 0  # data events of this connection
        self._seen: Dict[int, int] = {}  # key -> the connection that brought it
        self._unacknowledged: Deque[TrainingEvent] = deque()
        self._done: Deque[int] = deque()  # keys, oldest first
        self._first: Optional[int] = None  # the key of the very first event
        self._forgotten = 0  # events that dropped out of `_done`
        self._from_start = False  # whether this connection replays the whole history

    def connect(self) -> Optional[str]:
        """Begin a connection.

        Returns:
            The id to resume after.
        """
        self._connection += 1
        self._position = 0
        self._from_start = False
        return self.read

    def accept(self, event: TrainingEvent) -> bool:
        """Move the read position to an event, unless it was here before.

        An event with an id is recognised wherever it comes again. One without is only recognised
        on a later connection: on the same one, two equal events are two events.

        A server that ignores the resume id sends the whole history. Its first events may be too
        old to be remembered, but they come in the old order, so counting them is enough.
        """
        self._position += 1
        if self._position == 1 and event.key == self._first:
            self._from_start = True
        if self._from_start and self._position <= self._forgotten:
            return False
        seen = self._seen.get(event.key)
        if seen is not None and (event.id is not None or seen != self._connection):
            return False
        if self._first is None:
            self._first = event.key
        self._admit(event)
        return True

    def acknowledge(self, event: TrainingEvent) -> None:
        """Move the acknowledged position to the oldest event that was not acknowledged."""
        self._unacknowledged.popleft()
        if event.id is not None:
            self.acknowledged = event.id
        self._done.append(event.key)
        if len(self._done) > self._remembered:
            self._seen.pop(self._done.popleft(), None)
            self._forgotten += 1

    def rewind(self) -> None:
        """Move the read position back to the acknowledged one, as if the rest had never come."""
        for event in self._unacknowledged:
            self._seen.pop(event.key, None)
        self._unacknowledged.clear()
        self.read = self.acknowledged

    def restore(self, events: Iterable[TrainingEvent]) -> None:
        """Undo a rewind: these events will not come again, and are in hand."""
        for event in events:
            self._admit(event)

    def _admit(self, event: TrainingEvent) -> None:
        self._seen[event.key] = self._connection
        self._unacknowledged.append(event)
        if event.id is not None:
            self.read = event.id
