"""A value that takes a while: nobody waits for long, and one thread looks for it."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from arkor_sync.studio.lately import Lately
from support.waiting import PATIENCE, until


class Slow:
    """Finds its key, once it is let go."""

    def __init__(self) -> None:
        self.asked: List[Any] = []
        self.go = threading.Semaphore(0)

    def __call__(self, key: Any) -> str:
        self.asked.append(key)
        assert self.go.acquire(timeout=PATIENCE)
        return f"value of {key}"


@pytest.fixture
def slow() -> Slow:
    return Slow()


def test_it_is_found_while_others_do_not_wait(slow: Slow) -> None:
    lately = Lately(slow)
    assert lately.read(1, 0.0) is None
    assert lately.read(1, 0.0) is None
    until(lambda: slow.asked)
    slow.go.release()
    assert lately.read(1, PATIENCE) == "value of 1"
    assert lately.read(1, 0.0) == "value of 1"
    assert slow.asked == [1]


def test_the_former_value_stays_until_there_is_a_newer_one(slow: Slow) -> None:
    lately = Lately(slow)
    slow.go.release()
    assert lately.read(1, PATIENCE) == "value of 1"
    assert lately.read(2, 0.0) == "value of 1"
    until(lambda: slow.asked == [1, 2])
    assert lately.read(3, 0.0) == "value of 1"  # one at a time
    assert slow.asked == [1, 2]
    slow.go.release()
    assert lately.read(2, PATIENCE) == "value of 2"
    slow.go.release()
    assert lately.read(3, PATIENCE) == "value of 3"
