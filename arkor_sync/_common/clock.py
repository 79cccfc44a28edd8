"""The time and the random numbers that the engine uses, so that tests replace both. Any thread."""

from __future__ import annotations

import random
import threading
import time
from typing import Callable


class Clock:
    """Monotonic time, waiting that another thread can end, and random numbers for the jitter."""

    now: Callable[[], float] = staticmethod(time.monotonic)
    """Return the time in seconds. Only differences between two calls mean something."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the seconds have passed; return whether it is set."""
        return event.wait(min(seconds, threading.TIMEOUT_MAX))

    def random(self) -> float:
        """Return a number from 0 up to, but not including, 1."""
        return random.random()
