"""What a state directory keeps: jobs that are there again after a stop or a kill."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import stat
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest
import urllib3

from arkor_sync.emulator import (
    ChatRequest,
    Emulator,
    Engine,
    Frame,
    Job,
    NgramEngine,
    ScriptedEngine,
    Ticket,
)
from arkor_sync.emulator.models import Item, LogEntry, StoredJob
from arkor_sync.emulator.saved_jobs import SavedJobs
from support.counting_engine import CountingEngine, expected, told
from support.emulator_client import CONFIG, Client, live
from support.waiting import Background, until

HUB_FREE = {**CONFIG, "datasetSource": {"type": "huggingface", "name": "emulator/sample"}}


class Another(CountingEngine):
    """An engine of another class."""


def running_at(step: int, state: Path, **options: Any) -> str:
    """Leave a job that an emulator was training when it was stopped, after this step."""
    engine = CountingEngine(limit=step)
    with Emulator(engine, state_dir=state, **options) as emu:
        job_id = emu.create_job()
        emu.wait_for(lambda: emu.jobs[job_id].step == step or step == 0)
    return job_id


def record_of(state: Path, job_id: str) -> Dict[str, Any]:
    record: Dict[str, Any] = json.loads((state / job_id / "job.json").read_text())
    return record


def files_of(state: Path) -> Dict[str, bytes]:
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in sorted(state.rglob("*"))
        if path.is_file()
    }


# -- jobs that had ended --------------------------------------------------------------------------


def test_a_job_is_there_again_with_its_events_its_stream_and_its_chat(tmp_path: Path) -> None:
    with Emulator(state_dir=tmp_path) as emu, Client(emu) as client:
        job_id = client.submit(**HUB_FREE, maxSteps=4, saveSteps={"steps": 2})
        events = client.read(job_id)
        record = client.get(f"/v1/jobs/{job_id}").json()
        scope = (emu.org_slug, emu.project_slug, emu.project_id)
        answers = [
            client.chat(adapter=adapter, seed=1).json()["choices"][0]["message"]
            for adapter in adapters(job_id)
        ]
    with Emulator(state_dir=tmp_path) as emu, Client(emu) as client:
        assert (emu.org_slug, emu.project_slug, emu.project_id) == scope
        assert client.get("/v1/jobs").json()["jobs"] == [record["job"]]
        assert client.get(f"/v1/jobs/{job_id}").json() == record
        assert client.read(job_id) == events
        assert client.read(job_id, events[2].id) == events[3:]
        assert answers == [
            client.chat(adapter=adapter, seed=1).json()["choices"][0]["message"]
            for adapter in adapters(job_id)
        ]
        assert emu.jobs[job_id].step == 4
        assert emu.errors == []


def adapters(job_id: str) -> List[Dict[str, Any]]:
    return [
        {"kind": "final", "jobId": job_id},
        {"kind": "checkpoint", "jobId": job_id, "step": 2},
    ]


def test_each_kind_of_entry_is_kept_as_it_was(tmp_path: Path) -> None:
    items = [
        {"type": "training.started"},
        ({"type": "training.log", "step": 1, "loss": 0.5, "text": "zwölf \ud800 \n"}, None),
        ({"type": "training.log", "step": 2}, "an id ü"),
        Frame('{"type":"training.log","loss":NaN}', "41", "training.log"),
        Frame("no json", None, None),
        b"id: 7\r\ndata: \xff\xfe\n\n",
        {"type": "training.completed"},
    ]
    with Emulator(ScriptedEngine(events=items), state_dir=tmp_path) as emu:
        job_id = emu.create_job()
        job = emu.jobs[job_id]
        emu.wait_for(lambda: job.terminal)
    with Emulator(state_dir=tmp_path) as emu:
        again = emu.jobs[job.id]
        assert again.log == job.log
        assert again.wire() == job.wire()
        emu.publish(job.id, {"type": "training.log", "step": 3})
        assert again.log[-1].id == "43"


@pytest.mark.parametrize("emits", ["failed", "end", "nothing"])
def test_a_cancelled_job_stays_cancelled(tmp_path: Path, emits: str) -> None:
    job_id = ""
    with (
        Emulator(CountingEngine(limit=3), state_dir=tmp_path, cancel_emits=emits) as emu,
        Client(emu) as client,
    ):
        job_id = client.submit()
        emu.wait_for(lambda: emu.jobs[job_id].step == 3)
        assert client.post(f"/v1/jobs/{job_id}/cancel").ok
        record = client.get(f"/v1/jobs/{job_id}").json()
    assert record["job"]["status"] == "cancelled"
    with Emulator(CountingEngine(), state_dir=tmp_path) as emu, Client(emu) as client:
        assert client.get(f"/v1/jobs/{job_id}").json() == record
        job = emu.jobs[job_id]
        assert isinstance(job, StoredJob)
        assert job.ended == (emits != "nothing")


def test_a_job_that_was_finished_by_hand_stays_so(tmp_path: Path) -> None:
    with Emulator(CountingEngine(limit=1), state_dir=tmp_path) as emu:
        job_id = emu.create_job()
        emu.wait_for(lambda: emu.jobs[job_id].step == 1)
        emu.finish(job_id, "failed", error="by hand", silent=True)
    with Emulator(CountingEngine(), state_dir=tmp_path) as emu:
        assert (emu.jobs[job_id].status, emu.jobs[job_id].error) == ("failed", "by hand")


def test_projects_and_the_order_of_jobs_are_kept(tmp_path: Path) -> None:
    with Emulator(ScriptedEngine(steps=1), state_dir=tmp_path) as emu, Client(emu) as client:
        body = {"name": "Other", "slug": "other"}
        other = client.post("/v1/projects", body).json()["project"]
        scope = {"orgSlug": emu.org_slug, "projectSlug": "other"}
        inside = Client(emu, **scope)
        ids = [inside.submit()]
        emu.wait_for(lambda: ids[0] not in (None, "") and emu.jobs[ids[0]].terminal)
        inside.session.close()
    with Emulator(state_dir=tmp_path) as emu, Client(emu, **scope) as inside:
        assert [job["id"] for job in inside.get("/v1/jobs").json()["jobs"]] == ids
        projects = inside.get("/v1/projects").json()["projects"]
        assert [project["id"] for project in projects] == [emu.project_id, other["id"]]


def test_a_temporary_directory_keeps_nothing() -> None:
    with Emulator(CountingEngine()) as emu:
        job_id = emu.create_job()
        job = emu.jobs[job_id]
        emu.wait_for(lambda: job.terminal)
        assert sorted(path.name for path in job.directory.iterdir()) == [
            "step-12",
            "step-4",
            "step-8",
        ]


def test_a_directory_that_holds_no_job_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "final.ngram").write_text("kept")
    with Emulator(state_dir=tmp_path) as emu:
        assert emu.jobs == {}
    assert (tmp_path / "older" / "final.ngram").read_text() == "kept"


def test_what_is_kept_is_for_the_user_alone(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        with Emulator(CountingEngine(), state_dir=tmp_path / "state") as emu:
            job_id = emu.create_job(config={"datasetSource": {"token": "secret"}})
            emu.wait_for(lambda: emu.jobs[job_id].terminal)
    finally:
        os.umask(former)
    state = tmp_path / "state"
    kept = [state, *(path for path in state.rglob("*") if not path.name.startswith("step-"))]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in kept}
    assert modes == {
        "state": 0o700,
        "emulator.json": 0o600,
        "emulator.lock": 0o600,
        job_id: 0o700,
        "job.json": 0o600,
        "events.jsonl": 0o600,
    }


def test_a_reset_deletes_what_is_kept(tmp_path: Path) -> None:
    with Emulator(CountingEngine(limit=5), state_dir=tmp_path) as emu, Client(emu) as client:
        client.post("/v1/projects", {"name": "Other", "slug": "other"})
        job_id = client.submit()
        emu.wait_for(lambda: emu.jobs[job_id].step == 5)
        emu.reset()
        assert not (tmp_path / job_id).exists()
        project = emu.project_id
    with Emulator(CountingEngine(), state_dir=tmp_path) as emu, Client(emu) as client:
        assert emu.jobs == {}
        projects = client.get("/v1/projects").json()["projects"]
        assert [each["id"] for each in projects] == [project]


# -- jobs that were running -----------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 3, 4, 5, 8, 11])
def test_an_engine_that_resumes_carries_on_and_nothing_is_told_twice(
    tmp_path: Path, step: int
) -> None:
    job_id = running_at(step, tmp_path)
    assert record_of(tmp_path, job_id)["status"] in ("queued", "running")
    before = len((tmp_path / job_id / "events.jsonl").read_bytes().splitlines()) if step else 0
    engine = CountingEngine()
    with Emulator(engine, state_dir=tmp_path) as emu:
        job = emu.jobs[job_id]
        emu.wait_for(lambda: job.terminal)
        (ticket,) = engine.tickets
        assert ticket.resumed
        assert told(job) == expected(12)
        assert [entry.id for entry in job.log] == [str(n + 1) for n in range(len(job.log))]
        assert before < len(job.log)
        assert emu.errors == []
    assert record_of(tmp_path, job_id)["status"] == "completed"


def test_a_job_is_resumed_as_often_as_it_takes(tmp_path: Path) -> None:
    job_id = running_at(2, tmp_path)
    for step in (3, 6, 7):
        with Emulator(CountingEngine(limit=step), state_dir=tmp_path) as emu:
            emu.wait_for(lambda step=step: emu.jobs[job_id].step == step)
    with Emulator(CountingEngine(manual=True), state_dir=tmp_path) as emu:
        assert emu.step(job_id, 2) == 2
        assert told(emu.jobs[job_id])[-2:] == [("training.log", 8), ("training.log", 8)]
        emu.step(job_id, 100)
        assert told(emu.jobs[job_id]) == expected(12)


@pytest.mark.parametrize("engine", [Another(), NgramEngine(), ScriptedEngine()])
@pytest.mark.parametrize(("step", "when"), [(0, "before its first step"), (6, "at step 6")])
def test_a_job_that_cannot_carry_on_fails_and_says_why(
    tmp_path: Path, engine: Engine, step: int, when: str
) -> None:
    job_id = running_at(step, tmp_path)
    reason = f"the local Arkor was stopped while it trained the job, {when}"
    for _ in range(2):
        with Emulator(engine, state_dir=tmp_path) as emu, Client(emu) as client:
            job = emu.jobs[job_id]
            assert (job.status, job.error) == ("failed", reason)
            assert client.read(job_id)[-1].name == "end"
            (failure,) = (event for event in job.events if event["type"] == "training.failed")
            assert (failure["error"], failure["step"]) == (reason, step or None)


def test_a_stop_is_no_cancel(tmp_path: Path) -> None:
    job_id = running_at(2, tmp_path)
    assert record_of(tmp_path, job_id)["status"] == "running"
    assert told_in_file(tmp_path, job_id) == expected(2)[:-1]


def told_in_file(state: Path, job_id: str) -> List[Any]:
    lines = (state / job_id / "events.jsonl").read_text().splitlines()
    events = [json.loads(json.loads(line)["data"]) for line in lines]
    return [(event["type"], event.get("step")) for event in events]


def test_a_client_that_follows_across_a_restart_gets_each_event_once(tmp_path: Path) -> None:
    with Emulator(CountingEngine(limit=6), state_dir=tmp_path) as emu, Client(emu) as client:
        job_id = client.submit()
        following = Background(read_until_it_breaks, client, job_id)
        emu.wait_for(lambda: emu.open_streams and len(emu.open_streams[0].sent) == 9)
        port = emu.port
    seen = following.result()
    with Emulator(CountingEngine(), state_dir=tmp_path, port=port) as emu, Client(emu) as client:
        rest = client.read(job_id, seen[-1] if seen else None)
    assert rest[-1].name == "end"
    ids = [*seen, *(event.id for event in rest[:-1])]
    assert ids == [str(number + 1) for number in range(len(expected(12)))]


def read_until_it_breaks(client: Client, job_id: str) -> List[Optional[str]]:
    """Return the ids of the events that came before the emulator stopped."""
    seen: List[Optional[str]] = []
    with client.open(job_id) as response, suppress(urllib3.exceptions.HTTPError):
        for event in live(response):
            seen.append(event.id)
    return seen


# -- files that are torn, malformed, newer, or in use ---------------------------------------------


def test_a_torn_last_line_is_dropped_and_cut_off_wherever_it_ends(tmp_path: Path) -> None:
    job_id = running_at(3, tmp_path)
    log = tmp_path / job_id / "events.jsonl"
    *whole, last = log.read_bytes().splitlines(keepends=True)
    for size in range(len(last)):
        log.write_bytes(b"".join(whole) + last[:size])
        saved = SavedJobs(tmp_path, pytest.fail)
        (job,) = saved.jobs
        assert len(job.log) == len(whole)
        assert log.read_bytes() == b"".join(whole)
        saved.append(job, LogEntry(raw=b"next"))
        saved.close()
        assert log.read_bytes() == b"".join(whole) + b'{"raw": "next"}\n'
    with Emulator(CountingEngine(), state_dir=tmp_path) as emu:
        emu.wait_for(lambda: emu.jobs[job_id].terminal)
        assert told(emu.jobs[job_id]) == expected(12)


@pytest.mark.parametrize("name", ["job.json", "emulator.json"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"format": 2}', "has the format 2, and this version of arkor_sync reads 1"),
        ("{}", "is not a file of a local Arkor's state"),
        ("[1]", "is not a file of a local Arkor's state"),
        ("", "is not a file of a local Arkor's state"),
        ('{"format": 1}', r"(is not the record of the job|does not tell the ids)"),
    ],
    ids=["newer", "object", "list", "empty", "fields"],
)
def test_a_file_that_cannot_be_read_is_refused_and_nothing_is_touched(
    tmp_path: Path, name: str, content: str, says: str
) -> None:
    job_id = running_at(3, tmp_path)
    path = tmp_path / (job_id if name == "job.json" else "") / name
    with open(tmp_path / running_at(3, tmp_path) / "events.jsonl", "ab") as log:
        log.write(b"torn")
    path.write_text(content)
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match=rf"{name} {says}"):
        Emulator(CountingEngine(), state_dir=tmp_path).start()
    assert files_of(tmp_path) == before


def test_the_copy_of_a_job_is_refused(tmp_path: Path) -> None:
    job_id = running_at(3, tmp_path)
    shutil.copytree(tmp_path / job_id, tmp_path / "copy")
    with pytest.raises(ValueError, match=f"is not the record of the job copy: .* '{job_id}'"):
        Emulator(state_dir=tmp_path).start()


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    job_id = running_at(3, tmp_path)
    log = tmp_path / job_id / "events.jsonl"
    first, *others = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + b"{}\n" + b"".join(others))
    with pytest.raises(ValueError, match=r"events\.jsonl: line 2 is not an entry of a log"):
        Emulator(state_dir=tmp_path).start()


def test_two_emulators_do_not_share_a_directory(tmp_path: Path) -> None:
    with Emulator(state_dir=tmp_path) as emu:
        job_id = emu.create_job(ScriptedEngine())
        with pytest.raises(
            ValueError, match=f"another emulator uses the state directory {tmp_path}"
        ):
            Emulator(state_dir=tmp_path).start()
        emu.wait_for(lambda: emu.jobs[job_id].terminal)
    with Emulator(state_dir=tmp_path) as emu:
        assert emu.jobs[job_id].status == "completed"


def test_a_port_that_is_taken_leaves_the_jobs_as_they_were(tmp_path: Path) -> None:
    job_id = running_at(3, tmp_path)
    before = files_of(tmp_path)
    with Emulator() as other, pytest.raises(OSError, match="in use"):
        Emulator(state_dir=tmp_path, port=other.port).start()
    assert files_of(tmp_path) == before
    with Emulator(CountingEngine(), state_dir=tmp_path) as emu:
        emu.wait_for(lambda: emu.jobs[job_id].status == "completed")


def test_a_state_directory_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(OSError, match=r"File exists: .*/state'"):
        Emulator(state_dir=tmp_path / "state").start()


# -- a disk that is full --------------------------------------------------------------------------


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let writes beyond this size fail, the first of them after a part: a disk that gets full."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_job_whose_events_cannot_be_written_fails(tmp_path: Path) -> None:
    with Emulator(CountingEngine(limit=1), state_dir=tmp_path) as emu, Client(emu) as client:
        job_id = client.submit()
        emu.wait_for(lambda: emu.jobs[job_id].step == 1)
        log = tmp_path / job_id / "events.jsonl"
        log.unlink()
        log.symlink_to("/dev/full")
        engine = emu.engine
        assert isinstance(engine, CountingEngine)
        engine.allow(12)
        events = client.read(job_id)
        reason = f"the job's events cannot be kept: No space left on device: {log}"
        assert events[-2].json["error"] == emu.jobs[job_id].error == reason
        assert [event.id for event in events[:-1]] == ["1", "2", "3"]
        assert emu.errors == []
        with pytest.raises(OSError, match="No space left on device"):
            emu.publish(job_id, {"type": "training.log", "step": 99})
        assert len(emu.jobs[job_id].log) == 3
    assert record_of(tmp_path, job_id)["status"] == "failed"


def test_what_was_written_in_part_is_cut_off_and_the_failure_is_kept(tmp_path: Path) -> None:
    with Emulator(ScriptedEngine(manual=True), state_dir=tmp_path) as emu:
        job_id = emu.create_job()
        emu.step(job_id, 2)
        log = tmp_path / job_id / "events.jsonl"
        whole = log.read_bytes()
        with files_no_larger_than(len(whole) + 2000):
            emu.publish(job_id, {"type": "training.log", "step": 2, "note": "x" * 4000})
        job = emu.jobs[job_id]
        assert log.read_bytes().startswith(whole)
        assert told_in_file(tmp_path, job_id)[2:] == [("training.failed", 1)]
        assert "the job's events cannot be kept: File too large" in str(job.error)
    with Emulator(state_dir=tmp_path) as emu:
        assert emu.jobs[job_id].wire() == job.wire()
        assert emu.jobs[job_id].log == job.log


def test_a_job_that_cannot_be_kept_is_not_accepted(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Emulator(CountingEngine(), state_dir=state) as emu, Client(emu) as client:
        state.rename(tmp_path / "away")
        answer = client.post("/v1/jobs", {"name": "run", "config": CONFIG})
        assert answer.status_code == 507
        assert answer.json()["error"].startswith(
            f"the job cannot be kept: No such file or directory: {state}"
        )
        with pytest.raises(OSError, match="No such file"):
            emu.create_job()
        assert emu.jobs == {}
        assert emu.errors == []


def test_a_record_that_cannot_be_written_is_reported_and_made_up_from_the_events(
    tmp_path: Path,
) -> None:
    with Emulator(CountingEngine(limit=1), state_dir=tmp_path) as emu:
        job_id = emu.create_job()
        emu.wait_for(lambda: emu.jobs[job_id].step == 1)
        (tmp_path / job_id / "job.tmp").mkdir()  # in the way
        assert isinstance(emu.engine, CountingEngine)
        emu.engine.allow(12)
        emu.wait_for(lambda: emu.jobs[job_id].terminal)
        assert {type(error) for error in emu.errors} == {IsADirectoryError}
        record = emu.jobs[job_id].wire()
    assert record_of(tmp_path, job_id)["status"] == "running"
    with Emulator(CountingEngine(), state_dir=tmp_path) as emu:
        assert emu.jobs[job_id].wire() == record
        assert emu.jobs[job_id].saved_steps == {4, 8, 12}


# -- engines --------------------------------------------------------------------------------------


def test_each_engine_is_closed_while_its_jobs_wait_and_in_the_end() -> None:
    main, other = CountingEngine(limit=1), CountingEngine(limit=1)
    waiting: List[bool] = []
    main.close = lambda: waiting.append(bool(job_threads()))  # type: ignore[method-assign]
    with Emulator(main) as emu:
        ids = [emu.create_job(), emu.create_job(), emu.create_job(other)]
        emu.wait_for(lambda: all(emu.jobs[job_id].step == 1 for job_id in ids))
    emu.stop()
    assert (len(waiting), waiting[-1], other.closed) == (2, False, 2)
    with Emulator(other) as emu:
        other.limit = 12
        job_id = emu.create_job()
        emu.wait_for(lambda: emu.jobs[job_id].status == "completed")
    assert other.closed == 4


def test_an_engine_that_cannot_be_closed_does_not_keep_the_emulator_from_stopping() -> None:
    def fail() -> None:
        raise RuntimeError("it hangs")

    engine = CountingEngine()
    engine.close = fail  # type: ignore[method-assign]
    with Emulator(engine) as emu:
        pass
    assert {str(error) for error in emu.errors} == {"it hangs"}


class Holds(Engine):
    """It holds something for each job, and does not ask whether the job has ended."""

    resumes = True

    def __init__(self) -> None:
        super().__init__()
        self.held: List[str] = []

    def events(self, ticket: Ticket) -> Iterator[Item]:
        self.held.append(ticket.job.id)
        try:
            yield {"type": "training.started"}
            for step in itertools.count(1):
                ticket.wait_until(lambda: True)
                yield {"type": "training.log", "step": step, "loss": 1.0}
        finally:
            self.held.remove(ticket.job.id)

    def reply(self, job: Optional[Job], step: Optional[int], chat: ChatRequest) -> List[str]:
        return []


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("way", ["cancel", "stop"])
def test_what_an_engine_holds_for_a_job_is_let_go_when_the_job_ends(
    tmp_path: Path, way: str, resumed: bool
) -> None:
    engine = Holds()
    with Emulator(engine, state_dir=tmp_path) as emu:
        job_id = emu.create_job()
        emu.wait_for(lambda: (emu.jobs[job_id].step or 0) > 2)
        if way == "cancel" and not resumed:
            emu.finish(job_id, "cancelled")
            until(lambda: engine.held == [])
    assert engine.held == []
    if resumed:
        with Emulator(engine, state_dir=tmp_path) as emu:
            step = emu.jobs[job_id].step or 0
            emu.wait_for(lambda: (emu.jobs[job_id].step or 0) > step)
            if way == "cancel":
                emu.finish(job_id, "cancelled")
                until(lambda: engine.held == [])
        assert engine.held == []
    assert emu.errors == []


@pytest.mark.parametrize("way", ["wake", "cancel", "stop"])
def test_a_job_that_waits_is_woken(way: str) -> None:
    engine = CountingEngine(limit=0)
    with Emulator(engine) as emu:
        job_id = emu.create_job()
        job = emu.jobs[job_id]
        until(lambda: len(engine.tickets) == 1 and job.status == "running")
        if way == "wake":
            engine.allow(12)
            emu.wait_for(lambda: job.status == "completed")
        elif way == "cancel":
            emu.finish(job.id, "cancelled")
            until(lambda: not job_threads())
    assert job_threads() == []


def job_threads() -> List[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith("arkor-emulator-job")]
