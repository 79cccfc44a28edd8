"""A fork while a run lives: the run stays its parent's, and the child is free to follow others."""

from __future__ import annotations

from typing import Iterator

import fork_scenarios as scenarios
import pytest
from children import EACH_PHASE, Nursery

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.hang_phases import Phase, cloud_of, serve
from support.waiting import shortest

LIMIT = 1.0  # seconds


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=5)) as emulator:
        yield emulator
        assert emulator.errors == []


def waiting_job(emulator: Emulator) -> str:
    """Make a job that has begun, and goes on when it is stepped."""
    job_id = emulator.create_job(ScriptedEngine(steps=5, manual=True))
    emulator.step(job_id, 3)
    return job_id


@EACH_PHASE
def test_a_fork_in_any_phase_disturbs_neither_side(nursery: Nursery, phase: Phase) -> None:
    def measure() -> float:
        with serve(phase, tls=True) as cloud:
            parent = nursery.start(scenarios.fork_in_a_phase, cloud, phase.name).succeeds()
        assert parent.out[:3] == ["child 7"] * 3
        return float(parent.value("stopped"))

    assert shortest(measure, LIMIT) < LIMIT


def test_a_child_leaves_its_parents_event_loop_alone(nursery: Nursery, emulator: Emulator) -> None:
    def measure() -> float:
        cloud = cloud_of(emulator, emulator.create_job())
        parent = nursery.start(scenarios.fork_with_an_idle_event_loop, cloud).succeeds()
        assert parent.out[0] == "child 7"
        return float(parent.value("stopped"))

    assert shortest(measure, LIMIT) < LIMIT


@pytest.mark.parametrize("how", ["os.fork", "fork", "spawn"])
def test_a_child_follows_a_job_of_its_own_with_the_same_client(
    nursery: Nursery, emulator: Emulator, how: str
) -> None:
    cloud = cloud_of(emulator, waiting_job(emulator))
    other = emulator.create_job()
    parent = nursery.start(scenarios.follow_in_a_child, cloud, [other], how)
    parent.until_said("go on")
    emulator.step(cloud.job_id, 99)
    assert parent.succeeds().out == [
        f"followed {other} completed [1, 2, 3, 4, 5]",
        f"child {7 if how == 'os.fork' else 0}",
        "go on",
        "result completed",
    ]
    assert len(emulator.connections(cloud.job_id)) == 1, "the parent's stream went on"


def test_a_fork_while_a_trainer_submits_does_not_lock_the_child_out(
    nursery: Nursery, emulator: Emulator
) -> None:
    emulator.faults.add(Fault("stall_before_headers", route="create_job", seconds=1000))
    cloud = cloud_of(emulator, "")
    parent = nursery.start(scenarios.fork_while_a_trainer_submits, cloud)
    parent.until_said("go on")
    emulator.advance(1000)
    parent.succeeds()
    assert {parent.value("own"), parent.value("parent")} == set(emulator.jobs)
    assert parent.value("child") == "7"


def test_a_fork_while_locks_are_held_does_not_lock_the_child_out(
    nursery: Nursery, emulator: Emulator
) -> None:
    cloud = cloud_of(emulator, waiting_job(emulator))
    other = emulator.create_job()
    parent = nursery.start(scenarios.fork_while_locks_are_held, cloud, other)
    parent.until_said("go on")
    emulator.step(cloud.job_id, 99)
    parent.succeeds()
    assert int(parent.value("locks")) > 5
    assert parent.value("child") == "7"
    assert parent.out[-1] == "result completed"


def test_a_fork_while_the_first_run_begins_does_not_lock_the_child_out(
    nursery: Nursery, emulator: Emulator
) -> None:
    cloud = cloud_of(emulator, emulator.create_job())
    parent = nursery.start(scenarios.fork_while_the_first_run_begins, cloud).succeeds()
    followed = f"followed {cloud.job_id} completed [1, 2, 3, 4, 5]"
    assert parent.out == [followed, "child 7", followed]


@pytest.mark.parametrize(("how", "status"), [("return", 0), ("exit", 7), ("raise", 1)])
def test_a_child_that_returns_from_a_callback_ends(
    nursery: Nursery, emulator: Emulator, how: str, status: int
) -> None:
    cloud = cloud_of(emulator, emulator.create_job())
    parent = nursery.start(scenarios.return_from_a_callback_in_a_child, cloud, how)
    assert parent.status() == 0
    told = parent.out
    pid = parent.value("parent is")
    assert parent.err == "" if how != "raise" else parent.err.count("Traceback") == 1
    assert [line for line in told if line.startswith("child")] == [
        "child at 2",
        f"child ended with {status}",
    ]
    assert [line for line in told if line.startswith("second")] == [
        f"second {step} {pid}" for step in range(1, 6)
    ]
    by_whom = [line.split()[-1] for line in told if " by " in line]
    assert by_whom == [pid] * 8, "7 events are saved, and the lease is given back, by the parent"
    assert parent.value("result") == "completed"


def test_a_child_does_not_give_back_the_lease_of_its_parent(
    nursery: Nursery, emulator: Emulator
) -> None:
    cloud = cloud_of(emulator, waiting_job(emulator))
    scenario = scenarios.fork_while_a_store_that_all_reach_has_the_lease
    parent = nursery.start(scenario, cloud).succeeds()
    pid = parent.value("parent is")
    released = [line for line in parent.out if line.startswith("released")]
    assert released == [f"released by {pid}"]


def test_a_fork_while_a_picture_is_drawn_does_not_hang_the_child(nursery: Nursery) -> None:
    parent = nursery.start(scenarios.draw_in_a_child, {}).succeeds()
    assert parent.out == ["drawn", "child 7", "drawn"]
