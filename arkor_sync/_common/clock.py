"""The time and the random numbers that the engine uses, so that tests replace both. Any thread.

Whatever waits, measures or decides goes by `Clock.now`, and never by the time of day: that one
can be frozen, wrong, or set anew at any moment. The time of day is only written down.
"""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from types import BuiltinFunctionType
from typing import Any, Callable


def _monotonic() -> Callable[[], float]:
    """Return the clock of the operating system, even if the program has replaced Python's.

    Libraries such as freezegun stop `time.monotonic` too, and a wait that goes by it never ends.
    They replace it where a module has it, so it must be the attribute of a class.
    """
    read: Any = getattr(time, "clock_gettime", None)  # not on Windows
    if read is None or isinstance(time.monotonic, BuiltinFunctionType):
        return time.monotonic
    return partial(read, time.CLOCK_MONOTONIC)


class Clock:
    """Monotonic time, waiting that another thread can end, and random numbers for the jitter."""

    now: Callable[[], float] = staticmethod(_monotonic())
    """Return the time in seconds. Only differences between two calls mean something."""

    def wait(self, event: Any, seconds: float) -> bool:
        """Wait until an event or flag is set or the seconds have passed; return whether it is."""
        return bool(event.wait(min(seconds, threading.TIMEOUT_MAX)))

    def random(self) -> float:
        """Return a number from 0 up to, but not including, 1."""
        return random.random()
