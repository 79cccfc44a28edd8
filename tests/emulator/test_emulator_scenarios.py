from __future__ import annotations

import json
import re
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.emulator import (
    SCENARIOS,
    Emulator,
    Fault,
    Frame,
    ScriptedEngine,
    load_recording,
    record_sse,
    scenario,
)
from arkor_sync.emulator.recording import scrub
from support.emulator_client import Client
from support.readme_blocks import ROOT


def run(engine: ScriptedEngine) -> List[Dict[str, Any]]:
    with Emulator(ScriptedEngine(events=[])) as emu:
        engine.manual = True
        job_id = emu.create_job(engine)
        emu.step(job_id, 20_000)
        return emu.jobs[job_id].events


def losses(events: List[Dict[str, Any]]) -> List[Any]:
    return [event["loss"] for event in events if event["type"] == "training.log"]


# -- what a script can tell -----------------------------------------------------------------------


def test_a_plain_script_falls_and_completes() -> None:
    events = run(ScriptedEngine(steps=4, checkpoints=[2]))
    assert events[0]["metadata"] == {"totalSteps": 4}
    assert losses(events) == sorted(losses(events), reverse=True)
    assert len(set(losses(events))) == 4
    assert events[-1]["metrics"] == {
        "finalLoss": losses(events)[-1],
        "totalSteps": 4,
        "totalTime": 0.0,
    }


def test_the_loss_is_a_function_or_a_list() -> None:
    assert losses(run(ScriptedEngine(steps=3, loss=lambda step: step / 2))) == [0.5, 1.0, 1.5]
    assert losses(run(ScriptedEngine(steps=4, loss=[3, None, 1]))) == [3, None, 1, 1]
    events = run(ScriptedEngine(steps=2, eval_loss=[9, 8], logging_steps=2))
    assert [event.get("evalLoss") for event in events[1:-1]] == [8]


def test_a_plateau_and_a_divergence() -> None:
    assert losses(run(ScriptedEngine(steps=5, loss=lambda s: 10 - s, plateau=3))) == [9, 8, 7, 7, 7]
    assert losses(run(ScriptedEngine(steps=5, loss=[4, 2], diverges=3))) == [4, 2, 2, 3, 4.5]
    assert losses(run(ScriptedEngine(steps=2, loss=[None], diverges=1))) == [None, None]


@pytest.mark.parametrize(("nan_as", "text"), [("NaN", "NaN"), ("null", "null"), ("1e309", "1e309")])
def test_a_loss_that_is_no_number(nan_as: str, text: str) -> None:
    with Emulator(ScriptedEngine(steps=2, nan_at=2, nan_as=nan_as)) as emu, Client(emu) as client:
        events = client.read(client.submit())
        assert f'"loss": {text}' in str(events[2].data)
        assert (events[2].id, events[2].name) == ("3", "training.log")
        assert events[3].id == "4"


def test_a_failure_and_a_silence() -> None:
    events = run(ScriptedEngine(steps=9, fails_at=3, error="disk full"))
    assert [event["type"] for event in events[-2:]] == ["training.log", "training.failed"]
    assert (events[-1]["error"], events[-1]["step"]) == ("disk full", 3)
    events = run(ScriptedEngine(steps=9, silent_at=3))
    assert (events[-1]["type"], events[-1]["step"]) == ("training.log", 3)


def test_a_step_delay_is_virtual() -> None:
    with Emulator(ScriptedEngine(steps=3, step_delay=60), speed=100_000) as emu:
        job_id = emu.create_job()
        emu.wait_for(lambda: emu.jobs[job_id].terminal)
    with Emulator(ScriptedEngine(steps=3, step_delay=60), speed=0) as emu:
        job_id = emu.create_job()
        for count in (1, 2, 3):
            emu.wait_for(lambda: sleeps(job_id))
            emu.advance(61)
            emu.wait_for(lambda n=count: len(emu.jobs[job_id].log) >= n)
        assert not emu.jobs[job_id].terminal


