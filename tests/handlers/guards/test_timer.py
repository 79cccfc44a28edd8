"""The cost guard: when it fires, what it counts, and a cloud that will not be asked."""

from __future__ import annotations

import datetime
import itertools
import math
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Optional, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync import ArkorUsageError, FileCursorStore, ReconnectPolicy, RunAborted, follow
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.handlers import Timer
from arkor_sync.handlers.guards.timer import duration_in_seconds
from support.clocks import HandClock
from support.waiting import PATIENCE, until

QUICK = ReconnectPolicy(base=0.01, cap=0.05)
STARTED = {"type": "training.started", "timestamp": "2026-01-01T00:00:00.000Z"}


class FakeRun:
    """A run that goes on until it is ended."""

    job = SimpleNamespace(id="job-1")

    def __init__(self) -> None:
        self.callbacks: List[Any] = []

    def done(self) -> bool:
        return False

    def add_done_callback(self, function: Any) -> None:
        self.callbacks.append(function)

    def end(self) -> None:
        for function in self.callbacks:
            function(self)


def log(step: int, timestamp: str) -> Any:
    return {"type": "training.log", "step": step, "timestamp": timestamp, "loss": 1.0}


def threads() -> List[str]:
    ours = [each for each in threading.enumerate() if each.name.startswith("arkor-timer-")]
    assert all(each.daemon for each in ours)  # none of them keeps a process from exiting
    return [each.name for each in ours]


def manual(emulator: Emulator, *events: Any) -> str:
    """Make a job that tells these events when it is stepped, and then nothing more."""
    return emulator.create_job(ScriptedEngine(events=events, manual=True))


