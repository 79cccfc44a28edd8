"""Clocks for tests: time that passes by waiting, by hand, or not at all."""

from __future__ import annotations

import threading
from typing import List

from arkor_sync._common.clock import Clock
from support.waiting import PATIENCE


class FakeClock(Clock):
    """Time that passes only by waiting, and then at once.

    Attributes:
        waits: The seconds of each wait, in order.
    """

    def __init__(self, random: float = 0.5) -> None:
        self.time = 1000.0
        self.waits: List[float] = []
        self._random = random

    def now(self) -> float:
        return self.time

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(round(seconds, 6))
        if not event.is_set():
            self.time += seconds
        return event.is_set()

    def random(self) -> float:
        return self._random


class HandClock(Clock):
    """Time that passes when the test says so.

    Attributes:
        waits: The seconds of each wait, in order.
        waiting: Set while a thread waits.
    """

    def __init__(self) -> None:
        self.time = 1000.0
        self.waits: List[float] = []
        self.waiting = threading.Event()
        self._changed = threading.Condition()
        self._until = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, event: threading.Event, seconds: float) -> bool:
        with self._changed:
            self._until = self.time + seconds
            self.waits.append(seconds)
            self.waiting.set()
            while self.time < self._until and not event.is_set():
                self._changed.wait(0.01)
            self.waiting.clear()
            self._changed.notify_all()
            return event.is_set()

    def pass_by(self, seconds: float) -> None:
        """Let time pass for the thread that waits, and let it notice."""
        assert self.waiting.wait(PATIENCE)
        with self._changed:
            self.time += seconds
            self._changed.notify_all()
            while self.waiting.is_set() and self.time >= self._until:
                assert self._changed.wait(PATIENCE)


class StoppedClock(Clock):
    """Time that never passes: a wait ends when its event is set, or the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        while not event.wait(0.005):
            if self.over.is_set():
                return False
        return True
