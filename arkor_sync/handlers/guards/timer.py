"""A cost guard: stops a job that runs for too long. The worker measures, a thread stops."""

from __future__ import annotations

import datetime
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from arkor_sync._common.arguments import check
from arkor_sync._common.clock import Clock
from arkor_sync.contexts import (
    CheckpointContext,
    Context,
    LogContext,
    ReconnectContext,
    StartedContext,
)
from arkor_sync.handlers._shared.single_run import OneRun, stop
from arkor_sync.render.text import between

if TYPE_CHECKING:
    from arkor_sync.run import Run

logger = logging.getLogger("arkor_sync.handlers")

_REPEAT = 5.0  # seconds after which the cloud is asked to cancel once more; then twice as long
_LONGEST_REPEAT = 60.0


class Timer(OneRun):
    """Stop the job when it has been running for too long, also where it tells nothing any more.

    The time begins when the job begins to run; waiting in the queue does not count. It is measured
    by this machine's clock, from `on_started` on. Where the job was running before, the cloud's own
    timestamps (`timestamp` of the event at hand, `job.started_at`) say for how long, so that the
    two clocks need not agree. The start is kept with the run's cursor, and a restart of this
    process gives no time away. In a new process it watches from the first event or reconnect on.

    The job is cancelled in the cloud, and `wait()` returns with `result.stop_reason`. If the cloud
    cannot be asked to cancel, that is logged and tried again until the run ends. A thread of its
    own, which ends with the run, does it. It guards only a job that is followed: after `abort()`
    the job goes on. One object serves one run at a time.

    Args:
        duration: Seconds, a `timedelta`, or a text `"DD:HH:MM:SS"`.
        clock: Time, for tests.

    Raises:
        ArkorUsageError: A duration that cannot work; it is also a `ValueError`. In a callback: the
            object serves another run.
    """

    _began: Optional[float]  # on the clock

    def __init__(
        self,
        duration: Union[float, datetime.timedelta, str],
        *,
        clock: Optional[Clock] = None,
    ) -> None:
        self._duration = _seconds(duration)
        self._clock = clock or Clock()
        self._alarm: Optional[_Alarm] = None
        self._reset()

    def on_started(self, ctx: StartedContext) -> None:
        """Begin to measure."""
        self._measure(ctx)

    def on_log(self, ctx: LogContext) -> None:
        """Compare with the cloud's time."""
        self._measure(ctx)

    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Compare with the cloud's time."""
        self._measure(ctx)

    def on_reconnect(self, ctx: ReconnectContext) -> None:
        """Begin to measure, in a new process whose job tells nothing."""
        if ctx.job.started_at is not None:
            self._measure(ctx)

    def _measure(self, ctx: Context) -> None:
        new = self._enter(ctx)
        now = self._clock.now()
        began = now - (between(ctx.job.started_at, ctx.event.timestamp) or 0.0)
        if self._began is None or began < self._began:
            self._began = began
        deadline = self._began + self._duration
        if new:
            self._alarm = None
        if self._alarm is not None:
            self._alarm.advance(deadline)
            return
        limit = datetime.timedelta(seconds=self._duration)
        alarm = _Alarm(ctx.run, f"the job's time limit of {limit} is over", deadline, self._clock)
        try:
            alarm.start()
        except RuntimeError as error:  # the process can have no more threads
            logger.warning("Timer: job %s is not watched yet: %s", ctx.job.id, str(error))
            return
        self._alarm = alarm
        ctx.run.add_done_callback(alarm.cancel)

    def _reset(self) -> None:
        self._began = None

    def _save(self) -> Dict[str, Any]:
        if self._began is None:
            return {"beganAt": None}
        return {"beganAt": time.time() + self._began - self._clock.now()}

    def _restore(self, state: Dict[str, Any]) -> None:
        if state["beganAt"] is not None:
            self._began = self._clock.now() + state["beganAt"] - time.time()


class _Alarm:
    """Owns the thread that stops one run at its deadline.

    Threads: `start` once; `advance` and `cancel` from any thread.
    """

    def __init__(self, run: Run, reason: str, deadline: float, clock: Clock) -> None:
        self._run = run
        self._reason = reason
        self._deadline = deadline
        self._clock = clock
        self._cancelled = False
        self._wake = threading.Event()
        name = f"arkor-timer-{run.job.id}"
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def advance(self, deadline: float) -> None:
        """Have it ring earlier."""
        if deadline < self._deadline:
            self._deadline = deadline
            self._wake.set()

    def cancel(self, _: object = None) -> None:
        """End the thread, unless it is just asking the cloud: then when that has answered."""
        self._cancelled = True
        self._wake.set()

    def _main(self) -> None:
        repeat = _REPEAT
        while True:
            self._wake.clear()  # first: what comes later is either seen below or wakes the wait
            if self._cancelled:
                return
            left = self._deadline - self._clock.now()
            if left <= 0:
                if stop(self._run, self._reason):
                    return
                left, repeat = repeat, min(2 * repeat, _LONGEST_REPEAT)
            self._clock.wait(self._wake, left)


def _seconds(duration: Union[float, datetime.timedelta, str]) -> float:
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
