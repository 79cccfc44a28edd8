"""The time that the engine sees, so that tests can make hours pass at once."""

from __future__ import annotations

import random
import threading
import time
from typing import Callable


class Clock:
    """Monotonic time, interruptible waiting, and the random numbers of the jitter."""

    now: Callable[[], float] = staticmethod(time.monotonic)
    """Return seconds from some fixed moment."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the time is over; return whether it is set."""
        return event.wait(min(seconds, threading.TIMEOUT_MAX))

    def random(self) -> float:
        """Return a number from 0 to 1."""
        return random.random()
