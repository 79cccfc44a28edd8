"""An interrupt ends the connection that it was meant for, and no other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from arkor_sync.cloud.transport import Transport
from arkor_sync.stream.error_policy import ErrorPolicy
from arkor_sync.stream.reader import Reader
from support.fake_cloud import Hold, completed, log, logs, make_run
from support.waiting import PATIENCE

A_WHILE = 0.2  # seconds in which something might happen that must not


def test_a_redelivery_does_not_give_up_the_connection_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The queue is full, so the reader goes on as soon as it may."""
    connected, told = threading.Event(), threading.Event()
    redeliver = Reader.redeliver

    def late(self: Reader) -> None:
        connected.wait(A_WHILE)
        redeliver(self)
        told.set()

    monkeypatch.setattr(Reader, "redeliver", late)

    def on_log(ctx: Any) -> None:
        if (ctx.step, ctx.attempt) == (1, 1):
            raise RuntimeError("boom")

    run, jobs = make_run(
        [logs(1, 50), Hold()],
        [connected.set, lambda: told.wait(PATIENCE), logs(1, 50) + completed()],
        callbacks={"on_log": on_log},
        error_policy=ErrorPolicy.reconnect(attempts=2),
        max_buffered_events=2,
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert jobs.resumed == [None, None]


def test_an_interrupt_is_over_once_the_reader_has_connected_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever interrupts is held up in the middle of it until the job has ended."""
    ended, release, again = threading.Event(), threading.Event(), threading.Event()
    interrupt = Transport.interrupt

    def slow(self: Transport) -> None:
        interrupt(self)
        assert ended.wait(PATIENCE)

    monkeypatch.setattr(Transport, "interrupt", slow)

    def on_completed(ctx: Any) -> None:
        ended.set()
        assert release.wait(PATIENCE)

    hold = Hold()
    run, jobs = make_run(
        [log(1), hold], [completed()], [again.set], callbacks={"on_completed": on_completed}
    )
    run.start()
    assert hold.reached.wait(PATIENCE)
    run.cancel()
    assert not again.wait(A_WHILE)
    release.set()
    assert run.wait(PATIENCE).status == "completed"
    assert jobs.resumed == [None, "1"]