def test_a_job_that_tells_nothing_more_is_stopped_when_its_time_is_over(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    clock = HandClock()
    job_id = manual(arkor_emulator, STARTED)
    run = follow(job_id, callbacks=Timer("00:00:30:00", clock=clock), client=arkor_client)
    assert threads() == []  # what waits in the queue costs nothing
    arkor_emulator.step(job_id)
    clock.pass_by(1799.0)
    assert not run.done()
    assert threads() == [f"arkor-timer-{job_id}"]
    clock.pass_by(1.0)
    result = run.wait(PATIENCE)
    assert result.status == "cancelled"
    assert result.stop_reason == "the job's time limit of 0:30:00 is over"
    assert arkor_client.jobs.get(job_id).status == "cancelled"


def test_a_real_clock_will_do(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    job_id = manual(arkor_emulator, STARTED)
    run = follow(job_id, callbacks=Timer(0.05), client=arkor_client)
    arkor_emulator.step(job_id)
    assert run.wait(PATIENCE).stop_reason == "the job's time limit of 0:00:00.050000 is over"


def test_it_fires_while_a_callback_hangs(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, hanging, let_go = HandClock(), threading.Event(), threading.Event()

    def hang(ctx: Any) -> None:
        hanging.set()
        let_go.wait(PATIENCE)

    job_id = manual(arkor_emulator, STARTED)
    callbacks = [Timer(60, clock=clock), {"on_started": hang}]
    run = follow(job_id, callbacks=callbacks, client=arkor_client, abort_grace=0.05)
    arkor_emulator.step(job_id)
    try:
        assert hanging.wait(PATIENCE)
        clock.pass_by(60.0)
        result = run.wait(PATIENCE)
        assert result.stop_reason == "the job's time limit of 0:01:00 is over"
        assert f"on_started of job {job_id} is still running" in caplog.text
        assert arkor_client.jobs.get(job_id).status == "cancelled"
    finally:
        let_go.set()


def test_its_thread_ends_with_a_run_that_ends_in_time(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    clock = HandClock()
    job_id = manual(arkor_emulator, STARTED, {"type": "training.completed", "artifacts": []})
    run = follow(job_id, callbacks=Timer(60, clock=clock), client=arkor_client)
    arkor_emulator.step(job_id)
    assert clock.waiting.wait(PATIENCE)
    arkor_emulator.step(job_id)
    assert run.wait(PATIENCE).status == "completed"
    until(lambda: threads() == [])


def test_after_an_abort_it_guards_nothing_and_the_job_goes_on(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    clock = HandClock()
    job_id = manual(arkor_emulator, STARTED)
    run = follow(job_id, callbacks=Timer(60, clock=clock), client=arkor_client)
    arkor_emulator.step(job_id)
    assert clock.waiting.wait(PATIENCE)
    run.abort()
    with pytest.raises(RunAborted):
        run.wait(PATIENCE)
    until(lambda: threads() == [])
    assert arkor_client.jobs.get(job_id).status == "running"


def test_a_job_that_ran_before_it_was_followed_is_measured_by_the_clouds_own_times(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    clock = HandClock()
    job_id = manual(
        arkor_emulator,
        STARTED,
        log(1, "2026-01-01T00:00:50.000Z"),
        log(2, "2026-01-01T00:00:40.000Z"),  # the cloud's clock was set back
        log(3, "no time at all"),
    )
    arkor_emulator.step(job_id, 4)
    timer = Timer(60, clock=clock)
    run = follow(job_id, callbacks=timer, client=arkor_client)
    until(lambda: run.health().delivered == 4)
    until(lambda: clock.waits[-1:] == [10.0])
    assert len(clock.waits) <= 2  # it slept in between
    assert not run.done()
    clock.pass_by(10.0)
    assert run.wait(PATIENCE).status == "cancelled"


@pytest.mark.arkor(faults=[Fault("status", route="cancel_job", status=503, count=6)])
def test_a_cloud_that_cannot_be_asked_is_asked_again_after_a_while(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = HandClock()
    job_id = manual(arkor_emulator, STARTED)
    run = follow(job_id, callbacks=Timer(60, clock=clock), client=arkor_client)
    arkor_emulator.step(job_id)
    moments = [60.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    for seconds in moments:
        assert not run.done()
        clock.pass_by(seconds)
    assert run.wait(PATIENCE).status == "cancelled"
    assert clock.waits == moments
    refused = [r for r in caplog.records if "could not be stopped" in r.getMessage()]
    assert len(refused) == 6


def test_a_restart_gives_no_time_away(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wild_clock = itertools.cycle([1e9, 1e9 - 3 * 3600, 0.0, 4e9])
    monkeypatch.setattr("time.time", lambda: next(wild_clock))
    store = FileCursorStore(tmp_path)
    job_id = manual(arkor_emulator, STARTED, log(1, "?"), log(2, "?"))
    first = HandClock()
    run = follow(job_id, callbacks=Timer(600, clock=first), client=arkor_client, cursor_store=store)
    arkor_emulator.step(job_id)
    first.pass_by(100.0)
    arkor_emulator.step(job_id)
    until(lambda: run.health().delivered == 2)
    run.close()
    second = HandClock()
    second.time = 5.0  # the machine was started anew
    again = follow(
        job_id, callbacks=Timer(600, clock=second), client=arkor_client, cursor_store=store
    )
    arkor_emulator.step(job_id)
    assert second.waiting.wait(PATIENCE)
    assert second.waits == [500.0]
    second.pass_by(500.0)
    assert again.wait(PATIENCE).status == "cancelled"


@pytest.mark.arkor(ping_interval=0.01)
def test_a_new_process_whose_job_is_silent_begins_with_the_first_lost_stream(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, tmp_path: Path
) -> None:
    clock = HandClock()
    store = FileCursorStore(tmp_path)
    job_id = manual(arkor_emulator, STARTED)
    arkor_emulator.step(job_id)
    run = follow(job_id, callbacks=Timer(60), client=arkor_client, cursor_store=store)
    until(lambda: run.health().delivered == 1)
    run.close()
    arkor_emulator.faults.add(Fault("cut_clean", event="ping"))
    again = follow(
        job_id, callbacks=Timer(60, clock=clock), client=arkor_client, cursor_store=store
    )
    clock.pass_by(60.0)
    assert again.wait(PATIENCE).status == "cancelled"


@pytest.mark.arkor(ping_interval=0.01, faults=[Fault("cut_clean", event="ping")])
def test_a_lost_stream_does_not_begin_the_time_of_a_job_that_is_queued(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    lost = threading.Event()
    clock = HandClock()
    callbacks = [Timer(60, clock=clock), {"on_reconnect": lambda ctx: lost.set()}]
    job_id = manual(arkor_emulator, STARTED)
    run = follow(job_id, callbacks=callbacks, client=arkor_client, reconnect=QUICK)
    assert lost.wait(PATIENCE)
    assert threads() == []
    arkor_emulator.step(job_id)
    clock.pass_by(60.0)
    assert run.wait(PATIENCE).status == "cancelled"


def test_one_object_guards_one_run_after_the_other(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    clock = HandClock()
    timer = Timer(60, clock=clock)
    for _ in range(2):
        job_id = manual(arkor_emulator, STARTED)
        run = follow(job_id, callbacks=timer, client=arkor_client)
        arkor_emulator.step(job_id)
        clock.pass_by(60.0)
        assert run.wait(PATIENCE).status == "cancelled"
        until(lambda: threads() == [])
    assert clock.waits == [60.0, 60.0]


@pytest.mark.parametrize(
    ("since", "until", "seconds"),
    [
        ("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:50.500Z", 50.5),
        ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:50.123456789Z", 50.0),
        ("2026-01-01T00:00:00", "2026-01-01T01:00:50+01:00", 50.0),
        ("2026-01-01T01:00:00Z", "2026-01-01T00:00:00Z", 0.0),
        ("yesterday", "2026-01-01T00:00:00Z", 0.0),
        ("2026-01-01T00:00:00Z", None, 0.0),
    ],
)
def test_the_clouds_times_are_only_believed_as_far_as_they_can_be_read(
    since: str, until: Optional[str], seconds: float
) -> None:
    timer, run = Timer(60, clock=HandClock()), FakeRun()
    job = SimpleNamespace(id="job-1", started_at=since)
    event = SimpleNamespace(timestamp=until)
    timer.on_log(cast(Any, SimpleNamespace(run=run, job=job, event=event)))
    try:
        assert timer._started == 1000.0 - seconds
    finally:
        run.end()


def test_a_process_that_can_have_no_more_threads_tries_again_at_the_next_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    timer, run = Timer(60, clock=HandClock()), FakeRun()
    job = SimpleNamespace(id="job-1", started_at=None)
    ctx = cast(Any, SimpleNamespace(run=run, job=job, event=SimpleNamespace(timestamp=None)))
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", refuse)
        timer.on_started(ctx)
        timer.on_log(ctx)
    assert caplog.text.count("Timer: job job-1 is not watched yet: can't start new thread") == 2
    assert run.callbacks == []
    timer.on_log(ctx)
    timer.on_log(ctx)
    assert threads() == ["arkor-timer-job-1"]
    run.end()
    until(lambda: threads() == [])


@given(
    days=st.integers(0, 9),
    hours=st.integers(0, 23),
    rest=st.integers(0, 59),
    more=st.integers(1, 59),
)
def test_all_ways_to_write_a_duration_mean_the_same(
    days: int, hours: int, rest: int, more: int
) -> None:
    delta = datetime.timedelta(days=days, hours=hours, minutes=rest, seconds=more)
    text = f"{days:02}:{hours:02}:{rest:02}:{more:02}"
    assert (
        duration_in_seconds(text)
        == duration_in_seconds(delta)
        == duration_in_seconds(delta.total_seconds())
    )


@pytest.mark.parametrize(
    "duration",
    [
        0,
        -1,
        math.nan,
        math.inf,
        True,
        None,
        "1h",
        "12:00:00",
        "00:00:00:00",
        "-1:00:00:00",
        "1:²:0:0",
    ],
)
def test_a_duration_that_cannot_work_is_refused_with_what_would(duration: Any) -> None:
    with pytest.raises(ArkorUsageError, match="give seconds above 0, a timedelta, or a text 'DD:"):
        Timer(duration)


def test_the_time_that_passed_while_nobody_followed_is_read_from_the_clouds_timestamps(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, tmp_path: Path
) -> None:
    store = FileCursorStore(tmp_path)
    job_id = manual(
        arkor_emulator,
        STARTED,
        log(1, "2026-01-01T00:01:40.000Z"),
        log(2, "2026-01-01T00:02:30.000Z"),
    )
    first, second = HandClock(), HandClock()
    run = follow(job_id, callbacks=Timer(600, clock=first), client=arkor_client, cursor_store=store)
    arkor_emulator.step(job_id, 2)
    until(lambda: run.health().delivered == 2)
    run.close()
    callbacks = Timer(600, clock=second)
    again = follow(job_id, callbacks=callbacks, client=arkor_client, cursor_store=store)
    arkor_emulator.step(job_id)
    assert second.waiting.wait(PATIENCE)
    assert second.waits == [450.0]
    again.close()


def test_a_state_of_version_0_1_with_a_time_of_day_cancels_nothing() -> None:
    timer = Timer(600, clock=HandClock())
    timer.load_state_dict({"jobId": "job-1", "beganAt": 0.0})
    assert timer.state_dict() == {"jobId": "job-1", "ran": None}
