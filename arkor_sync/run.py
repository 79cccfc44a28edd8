"""One followed job: it owns both threads and comes to one end. Any thread.

A run is used from any thread. It settles when the worker thread is done, and what it settled with
is what every `wait()` returns or raises from then on.
"""

from __future__ import annotations

import contextvars
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from arkor_sync._common import process
from arkor_sync._common.arguments import check_timeout
from arkor_sync._common.clock import Clock
from arkor_sync._common.log import Lines, get_logger, try_to_log
from arkor_sync._inference import Inference, final_or_checkpoint
from arkor_sync._preload import import_for_the_threads
from arkor_sync._run_control import RunControl
from arkor_sync._run_health import run_health
from arkor_sync._run_record import RunRecord
from arkor_sync._settlement import Settlement
from arkor_sync.callbacks import flatten, handler_table, stateful
from arkor_sync.errors import (
    ArkorUsageError,
    ConflictError,
    ForkedRunError,
    RunError,
    WaitTimeout,
)
from arkor_sync.history import History
from arkor_sync.options import RunOptions
from arkor_sync.result import RunHealth, TrainingResult
from arkor_sync.stream.abort_watch import AbortWatch
from arkor_sync.stream.awaiting import Interrupted
from arkor_sync.stream.channel import Channel
from arkor_sync.stream.cursor import Cursor
from arkor_sync.stream.error_policy import ErrorPolicy, Failure
from arkor_sync.stream.job_end import terminal_event
from arkor_sync.stream.lease import Lease
from arkor_sync.stream.reader import Reader
from arkor_sync.stream.reconnect import ReconnectPolicy
from arkor_sync.stream.run_threads import RunThreads
from arkor_sync.stream.worker import Worker

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob

logger = get_logger("arkor_sync.run")


