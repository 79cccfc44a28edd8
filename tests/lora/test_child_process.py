"""The child process, as its parent sees it: what it says last, and that none is left."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any, Dict

import pytest
from jobs import child_of, create, engine_of, until_ended
from trainings import dataset_of

from arkor_sync.emulator import Emulator
from arkor_sync.emulator.engine.lora import process
from arkor_sync.emulator.engine.lora.process import ChildProcess
from support.waiting import PATIENCE, Background


def last_words(program: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return why a child ended that runs this program after its first lines."""
    begin = "import os, signal, sys; sys.stdin.readline(); sys.stdin.readline()\n"
    monkeypatch.setattr(process, "_START", begin + program)
    child = ChildProcess({})
    heard: queue.SimpleQueue[Dict[str, Any]] = queue.SimpleQueue()
    child.ask("a job", {}, heard.put)
    reason: str = heard.get(timeout=PATIENCE)["ended"]
    child.kill()
    assert not child.alive
    child.ask("another", {}, heard.put)  # what is asked too late has the same answer
    assert heard.get(timeout=PATIENCE) == {"ended": reason}
    return reason


def test_a_message_that_was_cut_by_a_kill_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    half = 'os.write(1, b\'{"job": "a jo\'); os.kill(os.getpid(), signal.SIGKILL)'
    assert last_words(half, monkeypatch).startswith("the training process was killed (SIGKILL)")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise MemoryError('no more')", "ended (exit code 1): MemoryError: no more"),
        ("os._exit(3)", "ended (exit code 3)"),
        ("os.abort()", "ended (SIGABRT)"),
    ],
)
def test_the_reason_is_the_last_line_that_it_wrote(
    monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    assert last_words(program, monkeypatch) == f"the training process {reason}"


def test_a_job_that_begins_as_the_emulator_stops_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arkor_no_leaks: None
) -> None:
    engine: Any = engine_of(tmp_path)
    begin, close = engine._running_child, engine.close
    about_to_begin, closed = threading.Event(), threading.Event()
    started = []

    def begins_late() -> ChildProcess:
        about_to_begin.set()
        assert closed.wait(PATIENCE)
        started.append(begin())
        return started[-1]

    def closes() -> None:
        close()
        closed.set()

    monkeypatch.setattr(engine, "_running_child", begins_late)
    monkeypatch.setattr(engine, "close", closes)
    emulator = Emulator(engine).start()
    create(emulator, dataset_of(tmp_path))
    assert about_to_begin.wait(PATIENCE)
    Background(emulator.stop).result()
    (child,) = started
    until_ended(child.pid)
    assert child_of(emulator) is None
