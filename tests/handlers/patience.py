"""Waiting for what other threads do: on a condition, with a deadline that only a fault meets."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

PATIENCE = 30.0  # seconds


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        pause.wait(0.005)