class Run(Inference):
    """A job that is being followed. `Trainer.follow` and `follow` make it; its threads run.

    `infer` chats with a checkpoint, also while the job goes on, or with the final model.

    Attributes:
        client: The client that it talks to the cloud with.
    """

    def __init__(self, client: CloudApiClient, job: TrainingJob, options: RunOptions) -> None:
        self.client = client
        self._record = RunRecord(job, self, options.max_history_bytes)
        self._options, self._clock = options, options.clock
        self._pid = os.getpid()
        self._settlement = Settlement(self)
        self._awaited = False
        cell = self._settlement.cell
        self._handlers = handler_table((cell.callbacks, *flatten(options.callbacks)))
        self._transport = client.transport()
        states = stateful(options.callbacks)
        self._threads = RunThreads()
        self._lease = Lease(options.cursor_store, job.id, states, self.abort, options.lease_wait)
        with ExitStack() as undo:
            undo.callback(self._lease.release)
            cursor = Cursor(self._lease.position)
            self._channel = Channel(
                cursor,
                options.max_buffered_events,
                options.max_buffered_bytes,
                on_stall=lambda: self._worker.current.warn_if_stuck(),
            )
            self._reader = Reader(
                open_stream=lambda **how: client.jobs.events(job.id, **how),
                read_job=lambda **how: client.jobs.get(job.id, **how),
                transport=self._transport,
                channel=self._channel,
                policy=options.reconnect or ReconnectPolicy(),
                stale_after=options.stale_after,
                max_event_bytes=options.max_event_bytes,
                clock=self._clock,
                label=job.id,
                on_idle=lambda: self._worker.current.warn_if_stuck(),
            )
            self._worker = Worker(
                channel=self._channel,
                handlers={} if self._lease.saved.finished else self._handlers,
                policy=options.error_policy or ErrorPolicy.abort(),
                record=self._record,
                control=RunControl(self),
                lease=self._lease,
                around=options.around,
                context=contextvars.copy_context(),
                clock=self._clock,
                label=job.id,
            )
            event = options.abort_event
            watch = None if event is None else AbortWatch(event, self.abort, job.id)
            self._threads.take(self._reader, self._worker, watch)
            undo.pop_all()

    def start(self) -> Run:
        """Start the threads. `Trainer.follow` and `follow` have done so already.

        Raises:
            RunError: No thread can start. Nothing of the run is left, its lease neither.
        """
        process.register_hooks(self)
        end = terminal_event(self.job)
        self._settlement.cancelled = end is not None
        if self._lease.saved.finished and end is not None:
            # Another process has delivered everything, the last event included.
            self._record.apply(end)
            self._worker_done(None, None)
            return self
        try:
            import_for_the_threads()
            if end is not None:
                self._reader.expect_end()  # nothing but what the stream still has will come
            self._threads.start(self.job.id, self.abort)
        except BaseException as error:
            self.abort(error)
            self._lease.release()
            self._settle(error, None)
            raise
        return self

    @property
    def job(self) -> TrainingJob:
        """The job as of the last event whose callbacks began."""
        return self._record.job

    @property
    def failure(self) -> Optional[Failure]:
        """The callback's failure that ended the run, or None."""
        return self._settlement.failure

    @property
    def outcome(self) -> Optional[TrainingResult]:
        """What the cloud said, from the terminal event on; None before.

        It is there even if a callback's exception ended the run.
        """
        return self._record.outcome

    @property
    def history(self) -> History:
        """The metrics and checkpoints so far."""
        return self._record.history

    def wait(self, timeout: Optional[float] = None) -> TrainingResult:
        """Block until the job has ended and every callback is done.

        Args:
            timeout: Seconds, or None for as long as it takes.

        Returns:
            The result, for any terminal status: see `raise_for_status()`.

        Raises:
            WaitTimeout: The time is over. The run goes on.
            RunAborted: The run was aborted.
            ReconnectExhausted: The stream could not be kept open.
            CloudApiError: The cloud refused the stream for good.
            ForkedRunError: The run belongs to the parent process.
            Exception: What a callback raised, where the error policy says that it ends the run.
        """
        check_timeout(timeout)
        self._check_process()
        if self._worker.is_current():
            raise ArkorUsageError("wait() in a callback would wait for itself")
        deadline = None if timeout is None else Clock.now() + timeout
        self._awaited = True
        try:
            with self._settlement.telling():
                self._wait_until_settled(deadline)
        except (WaitTimeout, ForkedRunError):
            raise
        except BaseException as interruption:  # Ctrl-C, or what a signal handler raises
            self.abort(interruption)
            self._settlement.tell(interruption)
            raise
        if self._settlement.error is not None:
            raise self._settlement.error
        assert self.outcome is not None
        return self.outcome

    result = wait

    def done(self) -> bool:
        """Whether the run has settled: `wait()` then returns, or raises, at once."""
        return self._settlement.settled

    def abort(self, reason: object = None) -> None:
        """Stop following. It returns at once, and is legal in a callback. The job goes on.

        A warning in the log (`arkor_sync.run`) has the job's id, unless it was cancelled before.
        `wait()` raises `RunAborted`, after a running callback or `abort_grace` has ended. If that
        callback is the job's last, its result stands.

        Args:
            reason: Kept as `RunAborted.reason`.
        """
        if os.getpid() != self._pid:
            return
        self._settlement.abort(reason)
        self._threads.stop()  # also if it was aborted before: a Ctrl-C may have ended that halfway

    def close(self, timeout: Optional[float] = None) -> None:
        """Abort, and wait for the threads to end. After the end of the run it only tidies up.

        In a callback it does not wait.

        Args:
            timeout: Seconds for the threads to end; by default `abort_grace`.
        """
        check_timeout(timeout)
        if os.getpid() != self._pid:
            return
        limit = self._options.abort_grace if timeout is None else timeout
        with self._settlement.telling():
            self.abort()
            if self._worker.is_current() or self._threads.join(limit):
                return
        logger.warning("job %s: a thread did not end within %.1f s", self.job.id, limit)
        self._settlement.tell(self._aborted())

    def after_fork(self) -> None:
        """Act no more in a forked child: run and lease are the parent's. The fork hook calls it."""
        self._settlement.renew_lock()
        self._transport.abandon()
        self._worker.abandon()
        for handlers in self._handlers.values():
            handlers.clear()  # one of these lists may be what the worker goes through

    def at_exit(self, timeout: float) -> Optional[str]:
        """Abort when the interpreter exits. The exit hook calls it."""
        if os.getpid() != self._pid:
            return None
        self.abort("the interpreter exits")
        call = self._worker.current.get()
        if self._worker.join(timeout):
            return None
        self._settlement.tell(self._aborted())
        return f"{call.callback if call else 'a thread'} of job {self.job.id} is still running"

    def cancel(self) -> None:
        """Ask the cloud to stop the job (`POST /v1/jobs/:id/cancel`), and go on following it.

        The end then comes through the stream or, if that stays silent, from the job's record.

        Raises:
            ConflictError: The job is past cancelling.
            CloudApiError: The cloud refused.
            ArkorConnectionError: The cloud could not be asked.
            ForkedRunError: The run belongs to the parent process.
        """
        self._check_process()
        self._cancel_job()
        self._reader.expect_end()

    def stop(self, reason: str = "") -> bool:
        """Cancel the job and stop following it. It is legal in a callback.

        `wait()` returns a result with status `cancelled` and `stop_reason`.

        Args:
            reason: Why; kept as `TrainingResult.stop_reason`.

        Returns:
            False if the job had ended before: it keeps its own status and is followed to its end.

        Raises:
            ArkorConnectionError: The cloud could not be asked to cancel; the run goes on.
        """
        self._check_process()
        try:
            with self._settlement.stopping():
                if self.job.is_terminal:
                    return False
                self._cancel_job()
                return self._stopped(reason)
        except ConflictError:
            logger.info("job %s ended before it could be stopped", self.job.id)
            return False

    def health(self) -> RunHealth:
        """Look at the run: states, ages and counts. It never blocks."""
        ending = "settled" if self.done() else "stopping" if self._settlement.aborted else None
        now = self._clock.now()
        return run_health(ending, self._reader, self._channel, self._worker, now)

    def add_done_callback(self, function: Callable[[Run], None]) -> None:
        """Have a function called with this run once it has settled.

        It runs on the thread that settles the run: the worker, or one that waits for it when
        `abort_grace` runs out. Where the run has settled already, it is called at once. Its
        exceptions are logged.
        """
        self._check_process()
        self._settlement.add_done_callback(function)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self.abort(*error[1:2])
        self.close()

    def __repr__(self) -> str:
        state = "settled" if self.done() else "following"
        return f"<Run {self.job.id} {self.job.status} {state}>"

    def _repr_html_(self) -> str:
        return self._record.html(self._settlement.error)

    def _client_and_adapter(self, step: Optional[int]) -> Tuple[CloudApiClient, Dict[str, Any]]:
        return self.client, final_or_checkpoint(self.job, step, self.history.checkpoints)

    def _wait_until_settled(self, deadline: Optional[float]) -> None:
        if self._settlement.wait(deadline, self._options.abort_grace, self._check_process):
            return
        call, has_ended = self._worker.current.get(), self.outcome is not None
        self._settle(Interrupted(), None)
        if has_ended and call is not None:  # a result cannot name the callback
            what = "%s of job %s is still running:\n%s"
            logger.warning(what, call.callback, self.job.id, Lines(self._worker.current.stack()))

    def _cancel_job(self) -> None:
        try:
            self.client.jobs.cancel(self.job.id)
        except ConflictError:
            self._settlement.cancelled = True  # it has ended
            raise
        self._settlement.cancelled = True

    def _stopped(self, reason: str) -> bool:
        """Settle for a cancelled job, unless the run has come to another end meanwhile."""

        def ended_otherwise() -> bool:
            if self.outcome is not None:
                return True
            self._record.stopped(reason)
            return False

        if not self._settlement.abort(reason, unless=ended_otherwise):
            return False
        self._threads.stop()
        self._record.log_end()
        return True

    def _settle(self, error: Optional[BaseException], failure: Optional[Failure]) -> None:
        """Fix the outcome, once; then stop the threads and call the done callbacks."""
        error = self._ending(error)
        is_first = self._settlement.settle(error, failure)
        self._threads.stop()
        interruption = self._settlement.call_back()
        told = self._awaited or self._settlement.silent or self._settlement.aborted is not None
        if error is not None and is_first and not told:
            # If the program never calls wait(), this is the only report.
            what = "the run of job %s ended with an error, and nothing waited for it"
            try_to_log(logger.error, what, self.job.id, exc_info=error)
        if interruption is not None and not self._worker.is_current():
            raise interruption

    def _ending(self, error: Optional[BaseException]) -> Optional[BaseException]:
        """Return what `wait()` raises, from what the worker ended with."""
        if isinstance(error, Interrupted):
            return self._aborted() if self.outcome is None else None
        if error is None and self.outcome is None:
            return RunError("the run ended without a terminal event")
        return error

    def _worker_done(self, error: Optional[BaseException], failure: Optional[Failure]) -> None:
        try:  # first: whoever waits may then follow the job again at once
            self._lease.release()
        finally:
            self._settle(error, failure)

    def _aborted(self) -> RunError:
        return self._settlement.aborted_error(self._worker.current)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedRunError(
                f"job {self.job.id} is followed by process {self._pid}; follow it anew in this "
                "one, after the fork (gunicorn: in post_fork, or on the first request)"
            )
