"""Green threads (gevent): as fast as threads, as well described, and not shared with a child."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

import gevent  # noqa: F401 - the programs need it
import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.hang_phases import cloud_of
from support.servers import CERTIFICATE, KEY
from support.waiting import PATIENCE, shortest

PROGRAMS = Path(__file__).with_name("green_programs.py")
BURST = 3000  # events


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(tls=(CERTIFICATE, KEY)) as emulator:
        yield emulator


def run(emulator: Emulator, program: str, engine: ScriptedEngine) -> List[str]:
    """Run a program, and return the lines that it printed."""
    cloud = cloud_of(emulator, emulator.create_job(engine))
    paths = [str(PROGRAMS.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    ended = subprocess.run(
        [sys.executable, PROGRAMS, program, json.dumps(vars(cloud))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        timeout=PATIENCE,
        check=False,
    )
    unexpected = [line for line in ended.stderr.splitlines() if " goes on; follow(" not in line]
    assert (ended.returncode, unexpected) == (0, []), ended
    return ended.stdout.splitlines()


def test_a_burst_over_tls_is_not_slowed_down(emulator: Emulator) -> None:
    def measure() -> float:
        took, result = run(emulator, "burst", ScriptedEngine(steps=BURST))
        assert result == f"completed {BURST}"
        return float(took.split()[1])

    limit = BURST * 0.0005  # seconds; a sleep of gevent takes a millisecond
    assert shortest(measure, limit) < limit


def test_a_callback_that_is_stuck_is_named_with_its_stack(emulator: Emulator) -> None:
    told = "\n".join(run(emulator, "stuck", ScriptedEngine(steps=3)))
    assert "on_log for event" in told
    assert "in stuck_in_the_program" in told
    assert "let_go.wait(PATIENCE)" in told


def test_a_child_takes_no_event_of_its_parent(emulator: Emulator) -> None:
    engine = ScriptedEngine(steps=60, step_delay=0.02)
    assert run(emulator, "fork", engine) == [
        "child 0 []",
        "parent completed True 60",
        "reconnects 0",
    ]


def test_a_child_that_returns_from_a_callback_gets_no_other_event(emulator: Emulator) -> None:
    engine = ScriptedEngine(steps=20, step_delay=0.01)
    told = run(emulator, "fork_in_a_callback", engine)
    assert sorted(told) == ["child at 3", "child ended with 0", "forked", "parent completed"]
