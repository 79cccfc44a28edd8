"""What a store keeps of a job: older versions are read, newer ones are left untouched."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from arkor_sync import FileCursorStore, SavedCursor
from arkor_sync.errors import CursorStoreError
from arkor_sync.stores.base import decode_cursor, encode_cursor
from support.clocks import FakeClock
from support.fake_cloud import END, Hold, Seen, completed, frame, job, log, logs, make_run
from support.run_threads import has_ended
from support.waiting import PATIENCE, until

WRITTEN_BY_0_1: Dict[str, Any] = {
    "jobId": "job-1",
    "acknowledgedId": "3",
    "delivered": 3,
    "opening": ["8d4f7f24cd4ff5e2a7d1f6d44a3bd2a5", "b5b3a9f3d1c13e2f4cf7a9a7ad0a5e6c"],
    "finished": False,
    "state": {"EarlyStopping": {"best": 1.5}},
}
KEEPALIVE = frame(None, {"type": "keepalive"})


def text(**fields: Any) -> bytes:
    return json.dumps({**WRITTEN_BY_0_1, **fields}).encode()


def test_what_is_written_is_read() -> None:
    saved = SavedCursor(
        acknowledged_id="7",
        delivered=9,
        opening=["a", "b"],
        finished=True,
        state={"x": [1]},
        before_ids=2,
        after_id=3,
        latest=["c"],
        owner="process 1 on host",
        epoch=4,
    )
    assert decode_cursor(encode_cursor("job-1", saved).encode()) == saved


def test_the_stored_text_has_these_fields() -> None:
    """Another version reads them: a change here needs a new `VERSION`."""
    assert json.loads(encode_cursor("job-1", SavedCursor("7", 1, ["a"], latest=["c"]))) == {
        "version": 2,
        "jobId": "job-1",
        "acknowledgedId": "7",
        "delivered": 1,
        "beforeIds": 0,
        "afterId": 0,
        "opening": ["a"],
        "latest": ["c"],
        "finished": False,
        "owner": None,
        "epoch": 0,
        "state": {},
    }


def test_what_0_1_wrote_is_read() -> None:
    saved = decode_cursor(text())
    assert (saved.acknowledged_id, saved.delivered, saved.before_ids) == ("3", 3, 0)
    assert saved.opening == WRITTEN_BY_0_1["opening"]
    assert saved.state == WRITTEN_BY_0_1["state"]
    assert (saved.latest, saved.owner, saved.epoch) == ([], None, 0)


def test_what_0_1_counted_where_there_are_no_ids_is_counted() -> None:
    assert decode_cursor(text(acknowledgedId=None, delivered=5)).before_ids == 5


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"version": "2"}, "version: expected int, got '2'"),
        ({"version": True}, "version: expected int, got True"),
        ({"delivered": -1}, "delivered: expected 0 or more, got -1"),
        ({"opening": [1]}, r"opening: expected texts, got \[1\]"),
        ({"version": 2}, "beforeIds: expected int, got nothing"),
    ],
)
def test_what_is_something_else_is_refused(fields: Dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        decode_cursor(text(**fields))


def test_what_a_newer_version_wrote_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "job-1.json"
    path.write_bytes(text(version=3, news={"a": 1}))
    os.chmod(path, 0o640)
    before = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino
    with pytest.raises(CursorStoreError, match="is of version 3, and this arkor_sync reads") as e:
        make_run([completed()], cursor_store=FileCursorStore(tmp_path))
    assert str(path) in str(e.value)
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    FileCursorStore(tmp_path).lease("job-1")()  # the job was given back


def follow(store: FileCursorStore, *connections: Any, stop_at: Optional[int] = None) -> List[int]:
    """Follow with one run, up to an event; return the steps of which the callbacks were told."""
    seen = Seen()
    table = seen.table()
    record = table["on_log"]

    def on_log(ctx: Any) -> None:
        record(ctx)
        if ctx.step == stop_at:
            ctx.run.abort("as far as this process gets")

    run, _ = make_run(*connections, callbacks={**table, "on_log": on_log}, cursor_store=store)
    with run.start():
        if stop_at is None:
            assert run.wait(PATIENCE).status == "completed"
        else:
            assert has_ended(run, "worker")
    return seen.steps


@pytest.mark.parametrize("first", [0, 3])
def test_a_run_that_is_carried_on_at_a_server_that_sends_all_again_delivers_the_rest(
    tmp_path: Path, first: int
) -> None:
    store = FileCursorStore(tmp_path)
    lives = [[KEEPALIVE] * count + [logs(1, 9) + completed()] for count in (first, 3 - first)]
    assert follow(store, lives[0], stop_at=6) == [1, 2, 3, 4, 5, 6]
    assert follow(store, lives[1]) == [7, 8, 9]


def test_a_history_without_the_acknowledged_event_is_delivered_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileCursorStore(tmp_path)
    assert follow(store, [logs(1, 9)], stop_at=6) == [1, 2, 3, 4, 5, 6]
    assert follow(store, [logs(4, 5) + logs(8, 9) + completed()]) == [4, 5, 8, 9]
    assert "event '6' did not come again" in caplog.text


def test_events_without_ids_behind_the_last_id_are_not_delivered_again(tmp_path: Path) -> None:
    store = FileCursorStore(tmp_path)
    bare = [log(step, id=None) for step in (4, 5, 6)]
    assert follow(store, [logs(1, 3), *bare], stop_at=5) == [1, 2, 3, 4, 5]
    assert follow(store, [*bare, completed()]) == [6]


def test_each_run_that_follows_a_job_has_an_epoch_of_its_own(tmp_path: Path) -> None:
    store = FileCursorStore(tmp_path)
    for epoch in (1, 2, 3):
        follow(store, [logs(1, 9)], stop_at=epoch)
        saved = store.load("job-1")
        assert saved.epoch == epoch
        assert f"process {os.getpid()} on " in str(saved.owner)


def outcome(store: FileCursorStore, *connections: Any, **options: Any) -> Any:
    seen = Seen()
    run, _ = make_run(*connections, callbacks=seen.table(), cursor_store=store, **options)
    with run.start():
        return run.wait(PATIENCE).status, seen.calls


@pytest.mark.parametrize("again", [[logs(1, 3), completed()], [completed()], [END]])
def test_a_finished_job_whose_record_lags_behind_is_not_called_again(
    tmp_path: Path, again: Any
) -> None:
    store = FileCursorStore(tmp_path)
    assert outcome(store, [logs(1, 3), completed()])[1][-1] == "completed"
    before = (tmp_path / "job-1.json").read_bytes()
    records = [job("running"), job("completed")]
    assert outcome(store, again, again, records=records) == ("completed", [])
    assert (tmp_path / "job-1.json").read_bytes() == before


def test_the_end_of_a_job_that_0_1_followed_is_delivered_though_it_shares_an_id(
    tmp_path: Path,
) -> None:
    (tmp_path / "job-1.json").write_bytes(text(acknowledgedId="t3"))
    assert outcome(FileCursorStore(tmp_path), [completed("t3")]) == ("completed", ["completed"])


def test_a_long_history_that_is_sent_again_slowly_is_no_silence(tmp_path: Path) -> None:
    store = FileCursorStore(tmp_path)
    follow(store, [logs(1, 9)], stop_at=6)
    clock = FakeClock()

    def wait() -> None:
        clock.wait(threading.Event(), 20)

    history = [step for n in range(1, 10) for step in (log(n), wait)]
    seen = Seen()
    run, jobs = make_run(
        [*history, completed()],
        callbacks=seen.table(),
        cursor_store=store,
        clock=clock,
        stale_after=60.0,
    )
    with run.start():
        assert run.wait(PATIENCE).status == "completed"
    assert seen.steps == [7, 8, 9]
    assert len(jobs.resumed) == 1


def test_events_that_only_their_order_holds_back_come_after_a_pause(tmp_path: Path) -> None:
    store = FileCursorStore(tmp_path)
    follow(store, [log(1, "499"), log(2, "500")], stop_at=2)
    clock = FakeClock()

    def wait() -> None:
        clock.wait(threading.Event(), 3)

    seen = Seen()
    hold = Hold()
    run, _ = make_run(
        [log(3, "1"), log(4, "2"), wait, log(5, "3"), hold],
        callbacks=seen.table(),
        cursor_store=store,
        clock=clock,
    )
    with run.start():
        until(lambda: len(seen.steps) == 3)
    assert seen.steps == [3, 4, 5]
