"""What the events tell of one job: its copy, its outcome, its history. Runs on the worker thread.

Any thread may read it. It also tells the job's life in the log, a line for each step.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from arkor_sync._common.log import get_logger
from arkor_sync._log_context import log_contexts
from arkor_sync.contexts import Context, LogContext, build_context
from arkor_sync.history import MAX_HISTORY_BYTES, History
from arkor_sync.result import Metrics, TrainingResult
from arkor_sync.stream import events
from arkor_sync.stream.batches import Batch
from arkor_sync.stream.events import RunEnded, TrainingEvent

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.stream.protocols import Event

logger = get_logger("arkor_sync.run")

_STATUS = {
    events.COMPLETED: "completed",
    events.FAILED: "failed",
    events.CANCELLED: "cancelled",
}


class RunRecord:
    """One job as its events tell it.

    Args:
        job: The job as it was when the run began.
        run: What contexts carry as `run`; results have its client.
        max_history_bytes: How much memory the history may take.

    Attributes:
        job: The job as of the last event that was applied.
        outcome: The result, from the terminal event on; None before.
        history: The logs and checkpoints so far.
    """

    def __init__(
        self, job: TrainingJob, run: Any, max_history_bytes: float = MAX_HISTORY_BYTES
    ) -> None:
        self.job = job
        self.outcome: Optional[TrainingResult] = None
        self.history = History(max_bytes=max_history_bytes)
        self.append = self.history.append
        self.append_logs = self.history.append_logs
        self.close_logs = self.history.close_logs
        self._run = run
        self._told_start: object = None  # its event's key; the event may be delivered again

    def apply(self, event: TrainingEvent) -> None:
        """Bring the job up to date. The first terminal event fixes the outcome."""
        if event.type == events.STARTED:
            self.job = dataclasses.replace(
                self.job,
                status="running",
                started_at=event.timestamp,
                completed_at=None,
                error=None,
            )
            if event.key != self._told_start:
                self._told_start = event.key
                logger.info("job %s started", self.job.id)
        if event.type not in _STATUS or self.outcome is not None:
            return
        error = events.text(event.data.get("error"))
        if event.type == events.FAILED:
            error = error or "the cloud gave no reason"
        self.job = dataclasses.replace(
            self.job, status=_STATUS[event.type], error=error, completed_at=event.timestamp
        )
        completed = event.type == events.COMPLETED
        self.outcome = TrainingResult(
            self.job,
            events.items(event.data.get("artifacts")) if completed else [],
            Metrics.from_json(event.data.get("metrics")),
        )._of_run(self._run.client, self.history)
        self.log_end()

    def stopped(self, reason: str) -> None:
        """Fix the outcome of a job that the program has cancelled."""
        self.job = dataclasses.replace(self.job, status="cancelled")
        outcome = TrainingResult(self.job, stop_reason=reason)
        self.outcome = outcome._of_run(self._run.client, self.history)

    def log_end(self) -> None:
        """Write a line about how the job has ended."""
        result = self.outcome
        if result is None:
            return
        told, why, loss = result.status, result.job.error, result.metrics.final_loss
        if result.stop_reason is not None:
            told, why = "was stopped", result.stop_reason
        elif told == "cancelled":
            told = "was cancelled"
        elif told == "completed":
            why = None if loss is None else f"final loss {loss:g}"
        logger.info("job %s %s%s", self.job.id, told, f": {why}" if why else "")

    def ended(self, error: Optional[BaseException]) -> RunEnded:
        """Return what the callbacks are told at the end, from what `wait()` raises."""
        return RunEnded(self.outcome if error is None else None, error)

    def html(self, error: Optional[BaseException]) -> str:
        """Return the run as a notebook shows it, with its curve so far.

        Args:
            error: What `wait()` raises, or None.
        """
        from arkor_sync.render.html import run_html  # only for notebooks

        outcome = self.outcome if error is None else None
        return run_html(self.job, outcome, error, self.history.logs, self.history.checkpoints)

    def context(self, event: Event, attempt: int) -> Context:
        """Build the argument of an event's callbacks."""
        return build_context(event, attempt, self.job, self._run)

    def log_contexts(self, batch: Batch, logs: List[Dict[str, Any]]) -> Iterator[Context]:
        """Build the arguments for plain logs, one after the other."""
        return log_contexts(LogContext, batch, logs, self.job, self._run)
