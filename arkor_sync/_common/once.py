"""A value that is made at its first use and then kept. Any thread."""

from __future__ import annotations

import os
import threading
from typing import Callable, Generic, List, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Makes a value at the first call, on the thread that calls, and returns it at every call.

    Other threads that call meanwhile wait for it. An exception is raised to its caller and not
    kept: the next caller tries again. It works in a forked child too.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: List[T] = []  # empty, or the value: None may be one
        self._guard = (os.getpid(), threading.Lock())

    def __call__(self) -> T:
        """Return the value, and make it if this is the first call."""
        if not self._made:
            if self._guard[0] != os.getpid():
                # A forked child inherits the lock, but not the thread that may hold it.
                self._guard = (os.getpid(), threading.Lock())
            with self._guard[1]:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]
