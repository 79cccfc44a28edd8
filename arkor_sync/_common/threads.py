"""The threads of this package, which a forked child does not share. Any thread.

A fork shares nothing: no thread goes on in the child. A real thread does not exist there, unless it
is the one that forked, in a function of the program that it had called. A green thread (gevent,
eventlet) does exist there, and would read what is meant for the parent.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from types import FrameType
from typing import Any, Callable, Optional

from arkor_sync._common import process
from arkor_sync._common.locks import Flag
from arkor_sync.errors import RunError

_TAIL = 1.0  # seconds that a thread takes at most to end, once its main function has returned


_local = threading.local()


def interrupted_by(check: Optional[Callable[[], None]]) -> None:
    """Have `raise_if_interrupted` call a function on this thread, or none any more."""
    _local.check = check or (lambda: None)


def raise_if_interrupted() -> None:
    """End a wait on a thread of a run that was stopped; do nothing on any other thread."""
    getattr(_local, "check", lambda: None)()


def no_thread(what: str, error: BaseException) -> RunError:
    """Build the error of whoever needs a thread, and cannot have one.

    Args:
        what: What is not done.
        error: What `start` raised: a `RuntimeError` or a `MemoryError`.
    """
    return RunError(
        f"{what}: this process cannot start another thread ({error}); end some, or raise the limit "
        "(`ulimit -u`, or that of the container)"
    )


class OwnThread(threading.Thread):
    """A daemon thread that this package has started.

    Args:
        main: What it runs. It has to return soon once `forked` is true.
        name: Its name.
    """

    def __init__(self, main: Callable[[], Any], name: str) -> None:
        super().__init__(target=main, name=name, daemon=True)
        self._greenlet: Any = None
        self._pid = os.getpid()
        self._has_run = Flag()

    @property
    def forked(self) -> bool:
        """Whether this is a forked child, to which the thread does not belong."""
        return os.getpid() != self._pid

    def is_current(self) -> bool:
        """Whether it is the caller."""
        return threading.current_thread() is self

    def run(self) -> None:
        """Run the main function; in a forked child, end the child when it comes back."""
        self._pid = os.getpid()
        greenlet = self._greenlet = _current_greenlet()
        if self._greenlet is not None:
            process.register_hooks(self)
        error: Optional[BaseException] = None
        try:
            super().run()
        except BaseException as raised:
            if not self.forked:
                raise
            error = raised
        finally:
            self._has_run.set()
        if self.forked and self._greenlet is None:
            _end_process(error)
        while self.forked and self._greenlet is not None:
            # The green threads of the program go on in the child. This one may not end there:
            # `threading` does not know it any more, and would report an error.
            greenlet.parent.switch()

    def join(self, timeout: Optional[float] = None) -> None:
        """Wait for its end."""
        if not self.is_alive() or self.is_current():
            return
        # CPython up to 3.12 takes a thread for ended if an exception ends the waiting for it. So
        # only the little that comes after `run` is waited for in that way.
        if self._has_run.wait_in_slices(timeout):
            super().join(_TAIL)

    def stack(self) -> str:
        """Format what it is doing at this moment; empty if it has ended."""
        frame: Optional[FrameType] = sys._current_frames().get(self.ident or 0)
        if frame is None and self._greenlet is not None:
            frame = self._greenlet.gr_frame  # None while it is the one that runs
        return "".join(traceback.format_stack(frame)) if frame else ""

    def after_fork(self) -> None:
        """End the green thread in the child before it runs there, unless it is what forked."""
        if self._greenlet is _current_greenlet() or self._greenlet.dead:
            return
        try:
            self._greenlet.kill(block=False)  # gevent
        except TypeError:
            self._greenlet.kill()  # eventlet

    def at_exit(self, timeout: float) -> None:
        """Do nothing. The exit hook calls it on every registered object."""


def _current_greenlet() -> Any:
    """Return the green thread that runs; None in a real thread."""
    greenlet = sys.modules.get("greenlet")  # if it is not imported, there are none
    current = None if greenlet is None else greenlet.getcurrent()
    return None if getattr(current, "parent", None) is None else current


def _end_process(error: Optional[BaseException]) -> None:
    """End a forked child whose main thread has nothing more to do, as an interpreter does.

    Exit handlers are not called: they belong to the parent.

    Args:
        error: What ended the main thread.
    """
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    code: Any = 0
    if isinstance(error, SystemExit):
        code = error.code or 0
        if not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
            code = 1
    elif error is not None:
        traceback.print_exception(type(error), error, error.__traceback__)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # there is none, or it is closed
    os._exit(code & 0xFF)
