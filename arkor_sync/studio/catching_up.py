"""The taps of a page that shows what there is, and not only what comes. Any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Sequence

from arkor_sync._common.clock import Clock
from arkor_sync.studio.state import studio

if TYPE_CHECKING:
    from arkor_sync.studio.tap import Tap

PATIENCE = 1.0
"""Seconds that a page waits for the past."""

_QUIET = 0.15  # seconds without an event after which the past has been read


def read_tap(job_id: str, patience: float = PATIENCE) -> Tap:
    """Return the tap of a job; see `read_taps`."""
    (tap,) = read_taps([job_id], patience)
    return tap


def read_taps(job_ids: Sequence[str], patience: float = PATIENCE) -> List[Tap]:
    """Return the taps of jobs, which have their past by then, or the patience was too short.

    Args:
        job_ids: The jobs.
        patience: Seconds, for all of them.

    Raises:
        NotFoundError: There is no such job.
        ArkorError: The cloud refused it, or cannot be reached.
    """
    taps = [studio().taps.tap(job_id) for job_id in job_ids]
    deadline = Clock.now() + patience
    for tap in taps:
        _wait_for_the_past(tap, deadline)
    return taps


def _wait_for_the_past(tap: Tap, deadline: float) -> None:
    """Wait until a tap has ended; that of a job that goes on, until it is quiet."""
    while not tap.ended:
        version, left = tap.version, deadline - Clock.now()
        may_be_quiet = tap.connection != "connecting" and not tap.job.is_terminal
        if left <= 0 or tap.wait(version, min(left, _QUIET) if may_be_quiet else left) == version:
            return
