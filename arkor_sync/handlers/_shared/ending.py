"""How a run ended, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

from arkor_sync.errors import RunAborted
from arkor_sync.render.text import without_colours

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.result import TrainingResult


def ending(
    job: TrainingJob, result: Optional[TrainingResult], error: Optional[BaseException]
) -> Tuple[str, str]:
    """Say how a run ended, in a word, and why, where it is known.

    Args:
        job: As of the end.
        result: What `wait()` returns, or None.
        error: What `wait()` raises, or None.
    """
    if isinstance(error, RunAborted):
        why = "the job goes on"
        reason = "" if error.reason is None else str(error.reason) or type(error.reason).__name__
        return "aborted", f"{reason}; {why}" if reason else why
    if error is not None:
        raised = ": ".join(filter(None, [type(error).__name__, str(error)]))
        return job.status, f"the run ended with {raised}"
    if result is not None and result.stop_reason is not None:
        return "stopped", result.stop_reason
    return job.status, without_colours(job.error or "")


def cause(why: str) -> str:
    """Shorten why a run ended to what fits on a line: of a traceback, its last."""
    return why.strip().splitlines()[-1] if why.startswith("Traceback ") else why
