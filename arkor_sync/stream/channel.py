"""The bounded queue between the reader thread and the worker thread, with epochs. Any thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from itertools import accumulate, takewhile
from types import BuiltinFunctionType
from typing import Callable, Deque, List, NamedTuple, Optional, Sequence

from arkor_sync.stream.batches import Batch, EventBatch
from arkor_sync.stream.cursor import Cursor
from arkor_sync.stream.events import StreamLost, TrainingEvent

MAX_EVENTS = 1024
MAX_BYTES = 8 << 20
_FEW = 16  # after more new events than this, the reader does not pause for the worker
_HANDOVER = 50e-6  # seconds: about what the worker needs to begin
_STALL = 15.0  # seconds
_NOTHING: Batch = EventBatch([])


class Position(NamedTuple):
    """Where a connection begins.

    Attributes:
        epoch: What its events must be put with.
        last_event_id: What to resume after; `None` for the start of the history.
    """

    epoch: int
    last_event_id: Optional[str]


class Channel:
    """Hands events from the reader to the worker in order, and lets the worker ask for them again.

    It is bounded in events and in bytes. A full channel blocks the reader, which then stops
    reading, which in the end stops the server. The worker takes one batch at a time, so at most
    one more batch, no larger than the channel's limits, is with the worker.

    A rewind opens a new epoch. A put from an older one is refused, so a reader that is blocked on a
    full channel, or still busy with the old connection, can neither deadlock nor leak an event.

    Threads: `connect`, `put`, `pause`, `report_lost`, `restore` and `finish` belong to the reader;
    `take`, `take_lost`, `acknowledge` and `rewind` to the worker; `close` to anyone.
    """

    def __init__(
        self,
        cursor: Cursor,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
        on_stall: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an empty channel.

        Args:
            cursor: The positions that it moves.
            max_events: How many events may wait.
            max_bytes: How many characters of JSON they may have together.
            on_stall: Called by a put that has waited for a while, and from then on now and then.
        """
        self.cursor = cursor
        self.acknowledge = cursor.acknowledge  # once an event, so without a layer in between
        self.high_water = 0
        self.duplicates = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._on_stall = on_stall
        # Green threads (gevent) have another `sleep`, which takes a millisecond, and no GIL.
        self._gives_up_gil = isinstance(time.sleep, BuiltinFunctionType)
        self._new_locks()
        self._batches: Deque[Batch] = deque()
        self._count = 0
        self._bytes = 0
        self._blocked = False  # whether the reader waits for room
        self._epoch = 0
        self._lost: Optional[StreamLost] = None
        self._set_aside: List[TrainingEvent] = []  # what a rewind dropped, until it is confirmed
        self._closed = False
        self._finished = False
        self.error: Optional[BaseException] = None

    def __len__(self) -> int:
        return self._count

    def connect(self) -> Position:
        """Begin a connection: the epoch and the resume id, read as one."""
        with self._lock:
            return Position(self._epoch, self.cursor.connect())

    def put(self, batch: Batch, epoch: int) -> Optional[int]:
        """Append events, waiting while the channel is full.

        Args:
            batch: In the order of the stream. Those that were here before are dropped.
            epoch: That of the connection.

        Returns:
            How many of them were new, or None if the epoch is over or the channel closed.
        """
        accepted = 0
        with self._lock:
            if self._set_aside and epoch == self._epoch:
                self._check_redelivery(batch)
            while batch:
                if not self._has_room(epoch):
                    return None
                count = self._fitting(batch)
                fitting, batch = (
                    (batch, _NOTHING) if count == len(batch) else (batch[:count], batch[count:])
                )
                new = self.cursor.accept(fitting)
                self.duplicates += len(fitting) - len(new)
                accepted += len(new)
                if len(new) > count and not self._append_in_parts(new, epoch):
                    return None
                if 0 < len(new) <= count:
                    self._append(new)
                    self.high_water = max(self.high_water, self._count)
        # Without the lock: the worker takes it as soon as it is awake.
        if accepted and self._wake_worker() and accepted <= _FEW and self._gives_up_gil:
            time.sleep(_HANDOVER)  # give up the GIL, so that the worker just woken can run
        return accepted

    def pause(self) -> None:
        """Say that the stream has paused: the history, if it is sent again, has no more events."""
        with self._lock:
            self.cursor.pause()

    def report_lost(self, lost: StreamLost) -> None:
        """Tell the worker that the stream was lost. A newer report replaces an older one."""
        with self._lock:
            self._lost = lost
            self._wake_worker()

    def take_lost(self) -> Optional[StreamLost]:
        """Take what `report_lost` left, if anything."""
        with self._lock:
            lost, self._lost = self._lost, None
            return lost

    def take(self) -> Optional[Batch]:
        """Wait for events, or for a report of a lost stream, and take those put together.

        Returns:
            Events, or an empty batch where there is only such a report; None when no more will
            come: `error` then says why, if it was not because of `close`.
        """
        while True:
            with self._lock:
                self._idle = False
                if self._closed:
                    return None
                if self._batches or self._lost:
                    return self._take_first()
                if self._finished:
                    return None
                self._idle = True
            self._filled.acquire()

    def rewind(
        self, in_hand: Sequence[TrainingEvent], interrupt: Callable[[], None] = lambda: None
    ) -> bool:
        """Ask for everything after the last acknowledged event again.

        What is in hand and what waits is set aside until the first of it has come again.

        Args:
            in_hand: The events that were taken and not acknowledged.
            interrupt: Makes the reader give up the connection at hand. It is called before the
                reader can learn of the new epoch, or it might end the next connection instead.

        Returns:
            False if the reader is done, and nothing can come again.
        """
        with self._lock:
            if self._finished or self._closed:
                return False
            dropped = [*in_hand, *(event for batch in self._batches for event in batch)]
            # An end that was made of the job's record is made again, unless the stream has it now.
            self._set_aside = [event for event in dropped if not event.is_from_record]
            self._empty()
            self._epoch += 1
            self.cursor.rewind(dropped)
            interrupt()
            self._drained.notify()
            return True

    def restore(self, epoch: int) -> None:
        """Give the worker back what a rewind set aside: the cloud cannot send it again."""
        with self._lock:
            if epoch == self._epoch:
                self._restore()

    def finish(self, error: Optional[BaseException] = None) -> None:
        """Say that no more events will come, and why. Those that wait are still delivered."""
        with self._lock:
            self._finished = True
            self.error = error
            self._wake_worker()

    def close(self) -> None:
        """Drop everything and release whoever is blocked."""
        with self._lock:
            self._closed = True
            self._empty()
            self._set_aside = []
            self._idle = True  # an earlier call may have been ended by a Ctrl-C halfway
            self._wake_worker()
            self._drained.notify()

    def abandon(self) -> None:
        """Close it in a forked child, where the threads that hold its locks do not exist."""
        self._new_locks()
        self._closed = True

    def _new_locks(self) -> None:
        # It can be taken twice: a signal handler or a finalizer may close the channel.
        self._lock = threading.RLock()
        self._filled = threading.Lock()  # held while there is nothing new to take
        self._filled.acquire()
        self._idle = False  # whether the worker waits for it
        self._drained = threading.Condition(self._lock)

    def _check_redelivery(self, events: Batch) -> None:
        """Drop what was set aside if it comes again; if the cloud begins elsewhere, use it."""
        for event in events:
            if event.key == self._set_aside[0].key:
                self._set_aside = []
                return
            if event.problem is None and not self.cursor.knows(event):
                self._restore()
                return

    def _restore(self) -> None:
        if self._set_aside:
            self.cursor.restore(self._set_aside)
            self._empty()
            self._append(EventBatch(self._set_aside))
            self._set_aside = []
            self._wake_worker()

    def _take_first(self) -> Batch:
        if not self._batches:
            return _NOTHING
        batch = self._batches.popleft()
        self._count -= len(batch)
        self._bytes -= batch.size
        # Wake the reader only when half of the queue is free: a wake-up is slow.
        if (
            self._blocked
            and 2 * self._count <= self._max_events
            and 2 * self._bytes <= self._max_bytes
        ):
            self._drained.notify()
        return batch

    def _wake_worker(self) -> bool:
        """Wake the worker if it waits. A bare lock does it in half the time of a condition."""
        if not self._idle:
            return False
        self._idle = False
        with suppress(RuntimeError):  # somebody else did it at the same time
            self._filled.release()
        return True

    def _append(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._count += len(batch)
        self._bytes += batch.size

    def _append_in_parts(self, new: Batch, epoch: int) -> bool:
        """Append more events than there is room for: some that were held, and are new after all."""
        while new:
            if not self._has_room(epoch):
                self.cursor.forget(new)
                self._set_aside.extend(new)
                return False
            count = self._fitting(new)
            self._append(new[:count])
            self.high_water = max(self.high_water, self._count)
            new = new[count:]
        return True

    def _has_room(self, epoch: int) -> bool:
        """Wait while the channel is full; return False if the epoch is over or it is closed."""
        while self._is_full() and not self._closed and epoch == self._epoch:
            self._wake_worker()
            self._wait_for_room()
        return not self._closed and epoch == self._epoch

    def _empty(self) -> None:
        self._batches.clear()
        self._count = self._bytes = 0

    def _wait_for_room(self) -> None:
        self._blocked = True
        stalled = not self._drained.wait(_STALL)
        self._blocked = False
        if stalled:
            # Without the lock: on_stall may want to close the channel.
            self._lock.release()
            try:
                self._on_stall()
            finally:
                self._lock.acquire()

    def _fitting(self, batch: Batch) -> int:
        """Return how many events there is room for; the last one may exceed the bytes."""
        count = min(len(batch), self._max_events - self._count)
        room = self._max_bytes - self._bytes
        if batch.size < room:
            return count
        sizes = accumulate(event.size for event in batch)
        return min(count, 1 + sum(1 for _ in takewhile(lambda size: size < room, sizes)))

    def _is_full(self) -> bool:
        return self._count >= self._max_events or self._bytes >= self._max_bytes
