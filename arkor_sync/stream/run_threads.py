"""The threads of one run, which start together or not at all. Runs on the caller's thread."""

from __future__ import annotations

from typing import Callable, Optional

from arkor_sync._common.threads import no_thread
from arkor_sync.stream.abort_watch import AbortWatch
from arkor_sync.stream.reader import Reader
from arkor_sync.stream.worker import Worker

_UNDO = 1.0  # seconds for the threads that have started to end, if one cannot start


class RunThreads:
    """Starts, stops and joins the reader, the worker and, where there is one, the abort watch.

    It is there before they are: a lease can be lost while the run is being made.
    """

    _reader: Reader
    _worker: Worker

    def __init__(self) -> None:
        self._watch: Optional[AbortWatch] = None
        self._complete = False
        self._asked_to_stop = False
        self._stopped = False

    def take(self, reader: Reader, worker: Worker, watch: Optional[AbortWatch]) -> None:
        """Take what is started and stopped. After `stop` they end as soon as they are started."""
        self._reader, self._worker, self._watch = reader, worker, watch
        self._complete = True
        if self._asked_to_stop:  # each side writes before it reads, so that one of them sees both
            self.stop()

    def start(self, job_id: str, abort: Callable[[BaseException], None]) -> None:
        """Start all of them. If one cannot start, end those that have.

        Args:
            job_id: For the error.
            abort: Called with the error; it calls `stop`.

        Raises:
            RunError: The process cannot have another thread. No callback was called.
        """
        try:
            if self._watch is not None:
                self._watch.start()
            self._reader.start()
            self._worker.start()  # last: it calls the callbacks
        except BaseException as error:
            abort(error)
            self.join(_UNDO)
            if not isinstance(error, (RuntimeError, MemoryError)):
                raise
            raise no_thread(f"job {job_id} is not followed", error) from error

    def stop(self) -> None:
        """Have them end. It may be called again: an earlier call may have been interrupted."""
        self._asked_to_stop = True
        if self._stopped or not self._complete:
            return
        self._worker.stop()  # first: it then knows why the reader ends
        self._reader.stop()
        if self._watch is not None:
            self._watch.stop()
        self._stopped = True

    def join(self, limit: float) -> bool:
        """Wait for their end, for so many seconds each; return whether all have ended."""
        ended = self._worker.join(limit) and self._reader.join(limit)
        if self._watch is not None:
            self._watch.join(limit)
        return ended
