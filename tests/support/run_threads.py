"""The threads of a run, by their names: its own attributes are nobody's business."""

from __future__ import annotations

import threading
from typing import List

from arkor_sync import Run
from support.waiting import PATIENCE

KINDS = ("reader", "worker", "abort")


def named(name: str) -> List[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def threads_of(run: Run, *kinds: str) -> List[threading.Thread]:
    """List the threads that follow a run and are alive: all, or those of some kinds."""
    return [each for kind in kinds or KINDS for each in named(f"arkor-{kind}-{run.job.id}")]


def has_ended(run: Run, *kinds: str) -> bool:
    """Wait for the threads of a run; tell whether all have ended."""
    for thread in threads_of(run, *kinds):
        thread.join(PATIENCE)
    return not threads_of(run, *kinds)
