"""Submits a job so that whoever waits for it can stop waiting. Runs on a thread of its own.

The request and all that comes before it (the sign-in, a lock, the look-up of a name) run on the
thread `arkor-submit`. Waiting is done in slices, so it ends at once for an abort and at a deadline.
Whoever stops waiting without an answer is told what may have become of the job.
"""

from __future__ import annotations

import contextvars
import os
from concurrent.futures import Future, wait
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Tuple

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import SLICE, Flag, ProcessLock
from arkor_sync._common.log import LOG_GRACE, get_logger, note_and_warn
from arkor_sync._common.process import register_hooks
from arkor_sync._common.threads import OwnThread, no_thread
from arkor_sync.errors import ArkorUsageError, RunAborted, WaitTimeout, still_runs, text_of

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.cloud.transport import Transport

logger = get_logger("arkor_sync.run")


def maybe_created(name: str) -> str:
    """Say, for an error message, that a job may exist although no answer has come."""
    return f"the job {name!r} may have been created nevertheless; client.jobs.list() shows it"


class Submitter:
    """Submits one job, once. Any thread may ask for it; after an error it may be asked for again.

    Attributes:
        job: The job, once the cloud has accepted it.
        key: With which key `submitting.submit` submits the job, instead of this object; or None.
        found: The id of the job that was submitted so, once it is known.
    """

    def __init__(
        self,
        client: Any,
        name: str,
        config: Mapping[str, Any],
        aborted: Callable[[], Optional[Tuple[object]]],
    ) -> None:
        """Submit nothing yet.

        Args:
            client: The `CloudApiClient`.
            name: The job's name.
            config: The job's configuration.
            aborted: Returns the reason in a tuple once the job is not wanted any more.
        """
        self.job: Optional[TrainingJob] = None
        self.key: Optional[str] = None
        self.found: Optional[str] = None
        self._client = client
        self._name = name
        self._config = config
        self._aborted = aborted
        self._lock = ProcessLock()
        self._running: Dict[int, _Submission] = {}  # by process: a forked child has no such thread
        self._told_unfollowed = False
        self._gave_up = False  # whether somebody stopped waiting for an answer that may still come

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_running": {}}

    @property
    def job_id(self) -> Optional[str]:
        """The job's id, once it is known."""
        return self.found if self.job is None else self.job.id

    def submit(self, deadline: Optional[float]) -> TrainingJob:
        """Submit the job unless that was done, or wait for the thread that does it.

        Args:
            deadline: When to stop waiting, on the monotonic clock. The submission goes on.

        Raises:
            RunAborted: It is not wanted any more. The message says whether it may exist.
            WaitTimeout: The deadline has passed.
            Exception: See `Jobs.create`.
        """
        if self.job is None and self.key is not None:
            if self.found is None:
                raise ArkorUsageError(
                    f"{self._name!r} has a key: it is not known yet whether its job was created; "
                    f"call submit(trainer, key={self.key!r}, ...) again first"
                )
            self.job = self._client.jobs.get(self.found)
        submission = self._start()
        if submission is None:
            assert self.job is not None
            return self.job
        try:
            submission.wait(deadline, self._aborted)
            self.job = submission.result()
        except WaitTimeout:
            raise
        except BaseException as error:
            gave_up = isinstance(error, RunAborted) or not submission.done
            submission.leave(error)
            with self._lock():
                self._gave_up = self._gave_up or gave_up
                self.job = self.job or submission.job
                if self._running.get(os.getpid()) is submission:  # not that of another thread
                    del self._running[os.getpid()]
            raise
        return self.job

    def tell_unfollowed(self, error: BaseException, warn: bool) -> None:
        """Say with an error, and once also in the log, that nobody follows the job, which goes on.

        Args:
            error: Why it is not followed. A program may try again and again.
            warn: Whether the log is to be told; not if the run has told it.
        """
        assert self.job is not None
        told, self._told_unfollowed = self._told_unfollowed, True
        note_and_warn(error, still_runs(self.job.id), warn=warn and not told)

    def _start(self) -> Optional[_Submission]:
        pid = os.getpid()
        with self._lock():
            if self.job is not None:
                return None
            if pid not in self._running:
                aborted = self._aborted()
                if aborted:
                    message = f"{self._name!r} was aborted before it was submitted"
                    if self._gave_up:
                        message = f"{self._name!r} was aborted while it was submitted; "
                        message += maybe_created(self._name)
                    raise RunAborted(message, *aborted)
                self._running[pid] = _Submission(self._client, self._name, self._config)
            return self._running[pid]


