"""A notifier's callbacks without a run: the contexts that it would be given."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

from arkor_sync import TrainingEvent
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import (
    CancelledContext,
    CheckpointContext,
    CompletedContext,
    Context,
    EndContext,
    FailedContext,
    LogContext,
    Metrics,
    ReconnectContext,
    StartedContext,
)
from arkor_sync.result import TrainingResult


class FakeRun:
    """What a notifier looks at in a run, and the contexts that the run would build."""

    def __init__(self, name: str = "bot", job_id: str = "job-1", answer: Any = None) -> None:
        self.name = name
        self.job_id = job_id
        self.outcome: Optional[TrainingResult] = None
        self.client = SimpleNamespace(chat=self._chat)
        self._settlement = self  # what a run keeps its end in
        self.leaves_job = False
        self.asked: List[Any] = []
        self.threads: List[str] = []
        self._answer = answer

    def job(self, status: str = "running", error: Optional[str] = None) -> TrainingJob:
        return TrainingJob(
            id=self.job_id,
            org_id="o",
            project_id="p",
            name=self.name,
            status=status,
            config={"model": "m"},
            created_at="2026-01-01T00:00:00Z",
            error=error,
        )

    def started(self) -> StartedContext:
        return self._with(StartedContext(self.job()))

    def log(self, step: int, **metrics: Any) -> LogContext:
        names = ("loss", "eval_loss", "learning_rate", "epoch", "samples_per_second")
        values = {name: metrics.get(name) for name in names}
        return self._with(LogContext(step=step, job=self.job(), **values))

    def checkpoint(self, step: int) -> CheckpointContext:
        return self._with(CheckpointContext(step, {}, self.job(), []))

    def reconnect(self, failures: int = 1) -> ReconnectContext:
        return self._with(ReconnectContext(self.job(), "reset by peer", failures, 2.0))

    def completed(self, **metrics: Any) -> CompletedContext:
        job = self.job("completed")
        self.outcome = TrainingResult(job, [], Metrics(**metrics))
        return self._with(CompletedContext(job, [], Metrics(**metrics)))

    def failed(self, error: str = "CUDA out of memory", step: Optional[int] = 7) -> FailedContext:
        job = self.job("failed", error)
        self.outcome = TrainingResult(job)
        return self._with(FailedContext(job, error, step))

    def cancelled(self, reason: Optional[str] = None) -> CancelledContext:
        job = self.job("cancelled")
        self.outcome = TrainingResult(job, stop_reason=reason)
        return self._with(CancelledContext(job))

    def end(self, error: Optional[BaseException] = None) -> EndContext:
        result = self.outcome if error is None else None
        return self._with(EndContext(self.job(), result, error))

    def _with(self, ctx: Any) -> Any:
        assert isinstance(ctx, Context)
        ctx.run = self  # type: ignore[assignment]
        ctx.event = TrainingEvent("test", {"timestamp": "2026-01-01T00:00:01Z"})
        return ctx

    def _chat(self, messages: Any, **settings: Any) -> Any:
        self.asked.append((messages, settings))
        self.threads.append(threading.current_thread().name)
        answer = self._answer(messages) if callable(self._answer) else self._answer
        return SimpleNamespace(content=lambda: answer)


def texts(value: Any) -> List[str]:
    """List every text of a JSON document."""
    if isinstance(value, Dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, (list, tuple)):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []
