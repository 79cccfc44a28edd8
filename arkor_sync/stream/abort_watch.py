"""Turns an event that the program sets into an abort. Runs on a thread of its own."""

from __future__ import annotations

import threading
from typing import Callable, Optional

from arkor_sync._common.locks import Flag
from arkor_sync._common.threads import OwnThread

_PERIOD = 0.05  # seconds; one cannot wait for two events at once


class AbortWatch:
    """Owns the thread that watches one abort event for one run.

    Threads: `start` once; `stop` and `join` from any thread. The abort is called on its own thread.
    """

    def __init__(self, event: threading.Event, abort: Callable[[object], None], label: str) -> None:
        self._event = event
        self._abort = abort
        self._stopped = Flag()
        self._thread = OwnThread(self._main, f"arkor-abort-{label}")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread within its period."""
        self._stopped.set()

    def join(self, timeout: Optional[float] = None) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout)

    def _main(self) -> None:
        while not self._event.is_set():
            if self._stopped.wait(_PERIOD) or self._thread.forked:
                return
        self._abort("abort_event was set")
