"""Begins to follow jobs, a few at a time, so that a slow cloud stops nobody. Any thread."""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, Deque, Sequence, Set, Tuple

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import ProcessLock
from arkor_sync._common.log import get_logger
from arkor_sync._common.threads import OwnThread
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import RunError

logger = get_logger("arkor_sync.follower")

MOST = 8  # threads


class Starters:
    """A few threads, which are there while there is something to begin.

    Args:
        begin: Follows a job, given its id; it sends its request over the transport.
        transport: Makes a transport. That of a thread that begins is closed by `stop`.
        report: Called on these threads with the job, and the run or the exception.
    """

    def __init__(
        self,
        begin: Callable[[str, Transport], Any],
        transport: Callable[[], Transport],
        report: Callable[[str, Any], None],
    ) -> None:
        self._begin = begin
        self._transport = transport
        self._report = report
        self._lock = ProcessLock()
        self._waiting: Deque[str] = deque()
        self._busy: Set[str] = set()
        self._working: Set[Tuple[OwnThread, Transport]] = set()
        self._stopped = False

    def plan(self, choose: Callable[[Set[str]], Sequence[str]]) -> None:
        """Replace what is to begin.

        Args:
            choose: Given the jobs that are being begun, it returns those that are next. No other
                one begins meanwhile.

        Raises:
            RunError: There is no thread for it, and none can start.
        """
        with self._lock():
            self._waiting = deque(choose(set(self._busy)))
            missing = min(MOST, len(self._waiting) + len(self._busy)) - len(self._working)
            for _ in range(0 if self._stopped else missing):
                if not self._start_one():
                    break

    def stop(self, timeout: float) -> None:
        """Begin nothing more, interrupt the requests, and wait for the threads."""
        with self._lock():
            self._stopped = True
            self._waiting.clear()
            working = list(self._working)
        for _, transport in working:
            transport.close()
        deadline = Clock.now() + timeout
        for thread, _ in working:
            thread.join(max(0.0, deadline - Clock.now()))

    def _start_one(self) -> bool:
        transport = self._transport()

        def main() -> None:
            with transport:
                self._work(worker)

        worker = (OwnThread(main, "arkor-starter"), transport)
        self._working.add(worker)
        try:
            worker[0].start()
        except (RuntimeError, MemoryError) as error:
            self._working.discard(worker)
            if not self._working:
                raise RunError(f"no job can be begun, as no thread can start: {error}") from error
            return False
        return True

    def _work(self, worker: Tuple[OwnThread, Transport]) -> None:
        thread, transport = worker
        while True:
            with self._lock():
                if self._stopped or not self._waiting:
                    self._working.discard(worker)
                    return
                job_id = self._waiting.popleft()
                self._busy.add(job_id)
            begun: Any
            try:
                begun = self._begin(job_id, transport)
            except BaseException as error:  # of the program's callbacks, too
                begun = error
            if thread.forked:
                return
            self._report(job_id, begun)
            with self._lock():
                self._busy.discard(job_id)
