"""The timeline of a job in plain words."""

from __future__ import annotations

from typing import Any, List

from arkor_sync.cloud.models import TrainingJob
from arkor_sync.stream.events import TrainingEvent
from arkor_sync.studio.event_log import EventLog, iso
from arkor_sync.studio.story import tell
from arkor_sync.studio.tap import Moment

BEGIN = 1_700_000_000.0


def job(**fields: Any) -> TrainingJob:
    given = {
        "id": "j", "orgId": "o", "projectId": "p", "name": "triage", "status": "running",
        "config": {"model": "gemma"}, "createdAt": iso(BEGIN), "startedAt": iso(BEGIN + 1),
        **fields,
    }  # fmt: skip
    return TrainingJob.from_dict(given)


def log_of(*events: Any) -> EventLog:
    """Return the events: each a type, seconds after the start, and other fields."""
    log = EventLog()
    for number, (kind, seconds, fields) in enumerate(events):
        data = {"type": kind, "timestamp": iso(BEGIN + seconds), **fields}
        log.add(TrainingEvent(kind, data, id=str(number)))
    return log


def logs(first: int, last: int) -> List[Any]:
    return [("training.log", n, {"step": n, "loss": 10.0 - n}) for n in range(first, last + 1)]


def texts(*args: Any) -> List[str]:
    return [each.text for each in tell(*args)]


def test_the_newest_is_last_whoever_tells_it() -> None:
    log = log_of(("training.started", 2, {}), *logs(3, 4), ("checkpoint.saved", 5, {"step": 4}))
    moments = [Moment(BEGIN + 1.5, "connected", "the stream is open")]
    told = tell(job(), log, moments)
    assert [each.kind for each in told] == ["record", "record", "stream", "event", "logs", "event"]
    assert [each.time for each in told] == sorted(each.time for each in told)
    assert told[-1].text == "The checkpoint at step 4 was saved"


def test_logs_between_two_happenings_are_one_entry() -> None:
    log = log_of(*logs(1, 6))
    moments = [Moment(BEGIN + 4.5, "lost", "connection reset; again in 0.2 s")]
    assert texts(job(), log, moments)[2:] == [
        "4 logs, steps 1 to 4, loss 9.0000 to 6.0000",
        "The stream was cut: connection reset; again in 0.2 s",
        "2 logs, steps 5 to 6, loss 5.0000 to 4.0000",
    ]


def test_one_log_and_one_without_a_loss() -> None:
    assert texts(job(), log_of(*logs(3, 3)), [])[-1] == "1 log, step 3, loss 7.0000"
    log = log_of(("training.log", 3, {"step": 3, "loss": None}))
    assert texts(job(), log, [])[-1] == "1 log, step 3"


def test_a_reconnect_is_told_from_the_first_failure_on() -> None:
    moments = [
        Moment(BEGIN + 10, "connected", "the stream is open"),
        Moment(BEGIN + 20, "lost", "connection reset; again in 0.4 s"),
        Moment(BEGIN + 20.4, "lost", "refused; again in 1.0 s"),
        Moment(BEGIN + 21.5, "connected", "the stream is open again"),
    ]
    told = tell(job(), log_of(), moments)[2:]
    assert [each.text for each in told] == [
        "Studio opened the stream, to read it from its start",
        "The stream was cut: connection reset; again in 0.4 s",
        "The next attempt failed: refused; again in 1.0 s",
        "Connected again at attempt 2 after 1.5 s; the stream went on, nothing was lost",
    ]
    assert [each.is_problem for each in told] == [False, True, True, False]


def test_a_failure_is_told_by_the_record_and_by_the_event() -> None:
    failed = job(status="failed", error="CUDA out of memory", completedAt=iso(BEGIN + 9))
    log = log_of(("training.failed", 8, {"error": "CUDA out of memory"}))
    told = tell(failed, log, [])
    assert [each.text for each in told[2:]] == [
        "The training failed: CUDA out of memory",
        "The record says that it is failed: CUDA out of memory",
    ]
    assert all(each.is_problem for each in told[2:])


def test_times_that_are_none_do_not_move_what_comes_after_them() -> None:
    log = log_of(*logs(1, 2))
    log.add(TrainingEvent("checkpoint.saved", {"type": "checkpoint.saved", "step": 2}, id="9"))
    told = tell(job(createdAt="yesterday", startedAt=None), log, [])
    assert [each.kind for each in told] == ["record", "logs", "event"]
    assert told[0].iso is None


def test_an_event_that_is_unknown_or_cannot_be_read() -> None:
    log = log_of(("training.paused", 3, {}))
    log.add(TrainingEvent("", {}, id="9", problem="it is no JSON object"))
    told = tell(job(), log, [])[2:]
    assert told[0].text == "An event of the type training.paused"
    assert "it cannot be read: it is no JSON object" in told[1].text
    assert told[1].is_problem


def test_a_million_logs_are_few_entries() -> None:
    log = EventLog()
    log.add_logs([{"step": n, "loss": 1.0, "timestamp": iso(BEGIN)} for n in range(100_000)])
    assert len(tell(job(), log, [])) == 3
