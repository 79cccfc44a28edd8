"""A few threads that process a list of items once, and a future. Runs on a thread of its own."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future
from functools import partial
from typing import Callable, Generic, List, Optional, TypeVar

from arkor_sync._common.log import get_logger
from arkor_sync._common.threads import OwnThread

logger = get_logger("arkor_sync.handlers")

Result = TypeVar("Result")


class WorkerPool(Generic[Result]):
    """Owns daemon threads that process the items of one list, and end when all are processed.

    One more thread watches the time limit: without it, an item that never ends would leave the
    future unresolved, and the run would wait for it for ever.

    Threads: `start` once; `stop` from any thread. `work` and `finish` run on the pool's threads, in
    copies of the context variables of the thread that made the pool.

    Attributes:
        future: Done when `finish` has returned; has the exception of `work` or `finish`, if any.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[int], Result],
        count: int,
        threads: int,
        limit: float,
        finish: Callable[[List[Optional[Result]]], None],
    ) -> None:
        """Make the pool; nothing runs before `start`.

        Args:
            name: The name of the threads, before a number.
            work: Called with the index of each item, on several threads at a time.
            count: The number of items.
            threads: The highest number of threads.
            limit: Seconds after which `finish` gets the results that exist.
            finish: Called once with the results in order, with None for each that is missing;
                later results are ignored. It is not called if the pool was stopped.
        """
        self.future: Future[None] = Future()
        self._work = work
        self._limit = limit
        self._finish = finish
        self._lock = threading.Lock()
        self._next = 0
        self._results: List[Optional[Result]] = [None] * count
        self._remaining = count
        self._over = threading.Event()
        mains = [self._watch_limit, *[self._main] * min(count, threads)]
        self._threads = [
            OwnThread(partial(contextvars.copy_context().run, main), f"{name}-{number}")
            for number, main in enumerate(mains)
        ]

    def start(self) -> Future[None]:
        """Start the threads. If the process cannot have more of them, finish without results."""
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            logger.warning("%s: %s", self._threads[0].name, str(error))
            self._end()
        return self.future

    def stop(self) -> None:
        """Start no more items. Items that are being processed go on, and their results are lost."""
        self._over.set()

    def _watch_limit(self) -> None:
        if not self._over.wait(self._limit):
            self._end()

    def _main(self) -> None:
        while True:
            with self._lock:
                index = self._next
                self._next += 1
            if self._over.is_set() or index >= len(self._results):
                return
            try:
                result = self._work(index)
            except BaseException as error:
                self._end(error)
                return
            if self._threads[0].forked:
                return  # a function of the program has forked, and this is the child
            with self._lock:
                self._results[index] = result
                self._remaining -= 1
                is_last = self._remaining == 0
            if is_last:
                self._end()

    def _end(self, error: Optional[BaseException] = None) -> None:
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
            results = list(self._results)
        try:
            if error is not None:
                raise error
            self._finish(results)
        except BaseException as failure:
            self.future.set_exception(failure)
        else:
            self.future.set_result(None)
