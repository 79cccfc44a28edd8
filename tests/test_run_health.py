"""The state of a run in words, as a `WaitTimeout` says it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from arkor_sync import ArkorConnectionError, ReconnectPolicy, RunHealth, WaitTimeout
from arkor_sync._run_health import in_words
from support.clocks import HandClock
from support.fake_cloud import Hold, logs, make_run
from support.waiting import PATIENCE, until

QUIET = RunHealth("streaming", None, None, None, 0, 0, 0, 0, 0, 0, 0, 0, None, None, None)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "the stream is connected, no event has come yet"),
        (
            {"last_event_age": 3.21, "step": 40},
            "the stream is connected, the last event came 3.2 s ago (step 40)",
        ),
        (
            {"last_event_age": 0.0},
            "the stream is connected, the last event came 0.0 s ago",
        ),
        (
            {"state": "backing off", "failures": 4, "retry_in": 12.4},
            "the stream is lost after 4 failures, the next attempt is in 12 s, "
            "no event has come yet",
        ),
        (
            {"state": "backing off", "failures": 1, "retry_in": 0.4},
            "the stream is lost, the next attempt is in 0 s, no event has come yet",
        ),
        ({"state": "connecting"}, "the stream is being opened, no event has come yet"),
        (
            {"state": "connecting", "reconnects": 3, "failures": 3},
            "the stream is being opened again after 3 failures, no event has come yet",
        ),
        (
            {"state": "ended", "last_event_age": 200.0, "queue_depth": 7},
            "the stream has ended, the last event came 200.0 s ago, "
            "7 events wait for the callbacks",
        ),
        (
            {"state": "ended", "last_event_age": 200.0, "queue_depth": 1},
            "the stream has ended, the last event came 200.0 s ago, "
            "1 event waits for the callbacks",
        ),
        ({"state": "new"}, "the run is new, no event has come yet"),
        ({"state": "stopping"}, "the run is stopping, no event has come yet"),
        (
            {"callback": "on_log", "callback_age": 200.0, "last_event_age": 201.0, "step": 8},
            "the stream is connected, the last event came 201.0 s ago (step 8), "
            "on_log has been running for 200 s",
        ),
        (
            {"callback": "on_log", "callback_age": 0.2},
            "the stream is connected, no event has come yet",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else ", ".join(value) or "quiet",
)
def test_what_a_run_is_doing_is_said_in_words(state: Any, words: str) -> None:
    assert in_words(QUIET._replace(**state)) == words


def test_a_wait_that_times_out_says_the_state_of_the_stream() -> None:
    hold = Hold()
    run, _ = make_run([logs(1, 3), hold])
    with run.start():
        assert hold.reached.wait(PATIENCE)
        until(lambda: run.health().delivered == 3)
        with pytest.raises(WaitTimeout) as caught:
            run.wait(0)
    assert str(caught.value) == (
        "job job-1 is still queued; the stream is connected, the last event came 0.0 s ago (step 3)"
    )


def test_it_says_when_a_lost_stream_is_opened_again() -> None:
    clock = HandClock()
    lost = ArkorConnectionError("no route")
    policy = ReconnectPolicy(base=30.0, cap=30.0, jitter=0)
    run, _ = make_run(lost, lost, reconnect=policy, clock=clock)
    with run.start():
        clock.pass_by(30.0)
        until(lambda: run.health().failures == 2 and clock.waiting.is_set())
        assert run.health().retry_in == 30.0
        with pytest.raises(WaitTimeout, match="lost after 2 failures, the next attempt is in 30 s"):
            run.wait(0)


def test_it_names_the_callback_that_runs() -> None:
    entered, release = threading.Event(), threading.Event()
    clock = HandClock()

    def stuck(ctx: Any) -> None:
        entered.set()
        assert release.wait(PATIENCE)

    run, _ = make_run([logs(1, 3), Hold()], callbacks={"on_log": stuck}, clock=clock)
    run.start()
    assert entered.wait(PATIENCE)
    clock.time += 200
    with pytest.raises(WaitTimeout, match=r"\(step 1\).*on_log has been running for 200 s"):
        run.wait(0)
    release.set()
    run.close()
