"""A cursor store for several machines: fenced leases that are renewed together. Any thread.

The rules, whatever the backend:

* A lease has an epoch, one higher than the lease before. Every save names it, and the backend
  refuses a lower one. So a holder that was paused and comes back changes nothing.
* A lease lasts `ttl` seconds on the server's clock. One thread renews all leases of the process at
  a third of that. It counts from before a renewal was asked for, and gives a lease up on its own
  side before the server does.
* Nothing that waits for the server waits longer than the lease lasts.
"""

from __future__ import annotations

import os
import socket
from typing import Callable, Dict, List, Optional, TypeVar

from arkor_sync._common.arguments import check, is_seconds
from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import Flag, ProcessLock
from arkor_sync._common.log import get_logger, try_to_log
from arkor_sync._common.process import register_hooks
from arkor_sync._common.threads import OwnThread, no_thread
from arkor_sync.errors import (
    CursorStoreError,
    LeaseLostError,
    StoreUnavailableError,
    text_of,
)
from arkor_sync.stores.backend import Backend, Holder, Member, Save
from arkor_sync.stores.base import SavedCursor, decode_position, encode_cursor
from arkor_sync.stores.batching import MOST, Batching

logger = get_logger("arkor_sync.stores")

LEAST_TTL, MOST_TTL = 1.0, 3600.0
RETRY = 0.25  # seconds between two attempts to reach the server
_LANES = 2  # leases that are taken or given back at the same time

_Answer = TypeVar("_Answer")
OnLost = Callable[[LeaseLostError], None]


class Reservation:
    """One run's lease on a job, in this process.

    Attributes:
        job_id: The job.
        epoch: The lease's fence.
        saved: What an earlier run left.
    """

    def __init__(self, store: LeasedStore, job_id: str, on_lost: OnLost) -> None:
        self._store = store
        self.job_id = job_id
        self._on_lost = on_lost
        self._lost: Optional[LeaseLostError] = None
        with store.lane(job_id)():
            asked = Clock.now()
            taken = store.backend.take(job_id, store.owner, store.ttl)
        self.epoch = taken.epoch
        self.renewed(asked)
        try:
            self.saved = decode_position(job_id, taken.text)
        except BaseException:
            store.backend.release(job_id, store.owner, taken.epoch)
            raise

    def renewed(self, asked: float) -> None:
        """Count from when the renewal was asked for: the server's time began later."""
        self.ends = asked + self._store.ttl * 5 / 6

    def lose(self, why: str) -> None:
        """Give the lease up, and have the run end."""
        if self._lost is None:
            self._lost = LeaseLostError(
                f"job {self.job_id} is no longer followed by this process (epoch {self.epoch}): "
                f"{why}"
            )
            self._on_lost(self._lost)

    def save(self, saved: SavedCursor) -> None:
        """Keep a position. It is committed when this returns, or with the thread's transaction.

        While the server cannot be reached, it is tried again until the lease ends.

        Raises:
            LeaseLostError: The lease has ended, or another process has it. Nothing is changed.
            CursorStoreError: It cannot be kept.
        """
        backend, text = self._store.backend, encode_cursor(self.job_id, saved)
        save = Save(self.job_id, self.epoch, text, saved.finished, self._store.owner)
        self._check()
        if backend.joined:
            accepted = not backend.save([save])
        else:
            accepted = self._until_it_ends(lambda: self._store.batching.save(save))
        if not accepted:
            self.lose("another process has taken it over")
            self._check()

    def load(self) -> SavedCursor:
        """Return what is saved. While the server cannot be reached, it is tried again.

        Raises:
            LeaseLostError: The lease has ended.
            CursorStoreError: It cannot be read.
        """
        text = self._until_it_ends(lambda: self._store.backend.load(self.job_id))
        return decode_position(self.job_id, text)

    def _until_it_ends(self, act: Callable[[], _Answer]) -> _Answer:
        """Ask the server until it answers, or until the lease ends."""
        is_told = False
        while True:
            try:
                return act()
            except StoreUnavailableError as error:
                if not is_told:
                    logger.warning("job %s: the store does not answer yet: %s", self.job_id, error)
                is_told = True
            Flag().wait(min(RETRY, max(0.0, self.ends - Clock.now())))
            self._check()

    def _check(self) -> None:
        """Raise if the lease has ended or was lost."""
        if self._lost is None and Clock.now() >= self.ends:
            self.lose("the lease could not be renewed in time")
        if self._lost is not None:
            raise self._lost

    def release(self) -> None:
        """Give the lease back. A second call does nothing."""
        store = self._store
        if store.forget(self):
            with store.lane(self.job_id)():
                store.backend.release(self.job_id, store.owner, self.epoch)


