"""A bounded queue with a thread of its own, so that no backend can slow a run down."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from typing import Callable, Deque, Generic, List, Optional, TypeVar

from arkor_sync._common import process

logger = logging.getLogger("arkor_sync.handlers")

Item = TypeVar("Item")
_LINGER = 1.0  # seconds


@dataclasses.dataclass(frozen=True)
class _Waiting(Generic[Item]):
    """An item in the queue; the numbers only go up."""

    number: int
    item: Item
    droppable: bool


class Outbox(Generic[Item]):
    """Delivers items in order, on a daemon thread that exists only while there are any.

    It belongs to one handler, which may serve several runs at once. When it is full the oldest
    item that may be dropped makes room; what may not be dropped is always taken, so it must be
    rare. A forked child begins with an empty one. At the interpreter's exit what still waits is
    given the time that the runs are given.

    Threads: `put` and `flush` from any thread; `deliver` runs on the outbox's own.

    Attributes:
        pressing: Set while something waits, or is being delivered, that may not be dropped.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[List[Item]], None],
        *,
        limit: int = 1000,
        batch: int = 1,
    ) -> None:
        """Make an empty outbox; no thread is started.

        Args:
            name: Of the handler: for the thread's name and for log lines.
            deliver: Delivers up to `batch` items. It handles its own errors; of what it raises all
                the same the type is logged, and the items are lost.
            limit: How many items may wait.
            batch: How many items `deliver` takes at once.
        """
        self._name = name
        self._deliver = deliver
        self._limit = limit
        self._batch = batch
        self.after_fork()
        process.register_hooks(self)

    def after_fork(self) -> None:
        """Begin with an empty queue: the parent's thread delivers what is in its own."""
        self.pressing = threading.Event()
        self._pressing: int = 0
        self._changed = threading.Condition()
        self._items: Deque[_Waiting[Item]] = deque()
        self._last: int = 0  # the number of the last item that came
        self._busy: List[_Waiting[Item]] = []  # what is being delivered
        self._dropped: int = 0
        self._flushing: int = 0
        self._thread: Optional[threading.Thread] = None

    def at_exit(self, timeout: float) -> None:
        """Let what waits go, as far as the time allows. The exit hook calls it."""
        self.flush(timeout)

    def put(self, item: Item, *, droppable: bool = True) -> None:
        """Queue an item. It never blocks, and never raises."""
        with self._changed:
            if len(self._items) >= self._limit and not self._make_room() and droppable:
                self._dropped += 1
                return
            self._last += 1
            self._items.append(_Waiting(self._last, item, droppable))
            if not droppable:
                self._pressing += 1
                self.pressing.set()
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until what has been queued so far is delivered; say in the log if it was not.

        What others queue meanwhile is not waited for.

        Args:
            timeout: Seconds. What is late is still delivered if the process lives on.

        Returns:
            Whether it was.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            last = self._last
            if self._items and self._thread is None:
                self._start()  # it could not be started before
            self._flushing += 1
            self._changed.notify_all()
            try:
                while self._oldest() <= last and self._thread is not None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)
            finally:
                self._flushing -= 1
            late = sum(each.number <= last for each in (*self._busy, *self._items))
            dropped, self._dropped = self._dropped, 0
        if late or dropped:
            logger.warning(
                "%s: %d not delivered within %.1f s, %d dropped because too many waited",
                self._name,
                late,
                timeout,
                dropped,
            )
        return not late

    def _oldest(self) -> int:
        """Return the number of the first item that is not delivered yet."""
        return next((each[0].number for each in (self._busy, self._items) if each), self._last + 1)

    def _start(self) -> None:
        thread = threading.Thread(target=self._main, name=f"arkor-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many threads, or the interpreter is about to exit
            logger.warning("%s: %s; %d wait for the next", self._name, str(error), len(self._items))
        else:
            self._thread = thread

    def _make_room(self) -> bool:
        for index, each in enumerate(self._items):
            if each.droppable:
                del self._items[index]
                self._dropped += 1
                return True
        return False

    def _main(self) -> None:
        while True:
            with self._changed:
                if not self._items and not self._flushing:
                    self._changed.wait(_LINGER)
                if not self._items:
                    self._thread = None  # under the lock: the next put starts another one
                    return
                count = min(self._batch, len(self._items))
                self._busy = [self._items.popleft() for _ in range(count)]
            try:
                self._deliver([each.item for each in self._busy])
            except BaseException as error:  # nothing that a backend raises may end this thread
                logger.error("%s failed; %d lost (%s)", self._name, count, type(error).__name__)
            with self._changed:
                self._pressing -= sum(not each.droppable for each in self._busy)
                if not self._pressing:
                    self.pressing.clear()
                self._busy = []
                self._changed.notify_all()
