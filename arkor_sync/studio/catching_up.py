"""A job's tap for a page that shows what there is, and not only what comes. Any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arkor_sync._common.clock import Clock
from arkor_sync.studio.state import studio

if TYPE_CHECKING:
    from arkor_sync.studio.tap import Tap

_PATIENCE = 1.0  # seconds that a page waits for the past
_QUIET = 0.15  # seconds without an event after which the past has been read


def read_tap(job_id: str) -> Tap:
    """Return the tap of a job. A new one has most of the past by then, or a second was too short.

    Raises:
        NotFoundError: There is no such job.
        ArkorError: The cloud refused it, or cannot be reached.
    """
    tap = studio().taps.tap(job_id)
    deadline, version, is_new = Clock.now() + _PATIENCE, tap.version, not tap.generation
    while is_new and not tap.ended and Clock.now() < deadline:
        changed = tap.wait(version, _QUIET)
        if changed == version and tap.connection != "connecting":
            break
        version = changed
    return tap
