"""One reading of a job for all who look: nothing lost, nothing twice, left when nobody looks."""

from __future__ import annotations

import logging
import threading
from typing import Any, Iterator, List

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.errors import NotFoundError, RunError
from arkor_sync.studio import taps as module
from arkor_sync.studio.tap import Tap
from arkor_sync.studio.taps import Taps
from support.clocks import HandClock
from support.waiting import PATIENCE, Background, until


@pytest.fixture
def taps(emulator: Emulator) -> Iterator[Taps]:
    taps = Taps(emulator.client())
    yield taps
    taps.close()


def whole(tap: Tap) -> Tap:
    """Wait until a job is read to its end."""
    version = tap.version
    while not tap.ended:
        version = tap.wait(version, 1.0)
    return tap


def steps(tap: Tap) -> List[int]:
    return [int(step) for step in tap.log.columns.steps]


def test_a_job_is_read_to_its_end(emulator: Emulator, taps: Taps) -> None:
    engine = ScriptedEngine(steps=500, checkpoints=[250, 500], eval_loss=lambda step: 2.0)
    job_id = emulator.create_job(engine, {"maxSteps": 500})
    tap = whole(taps.tap(job_id))
    assert steps(tap) == list(range(1, 501))
    assert (tap.connection, tap.job.status, tap.step, tap.total_steps) == (
        "ended",
        "completed",
        500,
        500,
    )
    assert [(each.step, each.logs) for each in tap.checkpoints] == [(250, 250), (500, 500)]
    assert len(tap.log) == 500 + 2 + 2
    assert [moment.kind for moment in tap.timeline] == ["connected", "ended"]
    assert tap.series["eval_loss"].count == 500


def test_who_sees_the_end_sees_all_that_belongs_to_it(
    emulator: Emulator, taps: Taps, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    note = Tap._note

    def listen(self: Tap, kind: str, text: str) -> None:
        told.append((kind, self.connection, bool(self.ended)))
        note(self, kind, text)

    monkeypatch.setattr(Tap, "_note", listen)
    whole(taps.tap(emulator.create_job(ScriptedEngine(steps=3))))
    assert told[-1] == ("ended", "ended", False)


def test_many_who_look_have_one_stream(emulator: Emulator, taps: Taps) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=5, manual=True))
    together = threading.Barrier(20)

    def look() -> Tap:
        together.wait()
        return taps.tap(job_id)

    found = {id(each.result()) for each in [Background(look) for _ in range(20)]}
    assert len(found) == 1
    until(lambda: emulator.open_streams)
    assert len(emulator.connections(job_id)) == 1
    assert len([each for each in emulator.requests if each.path.endswith(job_id)]) == 1


@pytest.mark.parametrize("kind", ["cut_clean", "cut_mid_event", "reset_peer"])
def test_after_a_fault_nothing_is_lost_or_twice(emulator: Emulator, taps: Taps, kind: Any) -> None:
    emulator.faults.add(Fault(kind, route="stream", event="4"))
    tap = whole(taps.tap(emulator.create_job(ScriptedEngine(steps=30))))
    assert steps(tap) == list(range(1, 31))
    kinds = [moment.kind for moment in tap.timeline]
    assert kinds.count("connected") == 2
    assert kinds.count("lost") == (kind != "cut_clean")
    assert kinds[-1] == "ended"


def test_another_process_that_reads_the_same_has_the_same_generation(
    emulator: Emulator, taps: Taps
) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=3))
    other = Taps(emulator.client())
    one, two = whole(taps.tap(job_id)), whole(other.tap(job_id))
    other.close()
    assert one is not two
    assert one.generation == two.generation != ""
    different = whole(taps.tap(emulator.create_job(ScriptedEngine(steps=3), name="another")))
    assert different.generation != one.generation


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_the_end_is_that_of_the_job(emulator: Emulator, taps: Taps, status: str) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=5, manual=True))
    emulator.step(job_id, 3)
    tap = taps.tap(job_id)
    until(lambda: tap.step == 2)
    emulator.finish(job_id, status, error="out of memory")
    whole(tap)
    assert (tap.job.status, tap.connection) == (status, "ended")
    assert tap.job.error == ("out of memory" if status == "failed" else None)


