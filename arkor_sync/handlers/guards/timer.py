"""Stops a job that runs for too long. Runs on a thread of its own.

The callback methods, on the run's worker thread, find out since when the job has been running. The
thread waits for the deadline.
"""

from __future__ import annotations

import datetime
import math
import threading
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from arkor_sync._common.arguments import check
from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import Flag
from arkor_sync._common.log import get_logger
from arkor_sync._common.threads import OwnThread
from arkor_sync.contexts import (
    CheckpointContext,
    Context,
    LogContext,
    ReconnectContext,
    StartedContext,
)
from arkor_sync.handlers._shared.single_run_callback import SingleRunCallback, try_to_stop
from arkor_sync.render.text import seconds_between

if TYPE_CHECKING:
    from arkor_sync.run import Run

logger = get_logger("arkor_sync.handlers")

_RETRY_DELAY = 5.0  # seconds before the cloud is asked to cancel again; doubled each time
_MAX_RETRY_DELAY = 60.0


class Timer(SingleRunCallback):
    """Stops the job when it has been running for too long, even if it sends no more events.

    The time counts from the start of the job; the time in the queue does not count. It is measured
    from `on_started` on, with this machine's monotonic clock. If the job was already running then,
    the cloud's own timestamps (`timestamp` of the event and `job.started_at`) tell for how long.
    The time of day of this machine is never used: it may be wrong or set anew, and the guard would
    cancel a job too early. What has passed is saved with the run's cursor, so a restart of this
    process does not begin anew: it goes on from there, or from what the next event's timestamp
    says, whichever is more. A new process starts to watch at the first event or reconnect.

    The job is cancelled in the cloud, and `wait()` returns with `result.stop_reason`. If the cloud
    cannot be asked to cancel, that is logged and tried again until the run ends. This happens on a
    thread of its own, which ends with the run; the callback methods run on the worker thread. The
    limit holds only while the job is followed: after `abort()` the job goes on. One object serves
    one run at a time.

    Args:
        duration: Seconds, a `timedelta`, or a text `"DD:HH:MM:SS"`.
        clock: A clock for tests.

    Raises:
        ArkorUsageError: A duration that cannot work; it is also a `ValueError`. In a callback: the
            object serves another run.
    """

    _started: Optional[float] = None  # when the job started, on the clock of this process
    _process_bound = (*SingleRunCallback._process_bound, "_thread", "_started")
    _thread: Optional[_DeadlineThread] = None

    def __init__(
        self,
        duration: Union[float, datetime.timedelta, str],
        *,
        clock: Optional[Clock] = None,
    ) -> None:
        self._duration = duration_in_seconds(duration)
        self._clock = clock or Clock()
        self._reset()

    def on_started(self, ctx: StartedContext) -> None:
        """Start to measure the time."""
        self._update_deadline(ctx)

    def on_log(self, ctx: LogContext) -> None:
        """Correct the start with the cloud's timestamps."""
        self._update_deadline(ctx)

    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Correct the start with the cloud's timestamps."""
        self._update_deadline(ctx)

    def on_reconnect(self, ctx: ReconnectContext) -> None:
        """Start to measure the time in a new process, for a job that sends no events."""
        if ctx.job.started_at is not None:
            self._update_deadline(ctx)

    def _update_deadline(self, ctx: Context) -> None:
        """Find out when the job started; start the thread, or move its deadline."""
        is_new_run = self._bind(ctx)
        now = self._clock.now()
        started = now - (seconds_between(ctx.job.started_at, ctx.event.timestamp) or 0.0)
        if self._started is None or started < self._started:
            self._started = started
        deadline = self._started + self._duration
        if is_new_run:
            self._thread = None
        if self._thread is not None:
            self._thread.move_earlier(deadline)
            return
        limit = datetime.timedelta(seconds=self._duration)
        reason = f"the job's time limit of {limit} is over"
        thread = _DeadlineThread(ctx.run, reason, deadline, self._clock)
        try:
            thread.start()
        except RuntimeError as error:  # the process cannot have more threads
            logger.warning("Timer: job %s is not watched yet: %s", ctx.job.id, str(error))
            return
        self._thread = thread
        ctx.run.add_done_callback(thread.cancel)

    def _reset(self) -> None:
        self._started = None

    def _save(self) -> Dict[str, Any]:
        if self._started is None:
            return {"ran": None}
        return {"ran": self._clock.now() - self._started}

    def _restore(self, state: Dict[str, Any]) -> None:
        ran = state.get("ran")  # 0.1 saved a time of day
        if ran is not None:
            self._started = self._clock.now() - max(0.0, float(ran))


class _DeadlineThread:
    """Owns the thread that stops one run at its deadline.

    Threads: `start` once; `move_earlier` and `cancel` from any thread.
    """

    def __init__(self, run: Run, reason: str, deadline: float, clock: Clock) -> None:
        self._run = run
        self._reason = reason
        self._deadline = deadline
        self._clock = clock
        self._cancelled = False
        self._wake = Flag()
        self._thread = OwnThread(self._main, f"arkor-timer-{run.job.id}")

    def start(self) -> None:
        self._thread.start()

    def move_earlier(self, deadline: float) -> None:
        """Move the deadline, if the new one is earlier."""
        if deadline < self._deadline:
            self._deadline = deadline
            self._wake.set()

    def cancel(self, _: object = None) -> None:
        """End the thread; if it is asking the cloud to cancel, as soon as that has answered."""
        self._cancelled = True
        self._wake.set()

    def _main(self) -> None:
        retry_delay = _RETRY_DELAY
        while True:
            # Cleared before the checks: a change after this line either is seen by the checks, or
            # sets the event again, so that the wait ends at once.
            self._wake.clear()
            if self._cancelled:
                return
            left = self._deadline - self._clock.now()
            if left <= 0:
                if try_to_stop(self._run, self._reason):
                    return
                left, retry_delay = retry_delay, min(2 * retry_delay, _MAX_RETRY_DELAY)
            self._clock.wait(self._wake, left)


def duration_in_seconds(duration: Union[float, datetime.timedelta, str]) -> float:
    """Convert a duration as `Timer` takes it; refuse one that cannot work."""
    seconds: float = math.nan
    if isinstance(duration, datetime.timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool):
        seconds = duration
    elif isinstance(duration, str):
        parts = duration.split(":")
        if len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts):
            days, hours, minutes, rest = map(int, parts)
            seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    fits = 0 < seconds <= threading.TIMEOUT_MAX
    check("duration", duration, fits, "seconds above 0, a timedelta, or a text 'DD:HH:MM:SS'")
    return seconds
