"""How a Celery worker tells its tasks that it shuts down. Any thread."""

from __future__ import annotations

import mmap
import os
import signal
import threading
from contextlib import nullcontext
from importlib import import_module
from typing import Any, ContextManager, Optional

from arkor_sync.run import Run
from arkor_sync.signals import exit_on

_SIGNALS = ("SIGINT", "SIGTERM", "SIGQUIT")

# One byte that a worker shares with the processes of its pool, which fork later. None: no task was
# registered in this process yet.
_shutting_down: Optional[mmap.mmap] = None


def watch_for_shutdown(app: Any) -> None:
    """Have the workers of an app tell their tasks of a shutdown, whatever begins it."""
    bootsteps: Any = import_module("celery.bootsteps")
    global _shutting_down
    if _shutting_down is None:
        _shutting_down = mmap.mmap(-1, 1)

    class Watch(bootsteps.StartStopStep):  # type: ignore[misc]
        """A step of the worker. Of several with its name, a worker takes one."""

        name = "arkor.watch"

        def start(self, worker: Any) -> None:  # noqa: ARG002
            _tell(False)
            if threading.current_thread() is threading.main_thread():
                for each in _SIGNALS:
                    _tell_before(getattr(signal, each, None))

        def close(self, worker: Any) -> None:  # noqa: ARG002
            """Tell them before the worker stops its pool, which waits for the tasks."""
            _tell(True)

    app.steps["worker"].add(Watch)


def is_shutting_down() -> bool:
    """Tell whether the worker shuts down."""
    return _shutting_down is not None and _shutting_down[0] == 1


def is_cut(error: BaseException, run: Optional[Run] = None) -> bool:
    """Tell whether a cold shutdown has interrupted a task, and its process goes on.

    It kills the greenlet of a task, and raises in the thread of the pool `solo`. A callback's error
    is none of that. `SystemExit` ends a process of a pool: the worker sends the message again.
    """
    is_own = run is not None and run.failure is not None
    return is_shutting_down() and not is_own and not isinstance(error, SystemExit)


def sigterm_raises() -> ContextManager[None]:
    """Have SIGTERM raise `SystemExit`, in a process of a pool that would else end at once.

    So a task that is revoked with `terminate=True`, and a cold shutdown, close the run.
    """
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return exit_on() if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else nullcontext()


def _tell_before(number: Optional[int]) -> None:
    """Tell the tasks when a signal comes, before Celery kills them or waits for them."""
    handler = None if number is None else signal.getsignal(number)
    if number is None or not callable(handler):
        return
    former, pid = handler, os.getpid()

    def handle(*args: Any) -> None:
        if os.getpid() == pid:  # and not in a process of the pool
            _tell(True)
        former(*args)

    signal.signal(number, handle)


def _tell(shutting_down: bool) -> None:
    assert _shutting_down is not None
    _shutting_down[0] = shutting_down