def sleeps(job_id: str) -> bool:
    """Tell whether a job's thread waits for the next step's time."""
    (thread,) = (t for t in threading.enumerate() if t.name.endswith(f"-job-{job_id[:8]}"))
    frame = sys._current_frames().get(thread.ident or 0)
    names = [each.name for each in traceback.extract_stack(frame)] if frame else []
    return "sleep" in names and names[-1] == "wait"


# -- scenarios by name, and from files ------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_is_data_and_runs(name: str) -> None:
    assert json.loads(json.dumps(SCENARIOS[name])) == SCENARIOS[name]
    events = run(scenario(name))
    ends = {"fails_at": "training.failed", "silent": "training.log"}
    assert events[-1]["type"] == ends.get(name, "training.completed")


def test_a_scenario_can_be_changed() -> None:
    assert len(run(scenario("burst", steps=7))) == 9
    with pytest.raises(ValueError, match="unknown scenario 'x'; there are: completes, plateau"):
        scenario("x")
    with pytest.raises(ValueError, match="wrong argument for the scenario"):
        scenario("burst", stops=7)


def test_the_engine_can_be_exchanged() -> None:
    with Emulator() as emu, Client(emu) as client:
        emu.engine = scenario("completes", steps=1)
        assert [event.id for event in client.read(client.submit())] == ["1", "2", "3", None]


