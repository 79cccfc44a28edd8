"""A value that is made at its first use and then kept. Any thread."""

from __future__ import annotations

from typing import Callable, Generic, List, TypeVar

from arkor_sync._common.locks import ProcessLock

T = TypeVar("T")


class Once(Generic[T]):
    """Makes a value at the first call, on the thread that calls, and returns it at every call.

    Other threads that call meanwhile wait for it. An exception is raised to its caller and not
    kept: the next caller tries again. It works in a forked child too.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: List[T] = []  # empty, or the value: None may be one
        self._lock = ProcessLock()

    def __call__(self) -> T:
        """Return the value, and make it if this is the first call."""
        if not self._made:
            with self._lock():
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]