def test_a_stream_that_the_cloud_refuses_is_lost_and_asked_for_again_later(
    emulator: Emulator,
) -> None:
    clock = HandClock()
    taps = Taps(emulator.client(), clock)
    job_id = emulator.create_job(ScriptedEngine(steps=3))
    emulator.faults.add(Fault("status", route="stream", status=403, count=1))
    tap = whole(taps.tap(job_id))
    assert tap.connection == "lost"
    assert taps.tap(job_id) is tap
    clock.time += 61.0
    again = whole(taps.tap(job_id))
    assert again is not tap
    assert steps(again) == [1, 2, 3]
    taps.close()


def test_an_event_that_cannot_be_read_is_listed(emulator: Emulator, taps: Taps) -> None:
    job_id = emulator.create_job(ScriptedEngine(steps=5, manual=True))
    emulator.step(job_id, 2)
    emulator.publish_raw(job_id, b"id: 90\ndata: {broken\n\n")
    emulator.publish(job_id, {"type": "training.surprise", "step": 1})
    emulator.finish(job_id, "completed")
    tap = whole(taps.tap(job_id))
    rows = [tap.log.row(index) for index in range(len(tap.log))]
    assert [row.type for row in rows] == [
        "training.started",
        "training.log",
        "unknown",
        "training.surprise",
        "training.completed",
    ]
    assert "it cannot be read" in rows[2].text
    assert [moment.kind for moment in tap.timeline].count("problem") == 2


def test_no_job_no_tap(taps: Taps) -> None:
    with pytest.raises(NotFoundError):
        taps.tap("nothing")
    with pytest.raises(NotFoundError):  # and nothing hangs from the first time
        taps.tap("nothing")


def test_a_running_job_that_nobody_looks_at_is_left_in_silence(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    taps = Taps(emulator.client(), clock)
    job_id = emulator.create_job(ScriptedEngine(steps=50, manual=True))
    emulator.step(job_id, 2)
    tap = taps.tap(job_id)
    until(lambda: tap.step == 1)
    with caplog.at_level(logging.INFO):
        clock.time += module.UNWATCHED - 1.0
        emulator.step(job_id)
        until(lambda: tap.step == 2)
        assert emulator.open_streams
        clock.time += 1.0
        emulator.step(job_id)  # the reader looks around when something comes
        until(lambda: not emulator.open_streams)
        again = taps.tap(job_id)
    assert again is not tap
    until(lambda: again.step == 3)
    taps.close()
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_ended_jobs_are_kept_up_to_a_bound_of_memory(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    taps = Taps(emulator.client(), clock)
    jobs = [emulator.create_job(ScriptedEngine(steps=20), name=str(n)) for n in range(3)]
    first, second = whole(taps.tap(jobs[0])), whole(taps.tap(jobs[1]))
    monkeypatch.setattr(module, "MOST_BYTES", first.log.bytes)
    clock.time += module.UNWATCHED
    assert taps.tap(jobs[1]) is second  # it was looked at just now
    whole(taps.tap(jobs[2]))
    assert taps.tap(jobs[1]) is second
    assert taps.tap(jobs[0]) is not first
    taps.close()


def test_of_too_many_streams_the_one_looked_at_longest_ago_is_left(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    clock = HandClock()
    taps = Taps(emulator.client(), clock)
    jobs = [emulator.create_job(ScriptedEngine(manual=True), name=str(n)) for n in range(3)]
    for job_id in jobs:
        taps.tap(job_id)
        until(lambda job_id=job_id: emulator.connections(job_id))
        clock.time += 1.0
    until(lambda: {each.job_id for each in emulator.open_streams} == set(jobs[1:]))
    taps.close()


def test_closing_wakes_all_who_wait_and_ends_the_threads(emulator: Emulator) -> None:
    taps = Taps(emulator.client())
    job_id = emulator.create_job(ScriptedEngine(manual=True))
    tap = taps.tap(job_id)
    until(lambda: tap.connection == "live")
    waiting = Background(tap.wait, tap.version, 3600.0)
    before = threading.active_count()
    taps.close()
    waiting.result()
    until(lambda: threading.active_count() <= before - 3)
    with pytest.raises(RunError, match="being closed"):
        taps.tap(job_id)
    until(lambda: not emulator.open_streams)


def test_a_forked_child_begins_anew(emulator: Emulator) -> None:
    taps = Taps(emulator.client())
    job_id = emulator.create_job(ScriptedEngine(steps=3))
    parents = whole(taps.tap(job_id))
    parents.join(PATIENCE)  # a child has none of its threads
    taps.after_fork()  # as the hook does, in the child
    own = whole(taps.tap(job_id))
    assert own is not parents
    assert steps(own) == [1, 2, 3]
    taps.close()
