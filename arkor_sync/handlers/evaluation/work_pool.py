"""A few threads that work through a list once, and the future of it."""

from __future__ import annotations

import contextvars
import logging
import threading
from concurrent.futures import Future
from typing import Callable, Generic, List, Optional, TypeVar

logger = logging.getLogger("arkor_sync.handlers")

Result = TypeVar("Result")


class Round(Generic[Result]):
    """Owns up to so many daemon threads, which share a piece of work and end with it.

    One thread more watches the time: a future that nobody resolves would hold a run up for ever.

    Threads: `start` once; `stop` from any thread. `work` and `finish` run on its own, in copies of
    the context variables of whoever started it.

    Attributes:
        future: Done when `finish` is; has what that, or the work, raised.
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
        """Make it; nothing runs before `start`.

        Args:
            name: Of the threads.
            work: Called with each number below `count`, several at a time.
            count: How many.
            threads: How many threads at most.
            limit: Seconds after which it is finished with what there is.
            finish: Called once with the results in order, None where there is none, unless it was
                stopped. What is still being worked on then comes to nothing.
        """
        self.future: Future[None] = Future()
        self._work = work
        self._limit = limit
        self._finish = finish
        self._lock = threading.Lock()
        self._next = 0
        self._results: List[Optional[Result]] = [None] * count
        self._left = count
        self._over = threading.Event()
        mains = [self._watch, *[self._main] * min(count, threads)]
        self._threads = [
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(main,),
                name=f"{name}-{number}",
                daemon=True,
            )
            for number, main in enumerate(mains)
        ]

    def start(self) -> Future[None]:
        """Start the threads. Where the process can have no more, it is finished as it is."""
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            logger.warning("%s: %s", self._threads[0].name, str(error))
            self._end()
        return self.future

    def stop(self) -> None:
        """Begin nothing new. What is being worked on is not waited for, and comes to nothing."""
        self._over.set()

    def _watch(self) -> None:
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
            with self._lock:
                self._results[index] = result
                self._left -= 1
                last = self._left == 0
            if last:
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
