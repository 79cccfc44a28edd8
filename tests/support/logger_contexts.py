"""What a metrics logger is called with, without a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Optional

from arkor_sync import TrainingEvent
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import EndContext, LogContext, StartedContext, build_context
from arkor_sync.stream.events import LOG, STARTED


def a_job(job_id: str = "job-1", **config: Any) -> TrainingJob:
    return TrainingJob.from_dict(
        {
            "id": job_id,
            "orgId": "org-1",
            "projectId": "project-1",
            "name": "fake",
            "status": "running",
            "config": {"model": "m", **config},
            "createdAt": "2026-01-01T00:00:00Z",
        }
    )


def started(job: Optional[TrainingJob] = None) -> StartedContext:
    event = TrainingEvent(STARTED, {"type": STARTED})
    ctx: Any = build_context(event, 1, job or a_job(), SimpleNamespace())  # type: ignore[arg-type]
    return ctx  # type: ignore[no-any-return]


def log(step: int, job: Optional[TrainingJob] = None, **data: Any) -> LogContext:
    timestamp = f"2026-01-01T00:00:{step % 60:02d}.500Z"
    event = TrainingEvent(LOG, {"type": LOG, "step": step, "timestamp": timestamp, **data})
    ctx: Any = build_context(event, 1, job or a_job(), SimpleNamespace())  # type: ignore[arg-type]
    return ctx  # type: ignore[no-any-return]


def end(status: Optional[str] = "completed", job: Optional[TrainingJob] = None) -> EndContext:
    result: Any = status and SimpleNamespace(status=status)
    return EndContext(job or a_job(), result, None)
