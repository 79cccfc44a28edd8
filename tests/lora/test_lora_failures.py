"""What ends the engine's child process, or keeps it from working, and what is left then."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from jobs import child_of, create, engine_of, failure, finished, names, until_ended, until_step
from trainings import dataset_of

from arkor_sync.emulator import Emulator, LoraEngine
from support.emulator_client import MODEL, Client, live
from support.tiny_model import make_tiny_model
from support.waiting import Background, shortest, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc and prlimit are Linux's"),
]

MANY = 100_000
KILLED = "the training process was killed (SIGKILL); if nobody did that, the system was out of mem"
ENDLESS = {
    "baseModel": MODEL,
    "maxTokens": 1500,
    "temperature": 1,
    "structuredOutputs": {"regex": "[a-z]{1000}"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def emulator(model: Path) -> Iterator[Emulator]:
    with Emulator(engine_of(model)) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> None:
    """Take the place of the general one: the child, and the thread for it, outlive a test here."""


@pytest.fixture
def data(tmp_path: Path) -> Dict[str, Any]:
    return dataset_of(tmp_path)


@pytest.fixture
def child(emulator: Emulator) -> Iterator[int]:
    """The child, which has loaded the model."""
    chat(emulator, maxTokens=1)
    pid = child_of(emulator)
    assert pid is not None
    yield pid
    emulator.errors.clear()


def chat(emulator: Emulator, **body: Any) -> None:
    with Client(emulator) as client:
        answer = client.chat("hi", baseModel=MODEL, stream=False, **body)
        assert answer.status_code == 200, answer.text


def test_a_child_that_is_killed_fails_its_job_and_the_next_one_gets_another(
    emulator: Emulator, data: Dict[str, Any], child: int
) -> None:
    job_id = create(emulator, data, maxSteps=MANY)
    waiting = create(emulator, data, maxSteps=2)
    until_step(emulator, job_id, 2)
    unfinished = emulator.jobs[job_id].directory / "checkpoint-9.unfinished"
    unfinished.mkdir()  # as if it had been killed while it saved
    os.kill(child, signal.SIGKILL)
    assert failure(emulator, job_id).startswith(KILLED)
    assert names(emulator.jobs[job_id].directory) == []
    assert finished(emulator, waiting).losses.keys() == {1, 2}
    assert child_of(emulator) not in (None, child)
    until_ended(child)


def test_a_child_that_is_killed_ends_the_answers_that_it_gives(
    emulator: Emulator, child: int
) -> None:
    def ask() -> Any:
        with Client(emulator) as client:
            return client.chat("hi", stream=False, **ENDLESS)

    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, **ENDLESS}
    with (
        Client(emulator) as client,
        client.post("/v1/inference/chat", body, stream=True) as response,
    ):
        events = live(response)
        next(events)
        whole = Background(ask)
        engine: Any = emulator.engine
        until(lambda: len(engine._child._listeners) == 2)
        os.kill(child, signal.SIGKILL)
        *_, failure, last = events
        assert failure.json["error"]["code"] == 503
        assert KILLED in failure.json["error"]["message"]
        assert last.data == "[DONE]"
    assert emulator.errors == []
    answer = whole.result()
    assert answer.status_code == 503
    assert KILLED in answer.text


def test_a_full_disk_fails_the_job_and_leaves_nothing_unfinished(
    emulator: Emulator, data: Dict[str, Any], child: int
) -> None:
    _, most = resource.prlimit(child, resource.RLIMIT_FSIZE)
    resource.prlimit(child, resource.RLIMIT_FSIZE, (16_384, most))
    try:
        job_id = create(emulator, data, maxSteps=4, saveSteps={"steps": 2})
        said = failure(emulator, job_id)
    finally:
        resource.prlimit(child, resource.RLIMIT_FSIZE, (most, most))
    directory = emulator.jobs[job_id].directory
    assert said.startswith(f"{directory / 'checkpoint-2'} cannot be written: ")
    assert names(directory) == []
    assert child_of(emulator) == child


def test_a_model_that_cannot_be_loaded_fails_jobs_and_answers(
    data: Dict[str, Any], tmp_path: Path
) -> None:
    said = f"there is no model at {tmp_path / 'nothing'}"
    with Emulator(engine_of(tmp_path / "nothing")) as emulator, Client(emulator) as client:
        job_id = create(emulator, data)
        assert failure(emulator, job_id) == said
        assert names(emulator.jobs[job_id].directory) == []
        answer = client.chat("hi", baseModel=MODEL, stream=False)
        assert answer.status_code == 503
        assert said in answer.text


def test_a_process_that_cannot_begin_says_why(
    data: Dict[str, Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libgomp.so.1: cannot open')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Emulator(engine_of(model)) as emulator:
        said = failure(emulator, create(emulator, data))
    assert "libgomp.so.1: cannot open" in said


def test_a_merge_writes_a_model_where_this_process_is(
    emulator: Emulator,
    data: Dict[str, Any],
    child: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = create(emulator, data, maxSteps=1)
    finished(emulator, job_id)
    adapter = emulator.jobs[job_id].directory / "final"
    monkeypatch.chdir(tmp_path)  # the child is somewhere else
    engine = emulator.engine
    assert isinstance(engine, LoraEngine)
    engine.merge(os.path.relpath(adapter), "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    with pytest.raises(ValueError, match="merged exists already; name a new folder"):
        engine.merge(adapter, "merged")
    with pytest.raises(ValueError, match=f"there is no adapter in {tmp_path}/x"):
        engine.merge("x", "other")


def test_the_emulator_stops_at_once_and_leaves_no_process_thread_or_file(
    arkor_no_leaks: None, model: Path, data: Dict[str, Any]
) -> None:
    def stop() -> float:
        emulator = Emulator(engine_of(model)).start()
        create(emulator, data)
        create(emulator, data)  # it waits
        emulator.wait_for(lambda: child_of(emulator))
        child = child_of(emulator)
        assert child is not None
        begun = time.monotonic()
        emulator.stop()
        taken = time.monotonic() - begun
        assert emulator.errors == []
        until_ended(child)
        return taken

    assert shortest(stop, 0.1) < 0.1
