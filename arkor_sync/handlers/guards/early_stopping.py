"""Stops a job whose metric no longer improves. Runs on the worker thread."""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import Any, Deque, Dict, Literal, Optional

from arkor_sync._common.arguments import check, is_number
from arkor_sync._common.log import get_logger
from arkor_sync.contexts import EndContext, LogContext
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.metric_values import (
    float_from_json,
    float_to_json,
    metric_names,
    metric_value,
)
from arkor_sync.handlers._shared.single_run_callback import SingleRunCallback, try_to_stop

logger = get_logger("arkor_sync.handlers")


class EarlyStoppingReason(enum.Enum):
    """Why `EarlyStopping` stopped a run."""

    NOT_STOPPED = "not stopped"
    STOPPING_THRESHOLD = "stopping threshold reached"
    DIVERGENCE_THRESHOLD = "divergence threshold reached"
    PATIENCE_EXHAUSTED = "patience exhausted"
    NON_FINITE = "not finite"


class EarlyStopping(SingleRunCallback):
    """Stops the job when a metric no longer improves. Runs on the worker thread.

    Only logs that have the metric are counted; logs without it are normal. The job is cancelled in
    the cloud, and `wait()` returns with `result.stop_reason`. If the cloud cannot be asked to
    cancel, that is logged, and the next log tries again.

    One object serves one run at a time. Its state is saved with the run's cursor, so that a restart
    does not reset the patience. A log that is delivered again is not counted again.

    Args:
        monitor: `eval_loss`, `loss` or another metric of a log; or the wire's name of any other
            field. The cloud sends `eval_loss` only if the job has `eval_steps` and `dataset_split`.
        min_delta: How much better than the best value a value has to be to count as better.
        patience: After so many values in a row that are not better, the job is stopped. 0 means 1.
        mode: `"min"` if lower values are better, `"max"` if higher values are better.
        strict: Raise an error instead of logging a warning if the metric never comes.
        check_finite: Stop at once at a value that is NaN or infinite: `1e309`, `"NaN"` and
            `"Infinity"`. A bare `NaN` is no JSON: such an event is skipped, and no callback is
            called.
        stopping_threshold: Stop at once at a value that is better than this.
        divergence_threshold: Stop at once at a value that is worse than this.
        smoothing: Use the mean of so many of the last values, as soon as there are so many. A value
            that is not finite is checked alone.
        start_from_step: Ignore the values of earlier steps, unless they are not finite.
        cancel: Cancel the job in the cloud. False only stops following it, and the job goes on:
            `wait()` then raises `RunAborted` with the reason.
        grace: After so many logs without the metric, or if the job completes without it, a warning
            is logged with the names of the metrics that came.

    Attributes:
        stopping_reason: An `EarlyStoppingReason`.
        stopping_text: The reason as a text with the values, as in `result.stop_reason`; empty
            before.
        stopped_step: The step at which the job was stopped; None before.
        best_score: The best value so far; None before the first.
        best_step: The step of the best value.
        wait_count: How many values in a row were not better.

    Raises:
        ArkorUsageError: An argument that cannot work; it is also a `ValueError`. In a callback:
            the metric never came and `strict` is set, or the object serves another run.
    """

    stopping_reason: EarlyStoppingReason
    stopping_text: str
    stopped_step: Optional[int]
    best_score: Optional[float]
    best_step: Optional[int]
    wait_count: int
    _last_step: Optional[int]

    def __init__(
        self,
        monitor: str = "eval_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 3,
        mode: Literal["min", "max"] = "min",
        strict: bool = False,
        check_finite: bool = True,
        stopping_threshold: Optional[float] = None,
        divergence_threshold: Optional[float] = None,
        smoothing: int = 1,
        start_from_step: int = 0,
        cancel: bool = True,
        grace: int = 100,
    ) -> None:
        fits = isinstance(monitor, str) and bool(monitor)
        check("monitor", monitor, fits, "the name of a metric, such as 'eval_loss'")
        check("mode", mode, mode in ("min", "max"), "'min' if less is better, or 'max'")
        check("min_delta", min_delta, is_number(min_delta) and min_delta >= 0, "a number from 0")
        for name, value, minimum in (
            ("patience", patience, 0),
            ("smoothing", smoothing, 1),
            ("start_from_step", start_from_step, 0),
            ("grace", grace, 1),
        ):
            fits = type(value) is int and value >= minimum
            check(name, value, fits, f"a whole number from {minimum}")
        for name, limit in (
            ("stopping_threshold", stopping_threshold),
            ("divergence_threshold", divergence_threshold),
        ):
            check(name, limit, limit is None or is_number(limit), "a number, or None for none")
        self.monitor = monitor
        self._min_delta = min_delta
        self._patience = patience
        self._sign = 1 if mode == "max" else -1
        self._strict = strict
        self._check_finite = check_finite
        self._stopping_threshold = stopping_threshold
        self._divergence_threshold = divergence_threshold
        self._start_from_step = start_from_step
        self._cancel = cancel
        self._grace = grace
        self._window: Deque[float] = deque(maxlen=smoothing)
        self._reset()

    @property
    def state_key(self) -> str:
        """The key of its state in the cursor store; it differs for each metric and mode."""
        mode = "max" if self._sign > 0 else "min"
        return f"{type(self).__qualname__}:{self.monitor}:{mode}"

    def on_log(self, ctx: LogContext) -> None:
        """Check the metric, if the log has it."""
        if self._bind(ctx):  # a new run of the same job is not stopped for the old reason
            self._clear_reason()
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            self._end_run(ctx)  # at an earlier log, the cloud could not be asked to cancel
            return
        value = metric_value(ctx.event.data, self.monitor)
        if value is None:
            self._count_missing(ctx)
            return
        if self._last_step is not None and ctx.step <= self._last_step:
            return  # delivered again
        self._last_step = ctx.step
        reason = self._check_value(value, ctx.step)
        if reason is not EarlyStoppingReason.NOT_STOPPED:
            self.stopping_reason = reason
            self.stopped_step = ctx.step
            self._end_run(ctx)

    def on_end(self, ctx: EndContext) -> None:
        """Report it if the metric never came although the job has completed."""
        super().on_end(ctx)
        of_this_job = ctx.job.id == self._job_id
        completed = ctx.result is not None and ctx.result.status == "completed"
        if of_this_job and completed and self._last_step is None and self._missed < self._grace:
            self._report_missing()

    def _clear_reason(self) -> None:
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_text = ""
        self.stopped_step = None

    def _reset(self) -> None:
        self._clear_reason()
        self.best_score = None
        self.best_step = None
        self.wait_count = 0
        self._last_step = None
        self._missed = 0
        self._names: Dict[str, None] = {}
        self._window.clear()

    def _save(self) -> Dict[str, Any]:
        return {
            "bestScore": float_to_json(self.best_score),
            "bestStep": self.best_step,
            "waitCount": self.wait_count,
            "lastStep": self._last_step,
            "window": list(self._window),
        }

    def _restore(self, state: Dict[str, Any]) -> None:
        self.best_score = float_from_json(state["bestScore"])
        self.best_step = state["bestStep"]
        self.wait_count = int(state["waitCount"])
        self._last_step = state["lastStep"]
        self._window.extend(map(float, state["window"]))

    def _check_value(self, value: float, step: int) -> EarlyStoppingReason:
        """Take in one value. Return whether to stop, and set `stopping_text` if so."""
        finite = math.isfinite(value)
        if self._check_finite and not finite:
            self.stopping_text = f"{self.monitor} is {value} at step {step}"
            return EarlyStoppingReason.NON_FINITE
        if step < self._start_from_step:
            return EarlyStoppingReason.NOT_STOPPED
        if finite:
            size = self._window.maxlen or 1
            self._window.append(value)
            if len(self._window) < size:
                return EarlyStoppingReason.NOT_STOPPED
            value = sum(each / size for each in self._window)
        now = f"{self.monitor} is {value:.6g} at step {step}"
        good, bad = self._stopping_threshold, self._divergence_threshold
        if good is not None and self._is_better(value, good):
            self.stopping_text = f"{now}, better than {good:.6g}"
            return EarlyStoppingReason.STOPPING_THRESHOLD
        if bad is not None and self._is_better(bad, value):
            self.stopping_text = f"{now}, worse than {bad:.6g}"
            return EarlyStoppingReason.DIVERGENCE_THRESHOLD
        best = -self._sign * math.inf if self.best_score is None else self.best_score
        if self._is_better(value - self._sign * self._min_delta, best):
            self.best_score, self.best_step, self.wait_count = value, step, 0
            return EarlyStoppingReason.NOT_STOPPED
        self.wait_count += 1
        if self.wait_count < self._patience:
            return EarlyStoppingReason.NOT_STOPPED
        best_text = ""
        if self.best_step is not None:
            best_text = f", the best was {best:.6g} at step {self.best_step}"
        self.stopping_text = f"{now}: no better for {self.wait_count} values{best_text}"
        return EarlyStoppingReason.PATIENCE_EXHAUSTED

    def _is_better(self, value: float, than: float) -> bool:
        return self._sign * value > self._sign * than

    def _end_run(self, ctx: LogContext) -> None:
        if self._cancel:
            try_to_stop(ctx.run, self.stopping_text)
        else:
            ctx.run.abort(self.stopping_text)

    def _count_missing(self, ctx: LogContext) -> None:
        """Count a log without the metric, as long as the metric has not come yet."""
        if self._last_step is not None or self._missed >= self._grace:
            return
        self._names.update(metric_names(ctx.event.data))
        self._missed += 1
        if self._missed == self._grace:
            self._report_missing()

    def _report_missing(self) -> None:
        names = ", ".join(self._names) or "nothing"
        text = f"EarlyStopping: no log had {self.monitor!r} ({self._missed} logs had: {names})"
        if self._strict:
            raise ArkorUsageError(text)
        logger.warning("%s", text)
