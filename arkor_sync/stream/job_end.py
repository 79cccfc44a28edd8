"""What a job's record says of its end, as the event that the stream did not bring. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from arkor_sync.stream.batches import Batch, EventBatch
from arkor_sync.stream.events import CANCELLED, COMPLETED, FAILED, TrainingEvent

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob


def terminal_event(job: TrainingJob) -> Optional[TrainingEvent]:
    """Build the terminal event of a job from its record; None while it has not ended."""
    kind = {"completed": COMPLETED, "failed": FAILED, "cancelled": CANCELLED}.get(job.status)
    if kind is None:
        return None
    data = {
        "type": kind,
        "jobId": job.id,
        "timestamp": job.completed_at,
        "error": job.error,
        "artifacts": job.extra.get("artifacts"),
        "metrics": job.extra.get("metrics"),
    }
    return TrainingEvent(kind, data, synthesized=True, key=hash((job.id, kind)))


def with_true_end(batch: Batch, job: TrainingJob) -> Batch:
    """Turn a `training.failed` at a batch's end into a cancellation, if the record calls it one."""
    end = terminal_event(job)
    if end is None or end.type != CANCELLED:
        return batch
    *before, failed = batch
    return EventBatch([*before, end._replace(id=failed.id, key=failed.key, size=failed.size)])
