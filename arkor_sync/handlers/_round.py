"""A few threads that work through a list once, and the future of it."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future
from typing import Callable, Generic, List, Optional, TypeVar

Result = TypeVar("Result")


class Round(Generic[Result]):
    """Owns up to so many daemon threads, which share a piece of work and end with it.

    Threads: `start` once; `stop` from any thread. `work` and `finish` run on its own, in copies of
    the context variables of whoever started it.

    Attributes:
        future: Done when `finish` is; has what that raised.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[int], Result],
        count: int,
        threads: int,
        finish: Callable[[List[Result]], None],
    ) -> None:
        """Make it; nothing runs before `start`.

        Args:
            name: Of the threads.
            work: Called with each number below `count`, several at a time.
            count: How many.
            threads: How many threads at most.
            finish: Called by the last thread with all results in order, unless it was stopped.
        """
        self.future: Future[None] = Future()
        self._work = work
        self._finish = finish
        self._lock = threading.Lock()
        self._next = 0
        self._results: List[Optional[Result]] = [None] * count
        self._left = count
        self._stopped = False
        self._threads = [
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._main,),
                name=f"{name}-{number}",
                daemon=True,
            )
            for number in range(min(count, threads))
        ]

    def start(self) -> Future[None]:
        """Start the threads."""
        for thread in self._threads:
            thread.start()
        return self.future

    def stop(self, _: object = None) -> None:
        """Begin nothing new. What is being worked on is not waited for, and comes to nothing."""
        self._stopped = True

    def _main(self) -> None:
        while True:
            with self._lock:
                index = self._next
                self._next += 1
            if self._stopped or index >= len(self._results):
                return
            try:
                result = self._work(index)
                with self._lock:
                    self._results[index] = result
                    self._left -= 1
                    last = self._left == 0
                if last and not self._stopped:
                    self._finish(self._results)  # type: ignore[arg-type]
                    self.future.set_result(None)
            except BaseException as error:
                with self._lock:
                    if not self._stopped:
                        self.future.set_exception(error)
                    self._stopped = True
                return
