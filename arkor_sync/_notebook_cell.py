"""Has callbacks print in the cell of a notebook that waits for their run. Any thread.

In a Jupyter kernel a thread's context variables name the cell that shows what it prints. The worker
thread has those of the cell that began to follow the run. If a later cell waits, the worker changes
to that one, before the callbacks of the next event.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Optional

from arkor_sync._common.log import get_logger
from arkor_sync._common.notebook import notebook_shell
from arkor_sync.errors import text_of
from arkor_sync.stream.events import CALLBACK_NAMES

logger = get_logger("arkor_sync.run")


class WaitingCell:
    """The cell that waits for a run; a context manager around the waiting.

    Attributes:
        callbacks: What the run calls before all other callbacks; empty outside of a notebook.
    """

    def __init__(self) -> None:
        shell = self._shell = notebook_shell()
        self._parent: Any = None  # the request that runs the cell, until the worker has changed
        self.renew_lock()
        can_change = hasattr(shell, "get_parent") and hasattr(shell, "set_parent")
        names = CALLBACK_NAMES if can_change else ()
        self.callbacks: Dict[str, Callable[[Any], None]] = dict.fromkeys(names, self._change)

    def renew_lock(self) -> None:
        """Replace the lock, in a forked child: the thread that held it does not exist there."""
        self._lock = threading.RLock()  # a signal handler may wait for the run, too

    def __enter__(self) -> None:
        if not self.callbacks:
            return
        try:
            parent = self._shell.get_parent()
        except Exception as error:  # it may not end the waiting
            _warn(error)
            return
        with self._lock:
            self._parent = parent

    def __exit__(self, *_: object) -> None:
        if self.callbacks:
            with self._lock:
                self._parent = None

    def _change(self, _: object) -> None:
        """Let this thread print in the cell that waits. Runs on the worker thread.

        The shell notes the cell for this thread, and also for threads that have none of their own.
        So it may be told only while that cell is the one that runs: under the lock, `wait()` cannot
        return.
        """
        if self._parent is None:
            return
        failure: Optional[Exception] = None
        with self._lock:
            parent, self._parent = self._parent, None
            if parent is not None:
                try:
                    self._shell.set_parent(parent)
                except Exception as error:  # it may not end the run
                    failure = error
        if failure is not None:  # a handler of the log may take long, or wait for the run
            _warn(failure)


def _warn(error: Exception) -> None:
    logger.warning("callbacks cannot print in the cell that waits: %s", text_of(error))