class LeasedStore:
    """Keeps positions in a server that several machines share, and lets one run follow each job.

    It is given as `cursor_store`. One object serves all runs of a process, in any thread.

    Args:
        backend: Keeps everything.
        ttl: Seconds that a lease lasts without a renewal. So long after a machine has died another
            one may follow its jobs. From 1 to 3600.

    Attributes:
        owner: This process, as text for people; unique.
    """

    def __init__(self, backend: Backend, ttl: float = 15.0) -> None:
        fits = is_seconds(ttl) and LEAST_TTL <= ttl <= MOST_TTL
        check("ttl", ttl, fits, f"seconds from {LEAST_TTL:g} to {MOST_TTL:g}")
        self.backend = backend
        self.ttl = float(ttl)
        self.batching = Batching(backend.save)
        self._lock = ProcessLock()
        self._lanes = [ProcessLock() for _ in range(_LANES)]
        self._begin()
        register_hooks(self)

    def _begin(self) -> None:
        host = socket.gethostname()
        self.owner = f"process {os.getpid()} on {host} ({os.urandom(4).hex()})"
        self._reservations: Dict[str, Reservation] = {}
        self._renewer: Optional[OwnThread] = None
        self._wake = Flag()
        self._is_told = False  # that leases cannot be renewed

    def load(self, job_id: str) -> SavedCursor:
        """Return what was saved last, or an empty `SavedCursor`."""
        return decode_position(job_id, self.backend.load(job_id))

    def reserve(self, job_id: str, on_lost: OnLost) -> Reservation:
        """Take the lease on a job, and keep it renewed.

        Args:
            job_id: The job.
            on_lost: Called once if the lease is lost, on the thread that renews or saves. It has to
                return at once.

        Raises:
            LeaseHeldError: Another run has it.
            StoreUnavailableError: The server cannot be reached.
            CursorStoreError: What is stored cannot be used. It is not changed.
        """
        reservation = Reservation(self, job_id, on_lost)
        try:
            with self._lock():
                former = self._reservations.get(job_id)
                self._reservations[job_id] = reservation
                self._start_renewing()
            if former is not None:  # its lease ended, or the server has lost it
                former.lose("another run of this process has taken it over")
        except BaseException:
            reservation.release()
            raise
        return reservation

    def holders(self, job_ids: Optional[List[str]] = None) -> List[Holder]:
        """Look up who follows these jobs, at which epoch and since when; or all jobs."""
        if job_ids is None:
            return self.backend.holders(None)
        found: List[Holder] = []
        for begin in range(0, len(job_ids), MOST):
            found += self.backend.holders(job_ids[begin : begin + MOST])
        return found

    def members(self) -> List[Member]:
        """Look up the processes that follow jobs (`Follower`)."""
        return self.backend.members()

    def prune(self, days: float = 90.0) -> int:
        """Remove what is kept of jobs that were finished at least so many days ago.

        A key of `submit` is forgotten with its job: the next `submit` with it sends a new one. And
        a `Follower` whose source still names such a job begins it again. So choose more days than
        the same key, or the same job, may come back in. Nothing else is removed: no submission that
        is not settled, and no job that is not finished or that is followed now.

        Args:
            days: How many, from 1.

        Returns:
            The number of jobs.
        """
        check("days", days, is_seconds(days) and days >= 1, "days from 1")
        return self.backend.prune(days * 86400.0)

    def lane(self, job_id: str) -> ProcessLock:
        """Return the lock of who takes or gives back a lease, so that few do so at a time."""
        return self._lanes[hash(job_id) % _LANES]

    def forget(self, reservation: Reservation) -> bool:
        """Renew a lease no more; return whether it was renewed until now."""
        with self._lock():
            if self._reservations.get(reservation.job_id) is not reservation:
                return False
            del self._reservations[reservation.job_id]
            if not self._reservations:
                self._wake.set()  # the renewer ends
            return True

    def close(self) -> None:
        """Close the connections to the server, and renew no more: leases that are held will end."""
        with self._lock():
            self._reservations = {}
            self._wake.set()
        self.backend.close()

    def after_fork(self) -> None:
        """Hold nothing in a forked child: leases and connections are the parent's."""
        self.backend.after_fork()
        self.batching.after_fork()
        self._begin()

    def at_exit(self, timeout: float) -> None:  # noqa: ARG002
        """Close the connections. The runs, which end before it, have released their leases."""
        self.backend.close()

    def _start_renewing(self) -> None:
        if self._renewer is not None:
            return
        renewer = OwnThread(self._renew_until_idle, "arkor-renew")
        try:
            renewer.start()
        except (RuntimeError, MemoryError) as error:
            raise no_thread("the lease cannot be renewed", error) from error
        self._renewer = renewer

    def _renew_until_idle(self) -> None:
        delay = self.ttl / 3
        while True:
            self._wake.wait(delay)
            with self._lock():
                self._wake.clear()
                if not self._reservations:
                    self._renewer = None
                    return
                reservations = list(self._reservations.values())
            complete = False
            try:
                complete = self._renew(reservations)
            except Exception as error:  # of the program's logging, such as when a run is ended
                try_to_log(logger.error, "renewing leases failed, and goes on", exc_info=error)
            delay = self.ttl / 3 if complete else min(RETRY, self.ttl / 15)

    def _renew(self, reservations: List[Reservation]) -> bool:
        """Renew leases; return False if it has to be tried again soon."""
        complete = True
        for begin in range(0, len(reservations), MOST):
            part = [each for each in reservations[begin : begin + MOST] if self._is_due(each)]
            asked = Clock.now()
            try:
                leases = [(each.job_id, each.epoch) for each in part]
                held = self.backend.renew(leases, self.owner, self.ttl)
            except Exception as error:  # whatever it is, the leases go on until they end
                is_known = isinstance(error, CursorStoreError)
                text = text_of(error) if is_known else f"{type(error).__name__}: {text_of(error)}"
                if not self._is_told:
                    logger.warning("leases could not be renewed: %s", text)
                self._is_told, complete = True, False
                continue
            self._is_told = False
            for each in part:
                if each.job_id in held:
                    each.renewed(asked)
                elif self.forget(each):
                    each.lose("another process has taken it over, or it had ended")
        return complete

    def _is_due(self, reservation: Reservation) -> bool:
        if Clock.now() < reservation.ends:
            return True
        if self.forget(reservation):
            reservation.lose("the lease could not be renewed in time")
        return False
