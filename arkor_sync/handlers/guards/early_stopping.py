"""Callbacks that end a training that is no longer worth its money. The worker thread runs them."""

from __future__ import annotations

import enum
import logging
import math
from collections import deque
from typing import Any, Deque, Dict, Optional

from arkor_sync._common.arguments import check, is_number
from arkor_sync.callbacks import Callback
from arkor_sync.contexts import EndContext, LogContext
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.metric_values import from_json, names_of, to_json, value_of
from arkor_sync.handlers._shared.single_run import OneRun, stop

logger = logging.getLogger("arkor_sync.handlers")


class EarlyStoppingReason(enum.Enum):
    """Why `EarlyStopping` stopped a run."""

    NOT_STOPPED = "not stopped"
    STOPPING_THRESHOLD = "stopping threshold reached"
    DIVERGENCE_THRESHOLD = "divergence threshold reached"
    PATIENCE_EXHAUSTED = "patience exhausted"
    NON_FINITE = "not finite"


class EarlyStopping(OneRun):
    """Stop the job when a metric no longer gets better. It runs on the worker thread.

    Only logs that have the metric count; that others lack it is normal. The job is cancelled in the
    cloud, and `wait()` returns with `result.stop_reason`. If the cloud cannot be asked to cancel,
    that is logged, and it is asked again at the next log.

    One object serves one run at a time. Its state is kept with the run's cursor, so patience
    survives a restart; a log that is delivered again does not count again.

    Args:
        monitor: `eval_loss`, `loss` or another metric of a log; or the wire's name of a field that
            is none of them. `eval_loss` comes only where the job has `eval_steps` and
            `dataset_split`.
        min_delta: By more than this the metric has to be better than the best so far.
        patience: So many values in a row may be no better; the last of them stops. 0 is as 1.
        mode: `"min"` if less is better, `"max"` if more is.
        strict: Raise, and not only warn, where the metric never comes.
        check_finite: Stop at once at a value that is NaN or infinite: `1e309`, `"NaN"` and
            `"Infinity"`. A bare `NaN` is no JSON; such an event is skipped and reaches no callback.
        stopping_threshold: Stop at a value that is better than this.
        divergence_threshold: Stop at a value that is worse than this.
        smoothing: Judge the mean of so many of the last values, once there are so many. A value
            that is not finite is judged by itself.
        start_from_step: Leave out the values of earlier steps, unless they are not finite.
        cancel: Cancel the job. False follows it no longer but lets it run on: `wait()` then raises
            `RunAborted` with the reason.
        grace: So many logs without the metric are normal before its first value. Then, or when the
            job has completed without, a warning names the metrics that did come.

    Attributes:
        stopping_reason: An `EarlyStoppingReason`.
        stopping_text: The same in words and figures, as in `result.stop_reason`; empty before.
        stopped_step: Where; None before.
        best_score: The best value so far, None before the first.
        best_step: Where that was.
        wait_count: How many values in a row have been no better.

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
        mode: str = "min",
        strict: bool = False,
        check_finite: bool = True,
        stopping_threshold: Optional[float] = None,
        divergence_threshold: Optional[float] = None,
        smoothing: int = 1,
        start_from_step: int = 0,
        cancel: bool = True,
        grace: int = 100,
    ) -> None:
        text = isinstance(monitor, str) and bool(monitor)
        check("monitor", monitor, text, "the name of a metric, such as 'eval_loss'")
        check("mode", mode, mode in ("min", "max"), "'min' if less is better, or 'max'")
        check("min_delta", min_delta, is_number(min_delta) and min_delta >= 0, "a number from 0")
        for name, value, least in (
            ("patience", patience, 0),
            ("smoothing", smoothing, 1),
            ("start_from_step", start_from_step, 0),
            ("grace", grace, 1),
        ):
            check(
                name, value, type(value) is int and value >= least, f"a whole number from {least}"
            )
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
        """Its name in the cursor store: several may watch a metric each."""
        mode = "max" if self._sign > 0 else "min"
        return f"{type(self).__qualname__}:{self.monitor}:{mode}"

    def on_log(self, ctx: LogContext) -> None:
        """Judge the metric, if the log has it."""
        if self._enter(ctx):  # a run that follows the same job again may go on
            self._go_on()
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            self._end_run(ctx)  # the cloud could not be asked before
            return
        value = value_of(ctx.event.data, self.monitor)
        if value is None:
            self._miss(ctx)
            return
        if self._last_step is not None and ctx.step <= self._last_step:
            return  # delivered again
        self._last_step = ctx.step
        reason = self._judge(value, ctx.step)
        if reason is not EarlyStoppingReason.NOT_STOPPED:
            self.stopping_reason = reason
            self.stopped_step = ctx.step
            self._end_run(ctx)

    def on_end(self, ctx: EndContext) -> None:
        """Say so if the metric never came, although the job has completed."""
        super().on_end(ctx)
        of_this_job = ctx.job.id == self._job_id
        completed = ctx.result is not None and ctx.result.status == "completed"
        if of_this_job and completed and self._last_step is None and self._missed < self._grace:
            self._tell_missing()

    def _go_on(self) -> None:
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_text = ""
        self.stopped_step = None

    def _reset(self) -> None:
        self._go_on()
        self.best_score = None
        self.best_step = None
        self.wait_count = 0
        self._last_step = None
        self._missed = 0
        self._names: Dict[str, None] = {}
        self._window.clear()

    def _save(self) -> Dict[str, Any]:
        return {
            "bestScore": to_json(self.best_score),
            "bestStep": self.best_step,
            "waitCount": self.wait_count,
            "lastStep": self._last_step,
            "window": list(self._window),
        }

    def _restore(self, state: Dict[str, Any]) -> None:
        self.best_score = from_json(state["bestScore"])
        self.best_step = state["bestStep"]
        self.wait_count = state["waitCount"]
        self._last_step = state["lastStep"]
        self._window.extend(state["window"])

    def _judge(self, value: float, step: int) -> EarlyStoppingReason:
        """Take one value in. Say whether to stop and, in `stopping_text`, why."""
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
        so_far = ""
        if self.best_step is not None:
            so_far = f", the best was {best:.6g} at step {self.best_step}"
        self.stopping_text = f"{now}: no better for {self.wait_count} values{so_far}"
        return EarlyStoppingReason.PATIENCE_EXHAUSTED

    def _is_better(self, value: float, than: float) -> bool:
        return self._sign * value > self._sign * than

    def _end_run(self, ctx: LogContext) -> None:
        if self._cancel:
            stop(ctx.run, self.stopping_text)
        else:
            ctx.run.abort(self.stopping_text)

    def _miss(self, ctx: LogContext) -> None:
        if self._last_step is not None or self._missed >= self._grace:
            return
        self._names.update(names_of(ctx.event.data))
        self._missed += 1
        if self._missed == self._grace:
            self._tell_missing()

    def _tell_missing(self) -> None:
        seen = ", ".join(self._names) or "nothing"
        text = f"EarlyStopping: no log had {self.monitor!r} ({self._missed} logs had: {seen})"
        if self._strict:
            raise ArkorUsageError(text)
        logger.warning(text)


class TerminateOnNaN(Callback):
    """Stop the job when its loss is no longer a number. It runs on the worker thread.

    JSON has no NaN, so a cloud writes such a loss in one of these ways:

    * `1e309`, which is read as infinity; the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. Each
      stops the job at once, as `loss` and as `eval_loss`.
    * `null`, which is also how a log says that it has no value. `"loss": null` stops the job when
      it comes in two logs one after the other, and neither has an `eval_loss`.
    * A bare `NaN`. That is no JSON: the event is skipped, and no callback hears of it.
      `run.health().skipped` counts it.

    The job is cancelled in the cloud, and `wait()` returns with `result.stop_reason`. If the cloud
    cannot be asked to cancel, that is logged; the next such log asks again. One object may serve
    several runs at the same time.
    """

    def __init__(self) -> None:
        self._null_steps: Dict[str, int] = {}  # by job: where the last log had no loss

    def on_log(self, ctx: LogContext) -> None:
        """Look at the loss, and at the loss on the held-out split."""
        data, job_id = ctx.event.data, ctx.job.id
        for name in ("loss", "eval_loss"):
            value = value_of(data, name)
            if value is not None and not math.isfinite(value):
                stop(ctx.run, f"{name} is {value} at step {ctx.step}")
                return
        if value_of(data, "loss") is not None:
            self._null_steps.pop(job_id, None)
        elif (
            "loss" in data
            and value_of(data, "eval_loss") is None
            and self._null_steps.setdefault(job_id, ctx.step) < ctx.step
        ):
            stop(ctx.run, f"loss is null at step {ctx.step}, as it was in the log before")

    def on_end(self, ctx: EndContext) -> None:
        """Forget the run."""
        self._null_steps.pop(ctx.job.id, None)
