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
from support.loopback import Server, stay_silent
from support.waiting import PATIENCE, shortest

LIMIT = EXIT_GRACE  # seconds; whoever waits for a thread at the exit takes longer
MAYBE = "the job 'nightly' may have been created nevertheless; client.jobs.list() shows it"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A cloud with one job, which does not end."""
    with Emulator(ScriptedEngine(steps=5, silent_at=2)) as emulator:
        yield cloud_of(emulator, emulator.create_job())


def time_to_exit(child: Child) -> float:
    child.status()
    assert child.ended_at
    return child.ended_at - float(child.value("exits"))


def goes_on(cloud: Cloud, why: str) -> str:
    """Return the line that says that the job goes on without the process."""
    job_id = cloud.job_id
    what = f"job {job_id} goes on; follow({job_id!r}) attaches to it again"
    return f"{what} (why this run ended: {why})\n"


def traceback_of(child: Child, line: str) -> str:
    """See that it wrote a line and one traceback, and no more; return what names the error."""
    assert child.err.count(line) == 1, child.err
    left = child.err.replace(line, "")
    first, *rest = [each for each in left.splitlines() if not each.startswith(" ")]
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
            if took < EXIT_GRACE:
                assert child.err == goes_on(cloud, "the interpreter exits")
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
    assert ended.returncode == 3
    assert ended.stderr.decode() == goes_on(cloud, "the interpreter exits")


def test_it_exits_soon_while_callbacks_are_stuck(nursery: Nursery, cloud: Cloud) -> None:
    def measure() -> float:
        child = nursery.start(scenarios.exit_in_a_callback, cloud, 3)
        assert child.status() == 3
        warning = f"the interpreter exits while on_log of job {cloud.job_id} is still running\n"
        assert child.err == (goes_on(cloud, "the interpreter exits") + warning) * 3
        return time_to_exit(child)

    limit = 2 * EXIT_GRACE  # which the three of them share
    assert shortest(measure, limit) < limit


def test_an_error_of_the_program_is_all_that_is_seen(nursery: Nursery, cloud: Cloud) -> None:
    child = nursery.start(scenarios.fail_in_main, cloud)
    assert child.status() == 1
    line = goes_on(cloud, "the interpreter exits")
    assert traceback_of(child, line) == "LookupError: mine"


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
    line = goes_on(cloud, error)
    assert traceback_of(child, line) == said if said else child.err == line


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_a_run_that_nobody_waited_for_changes_nothing_but_says_why_it_ended(
    nursery: Nursery, cloud: Cloud, error: str
) -> None:
    child = nursery.start(scenarios.raise_in_a_callback, cloud, error, False)
    assert child.status() == 0
    line, first, *_, last = child.err.splitlines(keepends=True)
    assert line == goes_on(cloud, error)
    assert first.endswith("ended with an error, and nothing waited for it\n")
    assert last.startswith((f"{error}: ", "job "))


def test_a_child_of_multiprocessing_says_which_job_it_leaves(
    nursery: Nursery, cloud: Cloud
) -> None:
    child = nursery.start(scenarios.leave_a_run_in_a_child_of_multiprocessing, cloud)
    assert child.status() == 0
    assert child.err == goes_on(cloud, "the interpreter exits")


def test_an_exit_during_a_submission_says_that_the_job_may_exist(nursery: Nursery) -> None:
    with Server(stay_silent) as server:
        cloud = Cloud(server.url, "token", ("org", "project", "1"), "")
        child = nursery.start(scenarios.exit_while_submitting, cloud)
        assert child.status() == 3
        assert child.err == f"{MAYBE} (the interpreter exits)\n"


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
                line = goes_on(cloud, "KeyboardInterrupt")
                assert traceback_of(child, line) == "KeyboardInterrupt"
            else:
                assert child.err == ""
            assert child.ended_at
            return child.ended_at - sent

    assert shortest(measure, LIMIT) < LIMIT
