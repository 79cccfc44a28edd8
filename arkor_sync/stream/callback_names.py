"""The names of the callbacks and the event that each belongs to. Pure."""

from __future__ import annotations

from typing import Dict

from arkor_sync.errors import ArkorUsageError

CALLBACK_NAMES: Dict[str, str] = {
    "on_started": "training.started",
    "on_log": "training.log",
    "on_checkpoint": "checkpoint.saved",
    "on_completed": "training.completed",
    "on_failed": "training.failed",
    "on_cancelled": "training.cancelled",
    "on_reconnect": "stream.lost",
    "on_end": "run.ended",
}


def unknown_callback(name: object) -> ArkorUsageError:
    """Build the error for a callback name that does not exist, with the nearest that does."""
    import difflib  # only for those who mistype

    near = difflib.get_close_matches(str(name), CALLBACK_NAMES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ArkorUsageError(
        f"there is no callback {name!r}; {hint}The callbacks are {', '.join(CALLBACK_NAMES)}"
    )
