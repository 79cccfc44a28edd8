"""A local Arkor that is killed and started again on the same port, while clients follow."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import pytest

from arkor_sync import Callbacks, CloudApiClient, ProjectState, TokenCredentials, create_trainer
from arkor_sync.emulator import Emulator
from support.counting_engine import expected
from support.ending import ends_with_us
from support.waiting import PATIENCE, Background, until

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
PYTHON = [sys.executable, "-W", "error"]
RESUMES = """
import sys, threading
from arkor_sync.emulator import Emulator
from support.counting_engine import CountingEngine
state, port, steps, limit = sys.argv[1], *map(int, sys.argv[2:])
with Emulator(CountingEngine(steps=steps, limit=limit), state_dir=state, port=port):
    print("ready", flush=True)
    threading.Event().wait()
"""


@contextlib.contextmanager
def running(*command: str) -> Iterator[None]:
    """Run a local Arkor; kill it with SIGKILL in the end."""
    with subprocess.Popen(
        ends_with_us(list(command)), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()  # it is ready
            yield
        finally:
            process.kill()


@pytest.fixture
def port() -> int:
    with Emulator() as other:
        return other.port


class Follower:
    """A run that is followed in the background, and what its callbacks were told."""

    def __init__(self, port: int, state: Path) -> None:
        (project,) = json.loads((state / "emulator.json").read_text())["projects"]
        client = CloudApiClient(
            f"http://127.0.0.1:{port}",
            TokenCredentials("emulator-token"),
            scope=ProjectState("emulator-org", project["slug"], project["id"]),
        )
        self.events: List[Any] = []
        trainer = create_trainer(
            name="run",
            model="unsloth/gemma-4-E4B-it",
            dataset={"type": "huggingface", "name": "emulator/sample"},
            client=client,
            callbacks=Callbacks(
                on_started=self.add,
                on_log=self.add,
                on_checkpoint=self.add,
                on_completed=self.add,
                on_failed=self.add,
            ),
        )
        self.result = Background(lambda: trainer.wait(PATIENCE)).result

    def add(self, ctx: Any) -> None:
        self.events.append(ctx.event.data)

    @property
    def told(self) -> List[Tuple[str, Optional[int]]]:
        return [(event["type"], event.get("step")) for event in self.events]

    def until(self, step: int) -> None:
        until(lambda: any((told_step or 0) >= step for _, told_step in self.told))


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_client_that_follows_across_kills_is_told_each_event_once(
    tmp_path: Path, port: int, kills: int
) -> None:
    steps = 7 * (kills + 1)
    command = (*PYTHON, "-c", RESUMES, str(tmp_path), str(port), str(steps))
    with running(*command, "7"):
        follower = Follower(port, tmp_path)
        follower.until(7)
    for kill in range(2, kills + 1):
        with running(*command, str(7 * kill)):
            follower.until(7 * kill)
    with running(*command, str(steps)):
        assert follower.result().status == "completed"
    assert follower.told == expected(steps)


def test_a_job_of_an_engine_that_cannot_resume_fails_for_its_follower(
    tmp_path: Path, port: int
) -> None:
    state = tmp_path / "state"
    path = tmp_path / "arkor.json"
    path.write_text(
        json.dumps(
            {
                "scenario": {"name": "slow", "step_delay": 0.01, "steps": 100_000},
                "options": {"state_dir": str(state)},
            }
        )
    )
    command = (*PYTHON, "-m", "arkor_sync.emulator", "--file", str(path), "--port", str(port))
    with running(*command):
        follower = Follower(port, state)
        follower.until(5)
    with running(*command):
        result = follower.result()
    assert result.status == "failed"
    said = "the local Arkor was stopped while it trained the job, at step "
    assert follower.events[-1]["error"].startswith(said)
    steps = [step for kind, step in follower.told if kind == "training.log"]
    assert steps == list(range(1, len(steps) + 1))
    assert follower.told[-1] == ("training.failed", steps[-1])
