"""The queue between a handler and its backend: bounded, ordered, never in a run's way."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from typing import List, Tuple

import pytest

from arkor_sync.handlers._shared.outbox import Outbox
from support.waiting import PATIENCE, until


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
    assert "box: 2 items not delivered within 0.0 s: still being delivered" in caplog.text
    backend.open.set()
    assert box.flush(PATIENCE)
    assert backend.batches == [[1], [2]]


def test_what_is_late_is_named_with_the_last_failure_of_what_is_in_hand(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = Backend()

    def describe(items: List[int]) -> str:
        return f"the numbers {items}"

    box: Outbox[int] = Outbox("box", backend.deliver, describe=describe, busy="still at it")
    for number in (1, 2, 3):
        box.put(number)
    assert backend.entered.wait(PATIENCE)
    box.last_failure = "the first failed"
    assert not box.flush(0)
    backend.entered.clear()
    backend.open.set()
    assert box.flush(PATIENCE)
    backend.open.clear()
    box.put(4)
    assert backend.entered.wait(PATIENCE)
    until(lambda: box.last_failure == "")
    assert not box.flush(0)
    backend.open.set()
    assert box.flush(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == [
        "box: the numbers [1, 2, 3] not delivered within 0.0 s: the first failed",
        "box: the numbers [4] not delivered within 0.0 s: still at it",
    ]


def test_waiting_items_can_be_found_and_taken_back() -> None:
    backend = Backend()
    box: Outbox[int] = Outbox("box", backend.deliver)
    box.put(1)
    assert backend.entered.wait(PATIENCE)
    box.put(2, droppable=False)
    box.put(3)
    assert [box.has(lambda item, number=number: item == number) for number in range(5)] == [
        *(False, True, True, True, False)
    ]
    assert box.take(lambda item: item <= 2) == [2], "one that is being delivered stays"
    assert not box.undroppable_waiting.is_set()
    backend.open.set()
    assert box.flush(PATIENCE)
    assert backend.batches == [[1], [3]]


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
    monkeypatch.setattr("arkor_sync.handlers._shared.outbox._IDLE_SECONDS", 0.01)
    backend = Backend()
    box: Outbox[int] = Outbox("box", backend.deliver)
    assert box.flush(0)
    assert not threads()
    for number in (1, 2):
        backend.open.clear()  # until the thread has been seen
        box.put(number)
        [thread] = threads()
        assert thread.daemon
        backend.open.set()
        assert box.flush(PATIENCE)
        thread.join(PATIENCE)
        assert not threads()
    assert backend.batches == [[1], [2]]


def test_a_forked_child_begins_with_an_empty_one() -> None:
    entered, over = threading.Event(), threading.Event()
    delivered: List[List[int]] = []

    def deliver(batch: List[int]) -> None:
        if batch == [1]:  # held: a child has no thread of its parent's that could go on
            entered.set()
            assert over.wait(PATIENCE)
        else:
            delivered.append(batch)

    box: Outbox[int] = Outbox("box", deliver)
    box.put(1, droppable=False)
    assert entered.wait(PATIENCE)
    with box._changed:  # as a thread of the parent may have it
        box.after_fork()
        assert box.flush(0)
        assert not box.undroppable_waiting.is_set()
        box.put(3)
        assert box.flush(PATIENCE)
    assert delivered == [[3]]
    over.set()


def test_a_flush_does_not_wait_for_what_comes_later() -> None:
    backend = Backend()
    box: Outbox[int] = Outbox("box", backend.deliver)
    turns = threading.Semaphore(0)

    def deliver(batch: List[int]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not box._flushing and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        box.put(batch[0] + 1)  # it never has nothing to do
        assert turns.acquire(timeout=PATIENCE)
        backend.batches.append(batch)

    box._deliver = deliver
    box.put(1)
    turns.release()
    try:
        assert box.flush(PATIENCE)
        assert backend.batches == [[1]]
    finally:
        box._deliver = backend.batches.append
        turns.release()
        assert box.flush(PATIENCE)


@pytest.mark.parametrize("ending", [SystemExit("no"), KeyboardInterrupt(), GeneratorExit()])
def test_nothing_that_is_raised_ends_the_deliveries(
    ending: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    seen: List[List[int]] = []

    def deliver(batch: List[int]) -> None:
        if batch == [1]:
            raise ending
        seen.append(batch)

    box: Outbox[int] = Outbox("box", deliver)
    box.put(1)
    assert box.flush(PATIENCE)
    box.put(2)
    assert box.flush(PATIENCE)
    assert seen == [[2]]
    assert f"box failed; 1 lost ({type(ending).__name__})" in caplog.text


def test_an_item_that_may_not_be_dropped_is_announced_while_it_waits() -> None:
    backend = Backend()
    box: Outbox[int] = Outbox("box", backend.deliver)
    box.put(1)
    assert not box.undroppable_waiting.is_set()
    box.put(2, droppable=False)
    box.put(3, droppable=False)
    assert box.undroppable_waiting.is_set()
    backend.open.set()
    assert box.flush(PATIENCE)
    assert not box.undroppable_waiting.is_set()


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
        assert not box.flush(PATIENCE), "there is nobody to wait for"
    assert "box: can't start new thread; 1 wait for the next attempt" in caplog.text
    assert re.search(
        r"box: 1 item not delivered within \d+\.0 s: can't start new thread", caplog.text
    )
    box.put(2)
    assert box.flush(PATIENCE)
    assert backend.batches == [[1, 2]]


def test_a_flush_starts_the_thread_that_could_not_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = Backend()
    backend.open.set()
    box: Outbox[int] = Outbox("box", backend.deliver)
    with monkeypatch.context() as patch:

        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        box.put(1)
    assert box.flush(PATIENCE)
    assert backend.batches == [[1]]


SCRIPT = """
import atexit, os, threading
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync._common import process

def deliver(batch):
    exits.wait(600)
    print(batch[0], flush=True)

exits = threading.Event()
box = Outbox("box", deliver)
box.put("parent")
if {fork}:
    child = os.fork()
    if child:
        os.waitpid(child, 0)  # two processes share the output
    else:
        exits = threading.Event()  # a thread of the parent may have locked the other
        box.put("child")
if not {hangs}:
    process.EXIT_GRACE = 60.0
    atexit.register(exits.set)  # is called before what was registered before: the outbox's own
"""


def exit_of(*options: str, fork: bool = False, hangs: bool = False) -> Tuple[List[str], str]:
    """Run the script; return the words that it delivered, and what it logged."""
    done = subprocess.run(
        [sys.executable, *options, "-c", SCRIPT.format(fork=fork, hangs=hangs)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize("fork", [False, True])
def test_what_waits_when_the_interpreter_exits_is_delivered(fork: bool) -> None:
    delivered, logged = exit_of("-W", "ignore", fork=fork)
    assert delivered == (["child", "parent"] if fork else ["parent"])
    assert logged == ""


def test_a_backend_that_hangs_holds_the_exit_up_for_moments_only() -> None:
    delivered, logged = exit_of(hangs=True)
    assert delivered == []
    assert logged == (
        "box: 1 item not delivered before the interpreter exits: still being delivered\n"
    )
