"""The events of jobs that somebody looks at, read from the cloud once. Any thread.

A tap reads one job's stream as a run does, with the same reader and the same channel; but it calls
nobody, saves nothing and ends no run. Whole batches go into its columns. However many look at a
job, and however slowly, the cloud has one more stream to send.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Dict, List, Optional

from arkor_sync._common import process
from arkor_sync._common.clock import Clock
from arkor_sync._common.threads import no_thread
from arkor_sync.errors import RunError
from arkor_sync.studio.tap import Bell, Tap

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient

UNWATCHED = 60.0
"""Seconds without a look after which the stream of a job that goes on is given up."""

MOST_BYTES = 256 << 20
"""Memory of jobs that have ended and that nobody looks at any more."""

MOST_OPEN = 64
"""Streams of the cloud; of more, the one that was looked at longest ago is given up."""

_LOST = 60.0  # seconds until a stream that the cloud has refused is asked for again


class Taps:
    """The taps of an application, one for each job that somebody looks at.

    Args:
        client: Asks the cloud.
        clock: Time.

    Attributes:
        bell: Rings when anything has changed, in any tap.
    """

    def __init__(self, client: CloudApiClient, clock: Optional[Clock] = None) -> None:
        self._client = client
        self._clock = clock or Clock()
        self._new()
        process.register_hooks(self)

    def _new(self) -> None:
        self.bell = Bell()
        self._lock = threading.Lock()
        self._taps: Dict[str, Tap] = {}
        self._opening: Dict[str, threading.Lock] = {}

    def tap(self, job_id: str) -> Tap:
        """Return the tap of a job, and note that somebody looks at it.

        Raises:
            NotFoundError: There is no such job.
            CloudApiError: The cloud refused it; or `ArkorConnectionError`.
            RunError: The taps were closed, or no thread can start.
        """
        tap = self._known(job_id)
        if tap is not None:
            return tap
        with self._lock:
            opening = self._opening.setdefault(job_id, threading.Lock())
        with opening:  # many may begin to look at once; one of them opens it
            tap = self._known(job_id)
            if tap is not None:
                return tap
            try:
                return self._open(job_id)
            finally:
                with self._lock:
                    self._opening.pop(job_id, None)

    def close(self, timeout: float = 1.0) -> None:
        """Stop reading, and wake all who wait.

        Args:
            timeout: Seconds to wait for the threads to end.
        """
        with self._lock:
            self.bell.close()
            taps, self._taps = list(self._taps.values()), {}
        for tap in taps:
            tap.close()
        deadline = self._clock.now() + timeout
        for tap in taps:
            tap.join(max(0.0, deadline - self._clock.now()))

    def after_fork(self) -> None:
        """Begin anew in a forked child: the streams are the parent's. The fork hook calls it."""
        for tap in self._taps.values():
            tap.abandon()
        self._new()

    def at_exit(self, timeout: float) -> None:
        """Close them when the interpreter exits. The exit hook calls it."""
        self.close(timeout)

    def _known(self, job_id: str) -> Optional[Tap]:
        now = self._clock.now()
        with self._lock:
            tap = self._taps.get(job_id)
            if tap is None or (tap.ended and tap.connection == "lost" and now - tap.ended >= _LOST):
                return None
            tap.looked = now
            return tap

    def _open(self, job_id: str) -> Tap:
        job = self._client.jobs.get(job_id)
        tap = Tap(self._client, job, self.bell, self._clock, self._is_unwatched)
        with self._lock:
            if self.bell.closed:
                raise RunError("Studio is being closed")
            gone = self._superfluous()
            self._taps[job_id] = tap
        for each in gone:
            each.close()
        try:
            tap.start()
        except (RuntimeError, MemoryError) as error:
            self._forget(tap)
            tap.close()
            raise no_thread(f"job {job_id} is not shown", error) from error
        return tap

    def _is_unwatched(self, tap: Tap) -> bool:
        """Whether a tap is to end, which its reader asks now and then."""
        if self._clock.now() - tap.looked < UNWATCHED:
            return False
        self._forget(tap)
        return True

    def _forget(self, tap: Tap) -> None:
        with self._lock:
            if self._taps.get(tap.job.id) is tap:
                del self._taps[tap.job.id]

    def _superfluous(self) -> List[Tap]:
        """Take out what is too much, those that were looked at longest ago first."""
        now = self._clock.now()
        by_look = sorted(self._taps.items(), key=lambda pair: pair[1].looked)
        ended = [pair for pair in by_look if pair[1].ended]
        memory = sum(tap.log.bytes for _, tap in ended)
        running = len(by_look) - len(ended)
        gone: List[Tap] = []
        for job_id, tap in by_look:
            if tap.ended and memory > MOST_BYTES and now - tap.looked >= UNWATCHED:
                memory -= tap.log.bytes
            elif not tap.ended and running >= MOST_OPEN:
                running -= 1
            else:
                continue
            gone.append(self._taps.pop(job_id))
        return gone
