"""Locks and flags that a fork, a signal handler or a waiting thread cannot break. Any thread.

A thread that waits in `threading` does not see an exception that another thread has set for it
(`PyThreadState_SetAsyncExc`, as time limits of job systems do) until the wait is over. So every
wait that a thread of the program can sit in is a row of waits of `SLICE` seconds.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from arkor_sync._common.clock import Clock

SLICE = 0.05  # seconds; one wait of a thread of the program


class Flag:
    """A `threading.Event` that a signal handler may set, whatever its thread does at that moment.

    `Event.set` has a lock that its own thread cannot take twice. So a signal handler that sets the
    event hangs for ever if its thread was just doing the same.
    """

    def __init__(self) -> None:
        self._set = False
        # It can be taken twice. It is held by its own `with` and not by the condition's, which is
        # Python code: a Ctrl-C in there would leave it locked.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake whoever waits for it."""
        with self._lock:
            self._set = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Unset it."""
        self._set = False

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until it is set, for so many seconds at most; return whether it is."""
        with self._lock:
            if not self._set:
                self._changed.wait(timeout)
            return self._set

    def wait_in_slices(self, timeout: Optional[float] = None) -> bool:
        """Do the same on a thread of the program."""
        deadline = None if timeout is None else Clock.now() + timeout
        while not self._set:
            left = SLICE if deadline is None else min(SLICE, deadline - Clock.now())
            if left <= 0:
                return False
            self.wait(left)
        return True


class ProcessLock:
    """A lock for the threads of one process. A forked child has one of its own, which is free.

    The thread that holds a plain lock does not exist in a forked child, so nothing frees it there.
    A pickled copy is a lock of its own, too.
    """

    def __init__(self) -> None:
        self._locks: Dict[int, threading.Lock] = {}  # by process

    def __reduce__(self) -> Tuple[Callable[[], Any], Tuple[()]]:
        return type(self), ()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the lock, until the returned context ends."""
        lock = self._locks.setdefault(os.getpid(), threading.Lock())
        while not lock.acquire(timeout=SLICE):
            pass
        try:
            yield
        finally:
            lock.release()
