"""The emulator's virtual clock. Any thread."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from functools import partial
from types import BuiltinFunctionType
from typing import Callable, Optional


class _Real:
    """Real seconds, also while the program has frozen Python's clocks, as freezegun does.

    It replaces `time.monotonic` in every module that has it, but not in a class.
    """

    now: Callable[[], float] = staticmethod(
        time.monotonic
        if isinstance(time.monotonic, BuiltinFunctionType) or not hasattr(time, "clock_gettime")
        else partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    )


def monotonic() -> float:
    """Return real seconds; only differences mean something."""
    return _Real.now()


class Clock:
    """Virtual seconds since the emulator started.

    Ping intervals, step delays and the delays of faults are in virtual seconds, so that a test need
    not wait for them. Dates in records are real.

    Args:
        speed: Virtual seconds per real second. With 100 a ping of 15 s comes after 150 ms; with 0
            only `advance` moves the clock.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if not 0.0 <= speed < float("inf"):
            raise ValueError(f"speed must be a finite number, 0 or more, not {speed!r}")
        self.speed = speed
        self._start = monotonic()
        self._offset = 0.0

    def now(self) -> float:
        """Return the virtual time in seconds."""
        return self._offset + (monotonic() - self._start) * self.speed

    def advance(self, seconds: float) -> None:
        """Move the clock forward. The caller has to notify the threads that wait."""
        self._offset += seconds

    def real_seconds(self, virtual: float) -> Optional[float]:
        """Return how many real seconds so many virtual ones take; None if the clock is stopped."""
        return max(0.0, virtual) / self.speed if self.speed else None


def timestamp() -> str:
    """Return the date and time now as the cloud writes it: UTC, with milliseconds and `Z`."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return now.replace("+00:00", "Z")