class _Submission:
    """One request, and the thread that makes it.

    Attributes:
        job: The job, once the cloud has accepted it.
    """

    def __init__(self, client: Any, name: str, config: Mapping[str, Any]) -> None:
        self._client = client
        self.job: Optional[TrainingJob] = None
        self._name = name
        self._config = config
        self._pid = os.getpid()
        self._told = count()  # 0 until somebody knows what became of it
        self._transport: Transport = client.transport()
        self._outcome: Future[TrainingJob] = Future()
        self._logged = Flag()
        try:
            OwnThread(partial(contextvars.copy_context().run, self._main), "arkor-submit").start()
            register_hooks(self)
        except (RuntimeError, MemoryError) as error:
            raise no_thread("the job is not submitted", error) from error
        except BaseException as interruption:  # Ctrl-C, as the thread begins
            self.leave(interruption)
            raise

    def _main(self) -> None:
        try:
            with self._transport as transport:
                job = self._client.jobs.create(self._name, self._config, transport=transport)
        except BaseException as error:  # of any kind: threads wait for it
            self._outcome.set_exception(error)
            return
        self.job = job
        self._outcome.set_result(job)  # before the line: whoever waits may hold a lock of logging
        try:
            logger.info("job %s (%s) was submitted", job.id, job.name)
        finally:  # a filter of the program's logging may raise
            self._logged.set()

    @property
    def done(self) -> bool:
        """Whether it is known what became of it."""
        return self._outcome.done()

    def result(self) -> TrainingJob:
        """Return the job, or raise what the request raised. It is done.

        It is waited for a moment until the log tells of the job: its first line is to come first.
        """
        job = self._outcome.result()
        self._logged.wait_in_slices(LOG_GRACE)
        next(self._told)
        return job

    def leave(self, error: BaseException, why: str = "") -> None:
        """End the request, and say with an error and in the log what may have become of the job.

        Args:
            error: Why nobody waits any longer, or what the request raised.
            why: The same for the log.
        """
        self._transport.close()
        note = maybe_created(self._name)
        if self.job is not None:
            note = still_runs(self.job.id)
        elif self.done and note not in text_of(self._outcome.exception()):
            return  # the cloud has refused it, or it was not sent
        if next(self._told) == 0:
            note_and_warn(error, note, why)

    def after_fork(self) -> None:
        """Do nothing: in the child nobody waits for it."""

    def at_exit(self, timeout: float) -> Optional[str]:  # noqa: ARG002
        """Say what may have become of the job, if nobody knows. The exit hook calls it."""
        if os.getpid() == self._pid:
            self.leave(SystemExit(), "the interpreter exits")
        return None

    def wait(
        self, deadline: Optional[float], aborted: Callable[[], Optional[Tuple[object]]]
    ) -> None:
        """Wait until it is done; raise if whoever waits must not wait any longer."""
        while not wait([self._outcome], self._slice(deadline)).done:
            reason = aborted()
            if reason:
                self._abort(reason)
            elif deadline is not None and Clock.now() >= deadline:
                raise WaitTimeout(f"{self._name!r} is still being submitted; wait again")

    @staticmethod
    def _slice(deadline: Optional[float]) -> float:
        left = SLICE if deadline is None else deadline - Clock.now()
        return max(0.0, min(SLICE, left))

    def _abort(self, reason: Tuple[object]) -> None:
        """End the request, unless its answer comes at the same moment."""
        self._transport.close()
        message = f"{self._name!r} was aborted while it was submitted"
        if not wait([self._outcome], SLICE).done:
            raise RunAborted(f"{message}; {maybe_created(self._name)}", *reason)
        error = self._outcome.exception()
        if error is not None:
            raise RunAborted(f"{message}: {error}", *reason) from error
