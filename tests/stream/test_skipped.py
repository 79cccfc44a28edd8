"""Events that cannot be delivered: all are counted, some are logged."""

from __future__ import annotations

import pytest

from arkor_sync.stream.events import TrainingEvent
from arkor_sync.stream.skipped import FEW, Skipped
from support.fake_cloud import Seen, completed, log, make_run
from support.waiting import PATIENCE


def skip(count: int) -> Skipped:
    skipped = Skipped("job-1")
    for number in range(count):
        skipped.add(TrainingEvent("", {}, str(number), "not JSON"))
    return skipped


@pytest.mark.parametrize("count", [0, 1, FEW])
def test_the_first_few_are_logged_one_by_one(count: int, caplog: pytest.LogCaptureFixture) -> None:
    skip(count).log_total()
    assert caplog.messages == [f"skipped event {number}: not JSON" for number in range(count)]


def test_of_the_others_a_count_is_logged_and_the_last_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    skipped = skip(12_345)
    skipped.log_total()
    assert skipped.count == 12_345
    assert caplog.messages[FEW:] == [
        "skipped 100 events of job job-1 so far; the last is event 99: not JSON",
        "skipped 1000 events of job job-1 so far; the last is event 999: not JSON",
        "skipped 10000 events of job job-1 so far; the last is event 9999: not JSON",
        "skipped 12345 events of job job-1 in all",
    ]


def test_the_total_is_not_logged_twice(caplog: pytest.LogCaptureFixture) -> None:
    skip(100).log_total()
    assert len(caplog.messages) == FEW + 1


def test_a_server_that_sends_nonsense_fills_no_disk_and_all_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kinds = [b"data: {nope %d\n\n", b"data: [%d]\n\n", b'data: {"type": "training.%d"}\n\n']
    nonsense = [b"".join(kind % n for kind in kinds) for n in range(10_000)]
    chunks = [b"".join(nonsense[n : n + 500]) for n in range(0, len(nonsense), 500)]
    seen = Seen()
    run, _ = make_run([log(1), *chunks, log(2), completed()], callbacks=seen.table())
    run.start().wait(PATIENCE)
    health = run.health()
    assert health.skipped == 30_000
    assert health.delivered == 30_003
    assert seen.calls == ["log", "log", "completed"]
    assert len(caplog.records) == FEW + 3 + 1
