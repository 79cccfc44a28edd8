"""Waiting for what other threads do: on a condition, with a deadline that only a fault meets."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, List, Optional

PATIENCE = 60.0  # seconds; only ever waited out by a hang
PATIENCES = (0.05, 0.5, 5.0)  # seconds, for a timeout that must strike, but not before its time
TRIES = 30  # the best counts: a busy machine only makes it slower


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait for a condition to hold; return what it said."""
    end = time.monotonic() + patience
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "the condition never held"
        pause.wait(0.001)


def shortest(measure: Callable[[], float], limit: float) -> float:
    """Return the shortest time of a few tries, the first that is short enough."""
    seconds = measure()
    for _ in range(TRIES - 1):
        if seconds < limit:
            break
        seconds = min(seconds, measure())
    return seconds


class Background:
    """A function that runs on its own daemon thread, and what came of it."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._outcome: List[Any] = []
        self._error: Optional[BaseException] = None

        def main() -> None:
            try:
                self._outcome.append(function(*args, **kwargs))
            except BaseException as error:
                self._error = error

        self.thread = threading.Thread(target=main, daemon=True)
        self.thread.start()

    def result(self) -> Any:
        """Wait for the function; return or raise what it did."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "the function hangs"
        if self._error is not None:
            raise self._error
        return self._outcome[0]

    def running(self) -> bool:
        return self.thread.is_alive()
