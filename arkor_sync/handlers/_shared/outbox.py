"""A bounded queue that delivers its items in order. Runs on a thread of its own."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from typing import Any, Callable, Deque, Generic, List, Optional, Tuple, TypeVar

from arkor_sync._common import process
from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger
from arkor_sync._common.text import counted
from arkor_sync._common.threads import OwnThread

logger = get_logger("arkor_sync.handlers")

Item = TypeVar("Item")
_IDLE_SECONDS = 1.0  # how long the thread waits for another item before it ends


@dataclasses.dataclass(frozen=True)
class _QueuedItem(Generic[Item]):
    """An item with its number; the numbers only rise."""

    number: int
    item: Item
    droppable: bool


def _count(items: List[Any]) -> str:
    return counted(len(items), "item")


class Outbox(Generic[Item]):
    """Delivers items in order on a daemon thread, so that a slow backend cannot slow a run down.

    The thread is started when an item arrives, and ends when the queue has been empty for a second.
    An outbox belongs to one handler, which may serve several runs at once. When the queue is full,
    the oldest droppable item is removed. An item that is not droppable is always accepted, so such
    items must be rare. A forked child starts with an empty queue. When the interpreter exits, the
    items that still wait may be delivered within the same time limit as the runs have. What is not
    delivered in time is logged, with the reason.

    Threads: `put` and `flush` from any thread; `deliver` runs on the outbox's own thread.

    Attributes:
        undroppable_waiting: Set while an item that is not droppable waits or is being delivered.
        last_failure: Why the items in hand are not delivered yet, for the log line; empty if no
            attempt has failed. `deliver` sets it.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[List[Item]], None],
        *,
        limit: int = 1000,
        batch: int = 1,
        describe: Callable[[List[Item]], str] = _count,
        busy: str = "still being delivered",
    ) -> None:
        """Make an empty outbox; no thread is started.

        Args:
            name: The handler's name, for the name of the thread and for log lines.
            deliver: Delivers a list of up to `batch` items. It has to handle its own errors: if it
                raises, the items are lost, and only the type of the exception is logged.
            limit: How many items may wait.
            batch: How many items `deliver` gets at once.
            describe: Names items that are not delivered in time, as `2 logs of job ...`.
            busy: The reason that is logged while no attempt has failed.
        """
        self._name = name
        self._deliver = deliver
        self._limit = limit
        self._batch = batch
        self._describe = describe
        self._busy = busy
        self.after_fork()
        process.register_hooks(self)

    def __getstate__(self) -> Tuple[Any, ...]:
        # A pickled copy is empty.
        return self._name, self._deliver, self._limit, self._batch, self._describe, self._busy

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        name, deliver, limit, batch, describe, busy = state
        Outbox.__init__(self, name, deliver, limit=limit, batch=batch, describe=describe, busy=busy)

    def after_fork(self) -> None:
        """Start with an empty queue: the parent's thread delivers the parent's items."""
        self.undroppable_waiting = threading.Event()
        self.last_failure: str = ""
        self._undroppable: int = 0
        self._changed = threading.Condition()
        self._items: Deque[_QueuedItem[Item]] = deque()
        self._last_number: int = 0  # of the newest item
        self._last_late: int = 0  # of the newest item that was logged as late
        self._delivering: List[_QueuedItem[Item]] = []
        self._dropped: int = 0
        self._flushing: int = 0
        self._thread: Optional[OwnThread] = None

    def at_exit(self, timeout: float) -> None:
        """Deliver what waits, as far as the time allows. The exit hook calls it."""
        self._flush(timeout, "before the interpreter exits")

    def put(self, item: Item, *, droppable: bool = True) -> None:
        """Queue an item. Never blocks and never raises."""
        with self._changed:
            if len(self._items) >= self._limit and not self._make_room() and droppable:
                self._dropped += 1
                return
            self._last_number += 1
            self._items.append(_QueuedItem(self._last_number, item, droppable))
            if not droppable:
                self._undroppable += 1
                self.undroppable_waiting.set()
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all items that are queued now are delivered; log which were not, and why.

        Each item is logged once, however often it is waited for.
        Items that are queued during the wait are not waited for.

        Args:
            timeout: Seconds. A late item is still delivered afterwards if the process goes on.

        Returns:
            Whether all were delivered in time.
        """
        return self._flush(timeout, f"within {timeout:.1f} s")

    def has(self, test: Callable[[Item], bool]) -> bool:
        """Return whether an item that passes the test waits or is being delivered."""
        with self._changed:
            return any(test(each.item) for each in (*self._delivering, *self._items))

    def was_late(self) -> bool:
        """Return whether a warning has named the items in hand already. For `deliver`."""
        with self._changed:
            return bool(self._delivering) and self._delivering[0].number <= self._last_late

    def take(self, test: Callable[[Item], bool]) -> List[Item]:
        """Remove the waiting items that pass the test, and return them."""
        with self._changed:
            taken: List[_QueuedItem[Item]] = []
            kept: Deque[_QueuedItem[Item]] = deque()
            for each in self._items:
                (taken if test(each.item) else kept).append(each)
            self._items = kept
            self._forget_undroppable(taken)
            self._changed.notify_all()
        return [each.item for each in taken]

    def _flush(self, timeout: float, limit: str) -> bool:
        deadline = Clock.now() + timeout
        with self._changed:
            last = self._last_number
            if self._items and self._thread is None:
                self._start()  # an earlier attempt to start it failed
            self._flushing += 1
            self._changed.notify_all()
            try:
                while self._first_undelivered() <= last and self._thread is not None:
                    left = deadline - Clock.now()
                    if left <= 0:
                        break
                    self._changed.wait(left)
            finally:
                self._flushing -= 1
            waiting = (*self._delivering, *self._items)
            late = [each for each in waiting if each.number <= last]
            new = [each.item for each in late if each.number > self._last_late]
            if new:
                self._last_late = late[-1].number
            dropped, self._dropped = self._dropped, 0
            reason = self.last_failure or self._busy
        if new:
            what = "%s: %s not delivered %s: %s"
            logger.warning(what, self._name, self._describe(new), limit, reason)
        if dropped:
            logger.warning("%s: %d dropped because too many were waiting", self._name, dropped)
        return not late

    def _first_undelivered(self) -> int:
        """Return the number of the oldest item that is not delivered yet."""
        for items in (self._delivering, self._items):
            if items:
                return items[0].number
        return self._last_number + 1

    def _start(self) -> None:
        thread = OwnThread(self._main, f"arkor-{self._name}")
        try:
            thread.start()
        except RuntimeError as error:  # too many threads, or the interpreter is about to exit
            self.last_failure = str(error)
            logger.warning(
                "%s: %s; %d wait for the next attempt", self._name, str(error), len(self._items)
            )
        else:
            self._thread = thread

    def _make_room(self) -> bool:
        """Drop the oldest droppable item; return whether there was one."""
        for index, each in enumerate(self._items):
            if each.droppable:
                del self._items[index]
                self._dropped += 1
                return True
        return False

    def _forget_undroppable(self, items: List[_QueuedItem[Item]]) -> None:
        """Count items no longer as waiting. The caller holds the lock."""
        self._undroppable -= sum(not each.droppable for each in items)
        if not self._undroppable:
            self.undroppable_waiting.clear()

    def _main(self) -> None:
        while True:
            with self._changed:
                if not self._items and not self._flushing:
                    self._changed.wait(_IDLE_SECONDS)
                if not self._items:
                    # Still under the lock, so that the next `put` starts another thread.
                    self._thread = None
                    return
                count = min(self._batch, len(self._items))
                self._delivering = [self._items.popleft() for _ in range(count)]
                self.last_failure = ""
            try:
                self._deliver([each.item for each in self._delivering])
            except BaseException as error:  # no exception of a backend may end this thread
                logger.error("%s failed; %d lost (%s)", self._name, count, type(error).__name__)
            if threading.current_thread() is not self._thread:
                return  # `deliver` has forked, and this is the child
            with self._changed:
                self._forget_undroppable(self._delivering)
                self._delivering = []
                self._changed.notify_all()
