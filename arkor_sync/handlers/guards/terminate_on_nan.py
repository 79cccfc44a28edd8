"""Stops a job whose loss is NaN or infinite. Runs on the worker thread."""

from __future__ import annotations

import math
from typing import Dict

from arkor_sync.callbacks import Callback
from arkor_sync.contexts import EndContext, LogContext
from arkor_sync.handlers._shared.metric_values import metric_value
from arkor_sync.handlers._shared.single_run_callback import try_to_stop


class TerminateOnNaN(Callback):
    """Stops the job when its loss is NaN or infinite. Runs on the worker thread.

    JSON has no NaN, so the cloud may send such a loss in one of these forms:

    * `1e309`, which is read as infinity, or the texts `"NaN"`, `"Infinity"` and `"-Infinity"`. One
      of them, as `loss` or as `eval_loss`, stops the job at once.
    * `null`, which can also mean that a log has no value. `"loss": null` stops the job if it comes
      in two consecutive logs and neither has an `eval_loss`.
    * A bare `NaN`. This is no JSON: the event is skipped and counted in `run.health().skipped`, and
      no callback is called.

    The job is cancelled in the cloud, and `wait()` returns with `result.stop_reason`. If the cloud
    cannot be asked to cancel, that is logged, and the next such log tries again. One object may
    serve several runs at the same time.
    """

    def __init__(self) -> None:
        self._null_steps: Dict[str, int] = {}  # by job: the last log, if it had no loss

    def on_log(self, ctx: LogContext) -> None:
        """Check the loss and the eval loss."""
        data, job_id = ctx.event.data, ctx.job.id
        for name in ("loss", "eval_loss"):
            value = metric_value(data, name)
            if value is not None and not math.isfinite(value):
                try_to_stop(ctx.run, f"{name} is {value} at step {ctx.step}")
                return
        if metric_value(data, "loss") is not None:
            self._null_steps.pop(job_id, None)
        elif (
            "loss" in data
            and metric_value(data, "eval_loss") is None
            and self._null_steps.setdefault(job_id, ctx.step) < ctx.step
        ):
            try_to_stop(ctx.run, f"loss is null at step {ctx.step}, as it was in the log before")

    def on_end(self, ctx: EndContext) -> None:
        """Remove what is stored of the run."""
        self._null_steps.pop(ctx.job.id, None)
