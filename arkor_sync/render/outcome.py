"""How a run ended, as a status and a reason. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Protocol, Sequence, Tuple

from arkor_sync._common.secret import redact
from arkor_sync._common.text import safe_line, safe_text
from arkor_sync.errors import RunAborted, still_runs, text_of

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob


class Outcome(Protocol):
    """What is used here of a `TrainingResult`, which stands above this room."""

    @property
    def stop_reason(self) -> Optional[str]:
        """The reason that the program gave."""

    @property
    def metrics(self) -> Any:
        """`final_loss` and `total_steps`."""

    @property
    def artifacts(self) -> Sequence[Any]:
        """The artifacts of a completed job."""


def describe_outcome(
    job: TrainingJob, result: Optional[Outcome], error: Optional[BaseException]
) -> Tuple[str, str]:
    """Describe how a run ended.

    Args:
        job: The job as it was at the end of the run.
        result: What `wait()` returns, or None.
        error: What `wait()` raises, or None.

    Returns:
        A status of one word, and the reason; the reason is empty where none is known. Both are
        safe to show.
    """
    status, reason = _outcome(job, result, error)
    return safe_line(status), redact(safe_text(reason))


def _outcome(
    job: TrainingJob, result: Optional[Outcome], error: Optional[BaseException]
) -> Tuple[str, str]:
    if isinstance(error, RunAborted):
        why = error.reason
        reason = "" if why is None else text_of(why) or type(why).__name__
        note = "the job goes on" if still_runs(job.id) in text_of(error) else ""
        return "aborted", "; ".join(filter(None, [reason, note]))
    if error is not None:
        raised = ": ".join(filter(None, [type(error).__name__, text_of(error)]))
        return job.status, f"the run ended with {raised}"
    if result is not None and result.stop_reason is not None:
        return "stopped", result.stop_reason
    return job.status, job.error or ""


def shorten_reason(reason: str) -> str:
    """Shorten a reason so that it fits on a line: of a traceback, only the last line is kept."""
    return reason.strip().splitlines()[-1] if reason.startswith("Traceback ") else reason
