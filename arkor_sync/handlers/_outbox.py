"""A bounded queue with a thread of its own, so that no backend can slow a run down."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Callable, Deque, Generic, List, Optional, Tuple, TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
_LINGER = 1.0  # seconds


class Outbox(Generic[Item]):
    """Delivers items in order, on a daemon thread that exists only while there are any.

    It belongs to one handler, which may serve several runs at once. When it is full the oldest
    item that may be dropped makes room; what may not be dropped is always taken, so it must be
    rare. A forked child begins with an empty one.

    Threads: `put` and `flush` from any thread; `deliver` runs on the outbox's own.
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
            deliver: Delivers up to `batch` items. It handles its own errors; what it raises all
                the same is logged, and the items are lost.
            limit: How many items may wait.
            batch: How many items `deliver` takes at once.
        """
        self._name = name
        self._deliver = deliver
        self._limit = limit
        self._batch = batch
        self._dropped = 0
        self._reset()

    def put(self, item: Item, *, droppable: bool = True) -> None:
        """Queue an item. It never blocks, and never raises."""
        if os.getpid() != self._pid:
            self._reset()
        with self._changed:
            if len(self._items) >= self._limit and not self._make_room() and droppable:
                self._dropped += 1
                return
            self._items.append((item, droppable))
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything that was queued has been delivered; say in the log if it was not.

        Args:
            timeout: Seconds. What is late is still delivered if the process lives on.

        Returns:
            Whether it was.
        """
        if os.getpid() != self._pid:
            return True
        deadline = time.monotonic() + timeout
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            while self._items or self._busy:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._flushing -= 1
            late = len(self._items) + self._busy
            dropped = self._dropped
            self._dropped = 0
        if late or dropped:
            logger.warning(
                "%s: %d not delivered within %.1f s, %d dropped because too many waited",
                self._name,
                late,
                timeout,
                dropped,
            )
        return not late

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._items: Deque[Tuple[Item, bool]] = deque()
        self._busy: int = 0  # items that are being delivered
        self._dropped = 0
        self._flushing: int = 0
        self._thread: Optional[threading.Thread] = None

    def _start(self) -> None:
        thread = threading.Thread(target=self._main, name=f"arkor-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many threads, or the interpreter is about to exit
            logger.warning("%s: %s; %d wait for the next", self._name, str(error), len(self._items))
        else:
            self._thread = thread

    def _make_room(self) -> bool:
        for index, (_, droppable) in enumerate(self._items):
            if droppable:
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
                batch = [self._items.popleft()[0] for _ in range(count)]
                self._busy = count
            try:
                self._deliver(batch)
            except Exception:
                logger.exception("%s failed; %d lost", self._name, count)
            finally:
                with self._changed:
                    self._busy = 0
                    self._changed.notify_all()
