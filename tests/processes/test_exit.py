"""How an interpreter ends that has a run: with its own exit code, soon, and quietly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import Iterator

import pytest
import scenarios
from children import COMMAND, EACH_PHASE, PYTHONPATH, Child, Nursery

from arkor_sync._common.process import EXIT_GRACE
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.hang_phases import BY_NAME, Cloud, Phase, cloud_of, serve
from support.waiting import PATIENCE, shortest

LIMIT = 1.0  # seconds


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A cloud with one job, which does not end."""
    with Emulator(ScriptedEngine(steps=5, silent_at=2)) as emulator:
        yield cloud_of(emulator, emulator.create_job())


def time_to_exit(child: Child) -> float:
    child.status()
    assert child.ended_at
    return child.ended_at - float(child.value("exits"))


def traceback_of(child: Child) -> str:
    """See that it wrote one traceback and nothing else; return the line that names the error."""
    first, *rest = [line for line in child.err.splitlines() if not line.startswith(" ")]
    assert first == "Traceback (most recent call last):", child.err
    assert child.err.count(first) == 1, child.err
    return rest[0]


@EACH_PHASE
def test_it_exits_at_once_with_its_own_code_in_any_phase(nursery: Nursery, phase: Phase) -> None:
    def measure() -> float:
        with serve(phase, tls=phase.name == "TLS handshake") as cloud:
            child = nursery.start(scenarios.exit_in_a_phase, cloud, phase.name, 3)
            assert child.status() == 3
            took = time_to_exit(child)
            assert child.err == "" or took > EXIT_GRACE
            return took

    assert shortest(measure, LIMIT) < LIMIT


def test_a_new_interpreter_exits_as_a_forked_one_does(cloud: Cloud) -> None:
    program = "import json, sys, scenarios as s; s.exit_in_a_phase(json.load(sys.stdin), {!r}, 3)"
    ended = subprocess.run(
        [*COMMAND, "-c", program.format("reading the body")],
        input=json.dumps(vars(cloud)).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (3, b"")


def test_it_exits_soon_while_callbacks_are_stuck(nursery: Nursery, cloud: Cloud) -> None:
    def measure() -> float:
        child = nursery.start(scenarios.exit_in_a_callback, cloud, 3)
        assert child.status() == 3
        warning = f"the interpreter exits while on_log of job {cloud.job_id} is still running\n"
        assert child.err == warning * 3
        return time_to_exit(child)

    limit = 2 * EXIT_GRACE  # which the three of them share
    assert shortest(measure, limit) < limit


def test_an_error_of_the_program_is_all_that_is_seen(nursery: Nursery, cloud: Cloud) -> None:
    child = nursery.start(scenarios.fail_in_main, cloud)
    assert child.status() == 1
    assert traceback_of(child) == "LookupError: mine"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ("ValueError", 1, "ValueError: mine"),
        ("GeneratorExit", 1, "GeneratorExit: mine"),
        ("KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt: mine"),
        ("SystemExit", 5, ""),
    ],
)
def test_what_a_callback_raises_is_how_the_program_ends(
    nursery: Nursery, cloud: Cloud, error: str, status: int, said: str
) -> None:
    child = nursery.start(scenarios.raise_in_a_callback, cloud, error, True)
    assert child.status() == status
    assert (traceback_of(child) if said else child.err) == said


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_a_run_that_nobody_waited_for_changes_nothing_but_says_why_it_ended(
    nursery: Nursery, cloud: Cloud, error: str
) -> None:
    child = nursery.start(scenarios.raise_in_a_callback, cloud, error, False)
    assert child.status() == 0
    first, *_, last = child.err.splitlines()
    assert first.endswith("ended with an error, and nothing waited for it")
    assert last.startswith((f"{error}: ", "job "))


# Signals.


def test_a_run_leaves_what_belongs_to_the_process_alone(nursery: Nursery) -> None:
    with Emulator(ScriptedEngine(steps=5)) as emulator:
        cloud = cloud_of(emulator, emulator.create_job())
        nursery.start(scenarios.follow_and_look_around, cloud).succeeds()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("name", ["reading the body", "full channel", "awaiting a coroutine"])
def test_a_signal_ends_a_waiting_program_at_once(nursery: Nursery, name: str, number: int) -> None:
    def measure() -> float:
        with serve(BY_NAME[name]) as cloud:
            child = nursery.start(scenarios.wait_for_ever, cloud, name)
            child.until_said("waits")
            sent = time.monotonic()
            child.kill(number)
            assert child.status() == -number
            if number == signal.SIGINT:
                assert traceback_of(child) == "KeyboardInterrupt"
            else:
                assert child.err == ""
            assert child.ended_at
            return child.ended_at - sent

    assert shortest(measure, LIMIT) < LIMIT
