"""The queue between a handler and its backend: bounded, ordered, never in a run's way."""

from __future__ import annotations

import threading
from typing import List

import pytest

from arkor_sync.handlers._outbox import Outbox

PATIENCE = 10.0


class Backend:
    """Delivers when it is let to."""

    def __init__(self) -> None:
        self.batches: List[List[int]] = []
        self.open = threading.Event()
        self.entered = threading.Event()

    def deliver(self, batch: List[int]) -> None:
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.batches.append(batch)


def threads() -> List[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "arkor-box"]


def test_items_are_delivered_in_order_in_batches() -> None:
    backend = Backend()
    box: Outbox[int] = Outbox("box", backend.deliver, batch=3)
    box.put(0)
    assert backend.entered.wait(PATIENCE)
    for number in range(1, 6):
        box.put(number)
    backend.open.set()
    assert box.flush(PATIENCE)
    assert backend.batches == [[0], [1, 2, 3], [4, 5]]


def test_when_full_the_oldest_droppable_goes_and_what_matters_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = Backend()
    box: Outbox[int] = Outbox("box", backend.deliver, limit=2, batch=9)
    box.put(0)
    assert backend.entered.wait(PATIENCE)
    box.put(1, droppable=False)
    box.put(2)
    box.put(3)  # drops 2
    box.put(4, droppable=False)  # drops 3
    box.put(5)  # finds no room
    box.put(6, droppable=False)  # is taken all the same
    backend.open.set()
    assert box.flush(PATIENCE)
    assert backend.batches == [[0], [1, 4, 6]]
    assert "3 dropped" in caplog.text


def test_a_flush_gives_up_at_its_deadline_and_what_is_late_is_still_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = Backend()
    box: Outbox[int] = Outbox("box", backend.deliver)
    box.put(1)
    box.put(2)
    assert backend.entered.wait(PATIENCE)
    assert not box.flush(0.01)
    assert "box: 2 not delivered within 0.0 s" in caplog.text
    backend.open.set()
    assert box.flush(PATIENCE)
    assert backend.batches == [[1], [2]]


def test_an_error_in_deliver_costs_its_batch_only(caplog: pytest.LogCaptureFixture) -> None:
    seen: List[List[int]] = []

    def deliver(batch: List[int]) -> None:
        if batch == [1]:
            raise LookupError("broken")
        seen.append(batch)

    box: Outbox[int] = Outbox("box", deliver)
    box.put(1)
    box.put(2)
    assert box.flush(PATIENCE)
    assert seen == [[2]]
    assert "box failed; 1 lost" in caplog.text


def test_the_thread_is_there_only_while_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arkor_sync.handlers._outbox._LINGER", 0.01)
    backend = Backend()
    backend.open.set()
    box: Outbox[int] = Outbox("box", backend.deliver)
    assert box.flush(0)
    assert not threads()
    for number in (1, 2):
        box.put(number)
        [thread] = threads()
        assert thread.daemon
        assert box.flush(PATIENCE)
        thread.join(PATIENCE)
        assert not threads()
    assert backend.batches == [[1], [2]]


def test_a_forked_child_begins_with_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()
    box: Outbox[int] = Outbox("box", backend.deliver)
    box.put(1)
    assert backend.entered.wait(PATIENCE)
    box.put(2)
    backend.open.set()
    assert box.flush(PATIENCE)
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert box.flush(0)
    box.put(3)
    assert box.flush(PATIENCE)
    assert backend.batches == [[1], [2], [3]]


def test_a_thread_that_cannot_be_started_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Backend()
    backend.open.set()
    box: Outbox[int] = Outbox("box", backend.deliver, batch=2)
    with monkeypatch.context() as patch:

        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        box.put(1)
    assert "box: can't start new thread; 1 wait for the next" in caplog.text
    box.put(2)
    assert box.flush(PATIENCE)
    assert backend.batches == [[1, 2]]
