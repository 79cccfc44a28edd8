"""Reading all that has happened in a job so far."""

from __future__ import annotations

from typing import Iterator, List

import pytest

from arkor_sync.cli import job_history
from arkor_sync.cli.job_history import read_events, read_history
from arkor_sync.cli.output import Output
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.errors import AuthenticationError, CloudApiError
from arkor_sync.stream.events import TrainingEvent
from support.waiting import Background, until


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator
        assert emulator.errors == []


def types_of(emulator: Emulator, job_id: str) -> List[str]:
    """Read the events of a job, and return their types."""
    client = emulator.client()
    events: List[TrainingEvent] = []
    read_events(client, client.jobs.get(job_id), events.append)
    return [event.type for event in events]


def test_a_job_that_has_ended_is_read_to_its_end_through_cuts(emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=3, checkpoints=[2]))
    emulator.wait_for(lambda: emulator.jobs[job].completed_at)
    emulator.faults.add(Fault("cut_mid_event", route="stream", event="3"))
    assert types_of(emulator, job) == [
        "training.started",
        "training.log",
        "training.log",
        "checkpoint.saved",
        "training.log",
        "training.completed",
    ]


@pytest.mark.parametrize("silent", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_end_of_a_cancelled_job_is_made_of_its_record(emulator: Emulator, silent: bool) -> None:
    job = emulator.create_job(ScriptedEngine(manual=True))
    emulator.step(job, 2)
    emulator.finish(job, "cancelled", silent=silent)
    assert types_of(emulator, job) == ["training.started", "training.log", "training.cancelled"]


def test_a_job_that_goes_on_is_left_when_it_is_quiet(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    job = emulator.create_job(ScriptedEngine(manual=True), name="a\x1b[31mb")
    emulator.step(job, 3)
    client = emulator.client()
    told = read_history(client, client.jobs.get(job), Output())
    assert told.job.status == "running"
    assert told.result is None
    assert len(told.history) == 2
    assert capsys.readouterr().err == ("job 'ab' has not ended: this is what has come until now\n")
    assert caplog.records == []
    emulator.wait_for(lambda: not emulator.open_streams)


def test_a_job_that_is_never_quiet_is_left_too(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_history, "QUIET", float("inf"))
    monkeypatch.setattr(job_history, "LONGEST", 0.5)
    job = emulator.create_job(ScriptedEngine(manual=True))
    emulator.step(job, 3)
    assert types_of(emulator, job) == ["training.started", "training.log", "training.log"]


def test_a_job_that_ends_meanwhile_is_read_to_its_end(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_history, "QUIET", float("inf"))
    monkeypatch.setattr(job_history, "LONGEST", float("inf"))
    job = emulator.create_job(ScriptedEngine(manual=True))
    reading = Background(types_of, emulator, job)
    until(lambda: emulator.open_streams)
    emulator.step(job)
    emulator.finish(job, "completed")
    assert reading.result() == ["training.started", "training.completed"]


def test_what_the_function_raises_is_raised(emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(steps=3))
    client = emulator.client()

    def refuse(event: TrainingEvent) -> None:
        raise BrokenPipeError(event.type)

    with pytest.raises(BrokenPipeError, match=r"training\.started"):
        read_events(client, client.jobs.get(job), refuse)


def test_a_stream_that_is_refused_is_an_error(emulator: Emulator) -> None:
    job = emulator.create_job(ScriptedEngine(manual=True))
    for status, kind in ((401, AuthenticationError), (410, CloudApiError)):
        emulator.faults.add(Fault("status", route="stream", status=status, count=9))
        with pytest.raises(kind, match=str(status)):
            types_of(emulator, job)
        emulator.faults.clear()
