"""What a fork and the interpreter's exit do to the runs of this process.

One hook of each kind is installed when the first run begins, and not before. The fork hook runs in
the child's only thread, the exit hook in the main thread.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from typing import Any, List, Optional, Protocol

logger = logging.getLogger("arkor_sync.run")

EXIT_GRACE = 2.0
"""Seconds that all runs together get to end when the interpreter exits."""


class Live(Protocol):
    """What has threads of its own, or locks that a forked child must not inherit locked."""

    def after_fork(self) -> None:
        """Replace the locks: the thread that held one does not exist in the child."""

    def at_exit(self, timeout: float) -> Optional[str]:
        """End within so many seconds; return what could not be ended."""


_live: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: List[Any] = []  # a child never closes what its parent still uses
_hooks = threading.Lock()  # taken for good by whoever installs the hooks; nobody waits for it


def register(live: Live) -> None:
    """Have an object told of forks and of the interpreter's exit, as long as it lives."""
    _live.add(live)
    if _hooks.acquire(blocking=False):
        os.register_at_fork(after_in_child=_after_fork)
        atexit.register(_at_exit)


def _after_fork() -> None:
    for live in list(_live):
        live.after_fork()
        _inherited.append(live)


def _at_exit() -> None:
    deadline = time.monotonic() + EXIT_GRACE
    for live in list(_live):
        left = live.at_exit(max(0.0, deadline - time.monotonic()))
        if left is not None:
            logger.warning("the interpreter exits while %s", left)
