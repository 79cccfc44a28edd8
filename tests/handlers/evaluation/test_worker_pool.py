"""A few threads that share a piece of work once."""

from __future__ import annotations

import contextvars
import threading
from typing import List, Optional

import pytest
from expiring_pool import expiring

from arkor_sync.handlers.evaluation.worker_pool import WorkerPool
from support.waiting import PATIENCE


def alive() -> List[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("arkor-round-")]


def test_the_results_come_together_in_order_and_the_threads_end() -> None:
    finished: List[List[Optional[int]]] = []
    together = threading.Barrier(3)

    def work(index: int) -> int:
        together.wait(PATIENCE)
        return index * index

    work_round = WorkerPool("arkor-round", work, 6, 3, PATIENCE, finished.append)
    names = [thread.name for thread in work_round._threads]
    assert names == [f"arkor-round-{number}" for number in range(4)]  # one watches the time
    assert all(thread.daemon for thread in work_round._threads)
    work_round.start().result(PATIENCE)
    assert finished == [[0, 1, 4, 9, 16, 25]]
    for thread in alive():
        thread.join(PATIENCE)
    assert alive() == []


def test_no_more_threads_than_there_is_to_do() -> None:
    small = WorkerPool("arkor-round", lambda index: index, 2, 9, PATIENCE, lambda results: None)
    assert len(small._threads) == 3


def test_what_was_stopped_begins_nothing_new_and_does_not_finish() -> None:
    begun, let_go = threading.Event(), threading.Event()
    worked: List[int] = []
    finished: List[List[Optional[None]]] = []

    def work(index: int) -> None:
        worked.append(index)
        begun.set()
        assert let_go.wait(PATIENCE)

    for count in (1, 2):
        begun.clear()
        let_go.clear()
        stopped = WorkerPool("arkor-round", work, count, 1, PATIENCE, finished.append)
        future = stopped.start()
        assert begun.wait(PATIENCE)
        stopped.stop()
        let_go.set()
        for thread in alive():
            thread.join(PATIENCE)
        assert not future.done()
    assert worked == [0, 0]
    assert finished == []


def test_an_error_of_the_work_or_of_the_finish_is_the_futures() -> None:
    together = threading.Barrier(3)

    def fail_together(_: int) -> None:
        together.wait(PATIENCE)
        raise LookupError("broken")

    def fail(_: object) -> None:
        raise LookupError("broken")

    for broken in (
        WorkerPool("arkor-round", fail_together, 9, 3, PATIENCE, lambda results: None),
        WorkerPool("arkor-round", lambda index: None, 3, 2, PATIENCE, fail),
    ):
        with pytest.raises(LookupError, match="broken"):
            broken.start().result(PATIENCE)


def test_everything_runs_in_the_context_of_whoever_started_it() -> None:
    tenant = contextvars.ContextVar("tenant", default="none")
    tenant.set("acme")
    seen: List[str] = []
    running = WorkerPool(
        "arkor-round",
        lambda index: tenant.get(),
        3,
        2,
        PATIENCE,
        lambda results: seen.extend([*map(str, results), tenant.get()]),
    )
    running.start().result(PATIENCE)
    assert seen == ["acme"] * 4


def test_what_takes_too_long_is_finished_with_what_there_is_and_once() -> None:
    let_go = threading.Event()
    finished: List[List[Optional[int]]] = []

    def work(index: int) -> int:
        if index == 1:
            assert let_go.wait(PATIENCE)
        return index

    limits: List[float] = []
    late = expiring(limits)("arkor-round", work, 3, 2, 0.25, finished.append)
    late.start().result(PATIENCE)
    assert finished == [[0, None, 2]]
    assert limits == [0.25]
    let_go.set()
    for thread in alive():
        thread.join(PATIENCE)
    assert finished == [[0, None, 2]]


@pytest.mark.parametrize("possible", [0, 1, 2])
def test_where_there_can_be_no_more_threads_it_is_finished_as_it_is(
    possible: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: List[threading.Thread] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if len(started) == possible:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    finished: List[List[Optional[int]]] = []
    let_go = threading.Event()

    def work(index: int) -> int:
        let_go.wait(PATIENCE)
        return index

    poor = WorkerPool("arkor-round", work, 3, 2, PATIENCE, finished.append)
    monkeypatch.setattr("threading.Thread.start", refuse)
    assert poor.start().done()
    let_go.set()
    for thread in alive():
        thread.join(PATIENCE)
    assert finished == [[None, None, None]]
    assert "can't start new thread" in caplog.text