def test_the_file_that_its_page_shows(tmp_path: Path) -> None:
    page = (ROOT / "arkor_sync" / "emulator" / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    path = tmp_path / "emulator.json"
    path.write_text(shown)
    with Emulator.from_file(path) as emu, Client(emu) as client:
        assert (emu.settings.tool_calling, emu.settings.account_sign_in) == (True, True)
        assert emu.settings.sign_in_answer == "allow"
        names = [event.name for event in client.read(client.submit())]
        assert names.count("training.log") == 19
        assert names[-2:] == ["training.failed", "end"]


def test_an_emulator_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "emulator.json"
    path.write_text(
        json.dumps(
            {
                "scenario": {"name": "fails_at", "steps": 3, "fails_at": 2},
                "faults": [{"kind": "skip", "event": "2"}],
                "options": {"framing": "close", "token": "from-file"},
            }
        )
    )
    with Emulator.from_file(path, token="mine") as emu, Client(emu) as client:
        assert (emu.token, emu.settings.framing) == ("mine", "close")
        events = client.read(client.submit())
        assert [event.name for event in events] == ["training.started", "training.failed", "end"]
    path.write_text('{"scenario": "silent"}')
    with Emulator.from_file(path, ping_interval=1) as emu:
        assert emu.settings.ping_interval == 1
        assert isinstance(emu.engine, ScriptedEngine)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"fault": []}', "unknown key 'fault'"),
        ('{"scenario": "x"}', "unknown scenario 'x'"),
        ('{"scenario": {"steps": 1}}', "missing 1 required positional argument: 'name'"),
        ('{"options": {"nope": 1}}', "unexpected keyword argument 'nope'"),
        ('{"options": {"framing": "x"}}', "framing must be one of"),
        ('{"faults": [{}]}', "a fault must have a 'kind'"),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "emulator.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=error) as caught:
        Emulator.from_file(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_recording_that_cannot_be_written_is_named() -> None:
    with Emulator(ScriptedEngine(steps=1)) as emu, Client(emu) as client:
        job_id = client.submit()
        assert client.open(job_id).content
        with pytest.raises(OSError, match=r"No space left on device: '/dev/full'$"):
            emu.save_recording(job_id, "/dev/full")


# -- recordings -----------------------------------------------------------------------------------


def test_a_recording_is_played_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    items = [
        ({"type": "training.started", "timestamp": "2026-01-01T00:00:00.000Z"}, "a"),
        b": comment \xff\n\n",
        Frame("{broken", id="b", name="training.log"),
        Frame('{"step": 1}', id="c"),
        {"type": "training.log", "step": 1, "loss": 0.5, "note": "ünïcode"},
        {"type": "training.completed", "artifacts": []},
    ]
    with Emulator(ScriptedEngine(events=items)) as emu, Client(emu) as client:
        job_id = client.submit()
        before = client.open(job_id).content
        emu.save_recording(job_id, path)
    with Emulator(ScriptedEngine(events=load_recording(path))) as emu, Client(emu) as client:
        job_id = client.submit()
        assert client.open(job_id).content == before
        assert emu.jobs[job_id].status == "completed"


def test_a_stream_is_recorded_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Emulator(ScriptedEngine(steps=2)) as emu, Client(emu) as client:
        job_id = client.submit()
        emu.faults.add(Fault("mixed_newlines"), Fault("bom"))
        with client.open(job_id) as response:
            assert record_sse(path, response.iter_content(7)) == 4
        log = emu.jobs[job_id].events
    played = [event for event, _ in load_recording(path)]  # type: ignore[misc]
    assert played == log


def test_a_recorded_event_is_played_as_it_was(tmp_path: Path) -> None:
    """The order of its fields too: what is recorded anew is the same."""
    data = '{"type":"training.log","timestamp":"t","step":1,"jobId":"another","loss":0.5}'
    line = json.dumps({"id": "7", "event": "training.log", "data": data})
    path = tmp_path / "recorded.jsonl"
    path.write_text(f"{line}\n")
    with Emulator(ScriptedEngine(events=load_recording(path))) as emu:
        job_id = emu.create_job()
        emu.wait_for(lambda: len(emu.jobs[job_id].log) == 1)
        emu.save_recording(job_id, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == path.read_text()


def test_a_cancelled_job_in_a_recording(tmp_path: Path) -> None:
    data = {"type": "training.cancelled", "jobId": "j", "timestamp": "2026-01-01T00:00:00Z"}
    line = {"id": "7", "event": "training.cancelled", "data": json.dumps(data)}
    path = tmp_path / "recorded.jsonl"
    path.write_text(json.dumps(line))
    with Emulator(ScriptedEngine(events=load_recording(path))) as emu:
        job_id = emu.create_job()
        job = emu.wait_for(lambda: emu.jobs[job_id].terminal and emu.jobs[job_id])
    assert (job.status, job.error) == ("cancelled", None)
    assert job.completed_at == "2026-01-01T00:00:00Z"
    assert [event["type"] for event in job.events] == ["training.failed"]


@given(data=st.data())
def test_a_recording_does_not_depend_on_the_packets(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("recording") / "run.jsonl"
    body = (
        b"\xef\xbb\xbfid: 1\r\ndata: a\r\n\r\n: comment\n\nevent: x\rdata:b\rdata: c\xc3\xa9\r\r"
        b"event: ping\ndata: {}\n\nevent: end\ndata: {}\n\nid: 2\n\ndata: unfinished\n"
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)])]
    assert record_sse(path, pieces) == 2
    assert load_recording(path) == [Frame("a", "1", None), Frame("b\ncé", None, "x")]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"data": 1, "id": null, "event": null}'])
def test_a_broken_recording_names_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps({"raw": ""}) + "\n" + line + "\n")
    with pytest.raises(ValueError, match="line 2 is not a recorded event"):
        load_recording(path)


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("s3cret", '{"token": "s3cret", "step": 1}'),
        ("s3cret", '{"datasetToken" : "s3cret"}'),
        ("s3cret", '{"Authorization": "Bearer s3cret"}'),
        ("s3cret", "curl -H 'Authorization: Bearer s3cret"),
        ("s3cret", "https://example.com/a?x=1&X-Amz-Signature=s3cret&y=2"),
        ("ark_live_0123456789abcdef", "key ark_live_0123456789abcdef"),
        ("hf_abcdefgh1234", "using hf_abcdefgh1234"),
        ("eyJhbGciOiJ", "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"),
        ("anon.", "anon.abcdefghijk"),
    ],
)
def test_secrets_are_scrubbed(secret: str, text: str) -> None:
    assert secret not in scrub(text)
    assert "[redacted]" in scrub(text)


def test_harmless_texts_are_left_alone() -> None:
    text = '{"type": "training.log", "totalTokens": 12, "loss": 0.5, "url": "https://x/y?step=1"}'
    assert scrub(text) == text
