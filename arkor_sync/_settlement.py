"""How a run comes to its end, once: by its last event, an error, an abort or a stop. Any thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from itertools import count
from typing import Any, Callable, Iterator, List, Optional, Tuple

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import SLICE, Flag
from arkor_sync._common.log import LOG_GRACE, get_logger, note_and_warn
from arkor_sync._notebook_cell import WaitingCell
from arkor_sync._run_health import in_words
from arkor_sync.errors import LeaseLostError, RunAborted, RunError, WaitTimeout, still_runs, text_of
from arkor_sync.stream.awaiting import Interrupted
from arkor_sync.stream.current_call import CurrentCall
from arkor_sync.stream.error_policy import Failure

logger = get_logger("arkor_sync.run")

_SLICE = 4 * SLICE  # seconds; a run is waited for long, and each wake-up may delay an event


class Settlement:
    """Fixes the end of one run, and has others wait for it.

    Args:
        run: The run; the functions of `add_done_callback` are called with it.

    Attributes:
        settled: Whether the end is fixed.
        error: What `wait()` raises then, or None.
        failure: The callback's failure that ended the run, or None.
        aborted: The reason of an abort, and when it was asked for (`Clock.now`); or None.
        cancelled: Whether the cloud has said that it ends the job, or that the job has ended.
        silent: Whether the log is told nothing of the end: who follows many jobs tells it.
        cell: The cell of a notebook that waits.
    """

    def __init__(self, run: Any) -> None:
        self.settled = False
        self.failure: Optional[Failure] = None
        self._run = run
        self.error: Optional[BaseException] = None
        self.aborted: Optional[Tuple[object, float]] = None
        self.cancelled = False
        self.silent = False
        self.cell = WaitingCell()
        self._stopping = 0  # requests to cancel that the cloud has not answered yet
        self._callbacks: List[Callable[[Any], None]] = []
        self._told = count()  # 0 until somebody says in the log that the job goes on
        self._is_told = Flag()
        self._tellers = 0  # threads that wait for the end, and say it themselves
        self.renew_lock()

    def renew_lock(self) -> None:
        """Replace the locks, in a forked child: the thread that held one does not exist there."""
        # Held by its own `with`, as in `Flag`; a signal handler may take it twice.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self.cell.renew_lock()

    def abort(self, reason: object, unless: Callable[[], bool] = lambda: False) -> bool:
        """Ask for the end; return False if it is fixed, or asked for, already.

        Args:
            reason: Why.
            unless: Called under the lock; if it returns true, nothing is asked for.
        """
        with self._lock:
            if self.settled or self.aborted is not None or unless():
                return False
            self.aborted = (reason, Clock.now())
            self._changed.notify_all()
            return True

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Mark that the cloud is being asked to cancel the job; see `finish_stop`."""
        with self._lock:
            self._stopping += 1
        try:
            yield
        finally:
            with self._lock:
                self._stopping -= 1
                self._changed.notify_all()

    def finish_stop(self) -> None:
        """Wait until no request to cancel is under way: the stream may tell of its effect first.

        Raises:
            Interrupted: The run was stopped or aborted.
        """
        with self._lock:
            while self._stopping and self.aborted is None:
                self._changed.wait(SLICE)
            if self.aborted is not None:
                raise Interrupted

    @property
    def leaves_job(self) -> bool:
        """Whether the job goes on without this run: it has not ended and was not cancelled."""
        return self._run.outcome is None and not self.cancelled

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Wait for the end inside; then say that the job goes on, if it does.

        No other thread does so meanwhile: the waiting one may hold a lock of logging, in a signal
        handler, and the thread that settles the run must not wait for that lock.
        """
        with self._lock:
            self._tellers += 1
        try:
            yield
        finally:
            with self._lock:
                self._tellers -= 1
            if self.settled and self.error is not None:
                self.tell(self.error)

    def tell(self, error: BaseException, log: bool = True) -> None:
        """Say with the error that the job goes on, if it does; and once also in the log.

        Args:
            error: What ends the run, or the waiting for it.
            log: Whether the log is told. The log may block.
        """
        if not self.leaves_job or self.silent:
            return
        note = still_runs(self._run.job.id)
        reason = self.aborted[0] if self.aborted else error
        why = "abort() or close()" if reason is None else text_of(reason)
        if isinstance(reason, BaseException):
            why = type(reason).__name__
        first = log and next(self._told) == 0
        try:
            note_and_warn(error, note, f"why this run ended: {why}", first)
        finally:
            if first:
                self._is_told.set()
        if log:
            self._is_told.wait_in_slices(LOG_GRACE)  # another thread may be about to write it

    def aborted_error(self, current: CurrentCall) -> RunError:
        """Build what `wait()` raises after an abort.

        Args:
            current: Knows the callback that is still running, and what it is doing.
        """
        callback = current.get()
        job_id = self._run.job.id
        reason = self.aborted and self.aborted[0]
        if isinstance(reason, LeaseLostError):
            return reason
        message = f"stopped following job {job_id}"
        if reason is not None:
            message += f" (reason: {text_of(reason, repr)})"
        if self.leaves_job:
            message += f"; {still_runs(job_id)}"
        if callback is None:
            return RunAborted(message, reason)
        message += f"; {callback.callback} for event {callback.event.id} is still running:"
        return RunAborted(message, reason, callback.callback, current.stack())

    def settle(self, error: Optional[BaseException], failure: Optional[Failure]) -> bool:
        """Fix the end; return False if it was fixed before. `call_back` is to follow.

        It logs nothing: a log may block, or raise.
        """
        if error is not None:
            self.tell(error, log=False)
        with self._lock:
            if self.settled:
                return False
            self.error = error
            self.failure = failure
            self.settled = True
            self._changed.notify_all()
            return True

    def add_done_callback(self, function: Callable[[Any], None]) -> None:
        """Have a function called by `call_back`, or at once where the end is fixed already."""
        with self._lock:
            if not self.settled:
                self._callbacks.append(function)
                return
        interruption = self._call(function)
        if interruption is not None:
            raise interruption

    def call_back(self) -> Optional[BaseException]:
        """Call the functions that were to be called at the end; then tell, if nobody waits.

        Returns:
            The last exception of one that was no `Exception`, such as a Ctrl-C at this moment.
        """
        interruption: Optional[BaseException] = None
        while self._callbacks:  # one by one: if a Ctrl-C ends this, a later call does the rest
            interruption = self._call(self._callbacks.pop(0)) or interruption
        with self._lock:
            awaited = self._tellers > 0
        if self.error is not None and not awaited:
            self.tell(self.error)
        return interruption

    def _call(self, function: Callable[[Any], None]) -> Optional[BaseException]:
        try:
            function(self._run)
        except BaseException as error:  # even `sys.exit()` in one must not skip the others
            logger.exception("a done callback of job %s failed", self._run.job.id)
            return None if isinstance(error, Exception) else error
        return None

    def wait(
        self, deadline: Optional[float], abort_grace: float, check: Callable[[], None]
    ) -> bool:
        """Wait until the end is fixed.

        Args:
            deadline: On `Clock.now`; None for no limit.
            abort_grace: Seconds to go on waiting after an abort.
            check: Called again and again; what it raises ends the wait.

        Returns:
            False if the grace of an abort is over and the end is still not fixed.

        Raises:
            WaitTimeout: The deadline has passed.
        """
        lock, changed = self._lock, self._changed  # a fork replaces them
        with self.cell, lock:
            while not self.settled:
                check()
                now = Clock.now()
                if deadline is not None and now >= deadline:
                    job, doing = self._run.job, in_words(self._run.health())
                    raise WaitTimeout(f"job {job.id} is still {job.status}; {doing}")
                limits = [_SLICE]
                if deadline is not None:
                    limits.append(deadline - now)
                if self.aborted is not None:
                    grace = self.aborted[1] + abort_grace - now
                    if grace <= 0:
                        return False
                    limits.append(grace)
                changed.wait(min(limits))
            return True
