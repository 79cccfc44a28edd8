"""Calls objects after a fork and at the interpreter's exit. Any thread.

One hook of each kind is installed when the first object is registered, and not before. The fork
hook runs in the child's only thread, the exit hook in the main thread.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from typing import Any, List, Optional, Protocol, Set

from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger

logger = get_logger("arkor_sync.run")

EXIT_GRACE = 2.0
"""Seconds that all registered objects together get to end when the interpreter exits."""


class ProcessHooks(Protocol):
    """An object that has threads, or locks that a forked child would inherit while held."""

    def after_fork(self) -> None:
        """Replace the locks, in the child: the thread that held one does not exist there."""

    def at_exit(self, timeout: float) -> Optional[str]:
        """End within `timeout` seconds; return a description of what has not ended, or None."""


_registered: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by `id`
_inherited: List[Any] = []  # kept alive, so that a child never closes what its parent still uses
_told: Set[int] = set()  # the processes in which `multiprocessing` calls the exit hook
# Acquired once, by the thread that installs the hooks, and never released; no thread waits for it.
_installing = threading.Lock()


def register_hooks(owner: ProcessHooks) -> None:
    """Call the object's hooks after each fork and at exit, for as long as the object lives."""
    _registered[id(owner)] = owner
    if _installing.acquire(blocking=False):
        if hasattr(os, "register_at_fork"):  # Windows has no fork
            os.register_at_fork(after_in_child=_after_fork)
        atexit.register(_at_exit)
    multiprocessing: Any = sys.modules.get("multiprocessing.util")
    if multiprocessing is None or os.getpid() in _told:
        return
    # A child of `multiprocessing` leaves by `os._exit`, past `atexit`, but calls its finalizers.
    if sys.modules["multiprocessing.process"].parent_process() is not None:
        _told.add(os.getpid())
        multiprocessing.Finalize(None, _at_exit, exitpriority=0)


def _owners() -> List[Any]:
    """List the registered objects, the last first: what uses another one was made after it."""
    found = [reference() for reference in _registered.valuerefs()]
    return [owner for owner in reversed(found) if owner is not None]


def _after_fork() -> None:
    for owner in _owners():
        owner.after_fork()
        _inherited.append(owner)


def _at_exit() -> None:
    deadline = Clock.now() + EXIT_GRACE
    for owner in _owners():
        _registered.pop(id(owner), None)  # this may be called again
        try:
            running = owner.at_exit(max(0.0, deadline - Clock.now()))
            if running is not None:
                logger.warning("the interpreter exits while %s", running)
        except Exception:  # of the program's logging; the others are to end in order, too
            sys.excepthook(*sys.exc_info())
