"""A job as the command line and Studio show it, without secrets. Any thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict, Optional

from arkor_sync.render.text import format_duration, parse_timestamp

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob


def job_json(job: TrainingJob) -> Dict[str, Any]:
    """Return a job's whole record as the wire has it; instead of a secret it says `[hidden]`."""
    from arkor_sync._common.secret import hide_secrets

    shown: Dict[str, Any] = _shown(hide_secrets(job.to_dict(), by_form=False))
    return shown


def job_row(job: TrainingJob, short: bool) -> Dict[str, Any]:
    """Return what a list shows of a job to people.

    Args:
        job: The job.
        short: Whether times are short and local, as a person reads them.
    """
    created = parse_timestamp(job.created_at)
    if short and created is not None:
        shown = time.strftime("%Y-%m-%d %H:%M", time.localtime(created))
    else:
        shown = job.created_at
    return {
        "id": job.id,
        "name": job.name,
        "status": job.status,
        "created": shown,
        "duration": duration_of(job),
    }


def job_facts(job: TrainingJob) -> Dict[str, Any]:
    """Return what is shown of one job to people."""
    from arkor_sync.render.hyperparams import flatten_hyperparams
    from arkor_sync.render.outcome import describe_outcome

    _, reason = describe_outcome(job, None, None)
    return {
        "id": job.id,
        "name": job.name,
        "status": job.status,
        "error": reason or None,
        "model": job.config.get("model"),
        "createdAt": job.created_at,
        "startedAt": job.started_at,
        "completedAt": job.completed_at,
        "duration": duration_of(job),
        **{
            f"config.{name}": value
            for name, value in flatten_hyperparams(job.config).items()
            if name != "model"
        },
    }


def seconds_of(job: TrainingJob) -> Optional[float]:
    """Return for how many seconds a job has run, until now or its end; None if it never began."""
    start = parse_timestamp(job.started_at)
    end = parse_timestamp(job.completed_at) if job.is_terminal else time.time()
    return None if start is None or end is None else max(0.0, end - start)


def duration_of(job: TrainingJob) -> Optional[str]:
    """Return the same for people."""
    seconds = seconds_of(job)
    return None if seconds is None else format_duration(seconds)


def _shown(value: Any) -> Any:
    from arkor_sync._common.secret import HIDDEN, Secret, redact

    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _shown(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return value
