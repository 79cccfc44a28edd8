"""Functions on threads of their own, and waiting for a condition with a deadline."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, List, Optional

DEADLINE = 10.0  # seconds; nothing here takes long, so this is only ever waited out by a hang
PATIENCES = (0.05, 0.5, 5.0)  # seconds, for a timeout that must strike, but not before its time


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
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive(), "the function hangs"
        if self._error is not None:
            raise self._error
        return self._outcome[0]

    def running(self) -> bool:
        return self.thread.is_alive()


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition to hold; return what it said."""
    end = time.monotonic() + DEADLINE
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "the condition never held"
        pause.wait(0.001)
