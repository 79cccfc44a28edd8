"""SIGTERM with `exit_on`: the callback ends, the position is kept, and the exit code says so."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Iterator, List

import pytest
import scenarios
from children import Child, Nursery

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.hang_phases import BY_NAME, Cloud, cloud_of, serve
from support.loopback import Server, stay_silent
from support.waiting import until

ENDED_BY_SIGTERM = 143


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=5, manual=True)) as emulator:
        yield emulator


def goes_on(cloud: Cloud) -> str:
    job_id = cloud.job_id
    return f"job {job_id} goes on; follow({job_id!r}) attaches to it again"


def leaves_its_job(child: Child, cloud: Cloud) -> None:
    """See that it has ended by SIGTERM, and has written one line: how to attach to the job."""
    assert child.status() == ENDED_BY_SIGTERM, child.err
    assert child.err == f"{goes_on(cloud)} (why this run ended: SystemExit)\n"


@pytest.mark.parametrize("name", ["connecting", "reading the body", "awaiting a coroutine"])
def test_it_ends_a_program_that_waits(nursery: Nursery, tmp_path: Path, name: str) -> None:
    with serve(BY_NAME[name]) as cloud:
        child = nursery.start(scenarios.be_ended_in_a_phase, cloud, name, str(tmp_path / "store"))
        child.until_said("waits")
        child.kill(signal.SIGTERM)
        leaves_its_job(child, cloud)


def test_a_submission_is_ended_and_the_job_may_exist(nursery: Nursery) -> None:
    with Server(stay_silent) as server:
        cloud = Cloud(server.url, "token", ("org", "project", "1"), "")
        child = nursery.start(scenarios.be_ended_while_submitting, cloud)
        until(lambda: server.requests)
        child.kill(signal.SIGTERM)
        assert child.status() == ENDED_BY_SIGTERM
        assert child.err == (
            "the job 'nightly' may have been created nevertheless; client.jobs.list() shows it\n"
        )


def has_taken_its_signals(child: Child) -> bool:
    status = Path(f"/proc/{child.pid}/status").read_text()
    return all(int(each, 16) == 0 for each in re.findall(r"(?:Sig|Shd)Pnd:\s*(\w+)", status))


def events_told(child: Child) -> List[str]:
    return [line.split()[1] for line in child.out if line.startswith("event ")]


@pytest.mark.parametrize(
    ("inside", "signals"),
    [(True, 1), (True, 3), (False, 1)],
    ids=["in a with", "three signals", "wait() alone"],
)
def test_the_callback_ends_and_another_process_goes_on_after_its_event(
    nursery: Nursery, emulator: Emulator, tmp_path: Path, inside: bool, signals: int
) -> None:
    cloud, store = cloud_of(emulator, emulator.create_job()), str(tmp_path / "store")
    gate = tmp_path / "gate"
    emulator.step(cloud.job_id, 5)
    if not inside:  # the exit of the interpreter has less patience than `abort_grace`
        gate.touch()
    child = nursery.start(scenarios.be_ended_in_a_callback, cloud, store, str(gate), inside)
    child.until_said("begins 2")
    child.kill(signal.SIGTERM)
    child.until_said("is stopping")
    for _ in range(signals - 1):
        child.kill(signal.SIGTERM)
        until(lambda: has_taken_its_signals(child))
    gate.touch()
    leaves_its_job(child, cloud)
    assert child.out == ["begins 1", "ends 1", "begins 2", "is stopping", "ends 2"]

    emulator.step(cloud.job_id, 99)  # all that is left
    heir = nursery.start(scenarios.follow_with_a_store, cloud, store)
    assert heir.status() == 0, heir.err
    assert events_told(heir) == ["log-3", "log-4", "log-5", "completed"]
