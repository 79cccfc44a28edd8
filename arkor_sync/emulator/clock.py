"""The emulator's clock: virtual seconds, so that nothing waits on a real timer. Any thread."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Optional


class Clock:
    """Virtual seconds since the emulator started.

    Ping intervals, step delays and the pauses of faults are measured by it. Dates in records are
    always those of the real calendar.

    Args:
        speed: Virtual seconds per real second. 100 makes a 15 s ping arrive after 150 ms; 0 stops
            the clock, and only :meth:`advance` moves it.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if not 0.0 <= speed < float("inf"):
            raise ValueError(f"speed must be a finite number >= 0, not {speed!r}")
        self.speed = speed
        self._start = time.monotonic()
        self._offset = 0.0

    def now(self) -> float:
        """Return the virtual time in seconds."""
        return self._offset + (time.monotonic() - self._start) * self.speed

    def advance(self, seconds: float) -> None:
        """Jump forward; whoever waits has to be notified by the caller."""
        self._offset += seconds

    def real_seconds(self, virtual: float) -> Optional[float]:
        """Return how long ``virtual`` seconds take, or None when the clock stands still."""
        return max(0.0, virtual) / self.speed if self.speed else None


def timestamp() -> str:
    """Return the date and time now, as the cloud writes it (UTC, milliseconds, ``Z``)."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return now.replace("+00:00", "Z")
