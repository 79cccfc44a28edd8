"""Looks who follows which job, and takes and gives back. Runs on a thread of its own.

Leases decide who follows a job. What all processes see of each other in the store only decides how
many jobs each of them tries to have.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, List, Set

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import SLICE, Flag
from arkor_sync._common.log import get_logger, try_to_log
from arkor_sync._common.secret import redact
from arkor_sync._common.threads import OwnThread
from arkor_sync._follower_jobs import Job, Jobs
from arkor_sync._follower_starters import Starters
from arkor_sync._follower_troubles import Troubles
from arkor_sync.errors import (
    HANDED_OVER,
    LeaseHeldError,
    LeaseLostError,
    RunAborted,
    StoreUnavailableError,
    text_of,
)
from arkor_sync.stores import LeasedStore
from arkor_sync.stores.backend import Member

logger = get_logger("arkor_sync.follower")

LOOK = 0.5  # seconds between two looks at the store
_JITTER = 0.1  # as a part of it
_SHARE = 0.1  # of the time, for looks; if they are slow, there are fewer
_SELDOM = 5.0  # seconds between two looks at most
_LEAST_MEMBERSHIP, _LONGEST_WAIT = 2.0, 2.0  # seconds
_FULL_FOR = 5.0  # seconds until it is warned of: other processes may be about to join

STORE_GRACE = 10.0
"""Seconds for positions and leases to be stored once the callbacks have ended: it may be many."""


class FollowerLoop:
    """Owns the thread that decides what one process follows.

    Threads: `start` once; `stop` and `join` from any thread.

    Args:
        source: Returns the ids of the jobs.
        begin: Follows a job; see `Starters`.
        transport: Makes a transport for that.
        store: Has the leases.
        most: How many jobs this process follows at most.
        poll: Seconds between two calls of the source.
        grace: Seconds for the callbacks to end when all jobs are handed over.
        clock: Time, for tests.

    Attributes:
        ids: What the source returned last.
        error: What ended the thread, or None.
    """

    def __init__(
        self,
        *,
        source: Callable[[], List[str]],
        begin: Callable[[str, Any], Any],
        transport: Callable[[], Any],
        store: LeasedStore,
        most: int,
        poll: float,
        grace: float,
        clock: Clock,
    ) -> None:
        self.ids: List[str] = []
        self.error: Any = None
        self._source = source
        self._store = store
        self._owner = store.owner
        self._most = most
        self._poll = poll
        self._grace = grace
        self._clock = clock
        self._jobs = Jobs(store.owner, most)
        self._starters = Starters(begin, transport, self._report)
        self._news: Deque[Callable[[], None]] = deque()
        self._wake = Flag()
        self._stopping = False
        self._next_poll = self._next_look = self._next_join = clock.now()
        self._troubles: Dict[str, str] = {}
        self._of_jobs = Troubles(logger.log)
        self._full_since = clock.now()
        self._thread = OwnThread(self._main, "arkor-follower")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Have all jobs handed over, and the thread end. A signal handler may call it."""
        self._stopping = True
        self._wake.set()

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end; return whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def runs(self) -> Dict[str, Any]:
        """The runs that go on, by their jobs."""
        return self._jobs.runs

    def _main(self) -> None:
        try:
            while not self._over():
                self._step_safely()
                next_time = min(self._next_poll, self._next_look)
                self._clock.wait(self._wake, max(0.0, next_time - self._clock.now()))
                self._wake.clear()
        except BaseException as error:  # such as a `SystemExit` in the source
            self.error = error
            if not self._thread.forked:
                try_to_log(logger.error, "no jobs are followed any more", exc_info=error)
        if not self._thread.forked:
            self._hand_over()

    def _over(self) -> bool:
        return self._stopping or self._thread.forked

    def _step_safely(self) -> None:
        try:
            self._step()
        except Exception as error:  # such as one of the program's logging
            try_to_log(logger.error, "following jobs failed, and goes on", exc_info=error)
            self._next_poll = self._next_look = self._clock.now() + LOOK

    def _step(self) -> None:
        self._read_news()
        if self._clock.now() >= self._next_poll:
            self._ask_source()
            self._next_poll = self._clock.now() + self._poll
        if self._clock.now() >= self._next_look and not self._over():
            begin = self._clock.now()
            self._look()
            after = min(_SELDOM, max(LOOK, (self._clock.now() - begin) / _SHARE))
            self._next_look = begin + after * (1 + _JITTER * (2 * self._clock.random() - 1))

    def _ask_source(self) -> None:
        try:
            self.ids = self._source()
        except Exception as error:
            self._trouble("the source of job ids failed; its last answer stands", error)
            return
        self._cured("the source of job ids failed; its last answer stands")
        self._jobs.name(self.ids)

    def _look(self) -> None:
        """Ask the store who follows what, and act on it."""
        try:
            asked = self._jobs.to_look_up(self._clock.now(), self._members())
            holders = self._store.holders(asked)
        except Exception as error:  # the backend may be the program's own
            self._trouble(_STORE, error)
            return
        self._cured(_STORE)
        if self._over():
            return
        self._jobs.look(self._clock.now(), asked, holders)
        try:
            self._starters.plan(self._choose)
        except Exception as error:
            self._trouble("jobs cannot be begun", error)
        else:
            self._cured("jobs cannot be begun")
        self._warn_if_full()
        known = self._jobs.known.items()
        self._of_jobs.tell(self._clock.now(), {each for each, job in known if job.owner is None})

    def _members(self) -> List[Member]:
        """Say that this process follows jobs, and ask who else does.

        A membership is shorter than a lease: when the leases of a process that has died end, it is
        no longer counted, so the others are below their shares.
        """
        now, backend, ttl = self._clock.now(), self._store.backend, self._store.ttl
        if now < self._next_join:
            return backend.members()
        members = backend.join(self._owner, max(_LEAST_MEMBERSHIP, ttl / 2))
        self._next_join = now + min(_LONGEST_WAIT, ttl / 6)
        return members

    def _choose(self, busy: Set[str]) -> List[str]:
        """Give back what is above this process's share, and return what to begin."""
        self._read_news()  # what is no longer being begun has been reported
        plan = self._jobs.decide(self._clock.now(), busy)
        for job in self._jobs.give(plan.give):
            job.run.abort(HANDED_OVER)
        return plan.take

    def _warn_if_full(self) -> None:
        left, what = self._jobs.too_many(), "too many jobs"
        if not left:
            self._full_since = self._clock.now()
            self._troubles.pop(what, None)
        elif self._clock.now() - self._full_since > _FULL_FOR and what not in self._troubles:
            self._troubles[what] = ""
            text = "%d jobs are not followed (processes: %d, max_runs: %d); start more processes"
            logger.warning(text, left, len(self._jobs.members), self._most)

    # What other threads report. They only append to `_news`.

    def _report(self, job_id: str, begun: Any) -> None:
        """Take over what a starter has come to."""
        if isinstance(begun, BaseException):
            self._news.append(partial(self._not_begun, job_id, begun))
        else:
            self._news.append(partial(self._begun, job_id, begun))
            begun.add_done_callback(self._run_ended)
            if self._stopping:
                begun.abort(HANDED_OVER)
        self._wake.set()

    def _run_ended(self, run: Any) -> None:
        self._news.append(partial(self._ended, run))
        self._wake.set()

    def _read_news(self) -> None:
        while self._news:
            self._news.popleft()()

    def _begun(self, job_id: str, run: Any) -> None:
        job = self._jobs.known.setdefault(job_id, Job())
        job.begun(run, self._clock.now())
        logger.info("job %s is followed by this process now", job_id)
        self._of_jobs.followed(job_id)

    def _not_begun(self, job_id: str, error: BaseException) -> None:
        job = self._jobs.known.get(job_id)
        if job is None or self._stopping:
            return
        if isinstance(error, LeaseHeldError):
            job.free_since = None  # another process was faster
        else:
            self._put_off(job_id, job, error)

    def _put_off(self, job_id: str, job: Job, error: BaseException) -> None:
        now = self._clock.now()
        if isinstance(error, StoreUnavailableError):  # perhaps the last holder is just saving
            seconds, job.not_before = LOOK, now + LOOK
        else:
            seconds = job.delay(now)
        if self._is_news(job_id, error):
            what = "job %s cannot be followed yet; it is tried again in %.1f s: %s"
            logger.warning(what, job_id, seconds, _named(error))

    def _is_news(self, job_id: str, error: BaseException) -> bool:
        """Whether a job's trouble is to be logged now; else all jobs that share it are, later."""
        kind = f"{type(error).__name__} {getattr(error, 'status', '')}"
        return self._of_jobs.add(job_id, kind, _named(error), self._clock.now())

    def _ended(self, run: Any) -> None:
        job_id = run.job.id
        job = self._jobs.known.get(job_id)
        if job is None or job.run is not run:
            return
        job.ended(self._clock.now())
        try:
            result = run.wait(0)
        except LeaseLostError as error:
            level = logging.WARNING if self._is_news(job_id, error) else logging.INFO
            logger.log(level, "%s", text_of(error))
        except RunAborted as error:
            if isinstance(error.reason, str) and error.reason == HANDED_OVER:
                logger.info("job %s is no longer followed by this process", job_id)
            else:
                seconds = job.delay(self._clock.now())
                logger.warning("%s; it is followed again in %.0f s", text_of(error), seconds)
        except BaseException as error:
            seconds = job.delay(self._clock.now())
            if run.failure is not None or self._is_news(job_id, error):  # a callback's is its own
                what = "the run of job %s ended with an error; it is followed again in %.0f s"
                logger.error(what, job_id, seconds, exc_info=error)
        else:
            logger.info("job %s has ended: %s", job_id, result.status)
        if not job.named:
            del self._jobs.known[job_id]

    # The end.

    def _hand_over(self) -> None:
        """Stop taking, let the callbacks end, and leave. Each run saves and releases by itself."""
        self._stopping = True
        deadline = self._clock.now() + self._grace
        try:
            self._store.backend.leave(self._owner)  # first: the others then take what is released
        except Exception as error:
            logger.warning("other processes count this one for a while: %s", _named(error))
        self._starters.stop(self._grace)
        self._read_news()
        for run in self.runs.values():
            run.abort(HANDED_OVER)
        while self._waits_for_runs(deadline):
            self._clock.wait(self._wake, SLICE)
            self._wake.clear()
            self._read_news()
        for job_id, run in self.runs.items():
            what = "job %s is not handed over: %s is still running"
            logger.warning(what, job_id, run.health().callback or "a thread of its run")

    def _waits_for_runs(self, deadline: float) -> bool:
        """Whether a run may still end: a callback until the deadline, its last steps for longer."""
        now = self._clock.now()
        if not self.runs or self._thread.forked or now >= deadline + STORE_GRACE:
            return False
        return now < deadline or any(not run.health().callback for run in self.runs.values())

    def _trouble(self, what: str, error: BaseException) -> None:
        """Log a trouble, once until it is another one, or over."""
        kind = type(error).__name__
        if self._troubles.get(what) != kind:
            self._troubles[what] = kind
            logger.warning("%s: %s", what, _named(error))

    def _cured(self, what: str) -> None:
        if self._troubles.pop(what, None) is not None:
            logger.info("no longer: %s", what)


_STORE = "the store cannot be asked; runs go on until their leases end"


def _named(error: BaseException) -> str:
    return redact(f"{type(error).__name__}: {text_of(error)}")
