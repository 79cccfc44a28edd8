"""The lease of a cursor store: one run follows a job, whatever becomes of its process."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Iterator

import pytest
import scenarios
from children import Child, Nursery

from arkor_sync import FileCursorStore, LeaseHeldError, follow
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.hang_phases import Cloud, cloud_of


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A cloud with one job, which does not end."""
    with Emulator(ScriptedEngine(steps=5, silent_at=2)) as emulator:
        yield cloud_of(emulator, emulator.create_job())


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "cursors")


def holding(child: Child) -> Child:
    child.until_said("holding")
    return child


def ask(nursery: Nursery, cloud: Cloud, store: str) -> str:
    (answer,) = nursery.start(scenarios.ask_for_the_lease, cloud, store).succeeds().out
    return re.sub(r"(?<= since )\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "then", answer)


def refusal(cloud: Cloud, store: str, pid: int) -> str:
    lock = Path(store) / f"{cloud.job_id}.lock"
    return (
        f"refused: job {cloud.job_id} is followed already, by process {pid} since then ({lock}); "
        "end that one, or follow with a store of another directory"
    )


def test_a_second_process_is_refused_until_the_first_is_killed(
    nursery: Nursery, cloud: Cloud, store: str
) -> None:
    holder = holding(nursery.start(scenarios.hold_the_lease, cloud, store))
    assert ask(nursery, cloud, store) == refusal(cloud, store, holder.pid)
    holder.kill()
    assert holder.status() == -signal.SIGKILL
    assert ask(nursery, cloud, store) == "granted"
    assert ask(nursery, cloud, store) == "granted", "and given back by a close"


def test_a_second_run_in_one_process_is_refused_until_the_first_is_closed(
    cloud: Cloud, store: str
) -> None:
    def begin() -> None:
        follow(cloud.job_id, client=cloud.client(), cursor_store=FileCursorStore(store)).close()

    first = follow(cloud.job_id, client=cloud.client(), cursor_store=FileCursorStore(store))
    with first, pytest.raises(LeaseHeldError, match=f"by process {os.getpid()} "):
        begin()
    begin()


def test_a_forked_child_does_not_keep_the_lease_of_its_dead_parent(
    nursery: Nursery, cloud: Cloud, store: str
) -> None:
    holder = holding(nursery.start(scenarios.hold_the_lease, cloud, store, True))
    heir = int(holder.value("heir"))
    holder.kill()
    holder.status()
    try:
        assert ask(nursery, cloud, store) == "granted"
    finally:
        os.kill(heir, signal.SIGKILL)


def test_forked_children_that_end_do_not_lose_their_parents_lease(
    nursery: Nursery, cloud: Cloud, store: str
) -> None:
    holder = holding(nursery.start(scenarios.hold_the_lease_past_children, cloud, store))
    assert ask(nursery, cloud, store) == refusal(cloud, store, holder.pid)
    assert holder.err == ""


def test_a_run_whose_threads_cannot_start_gives_its_lease_back(
    nursery: Nursery, cloud: Cloud, store: str
) -> None:
    Path(store).mkdir(mode=0o777)
    Path(store).chmod(0o777)
    out = nursery.start(scenarios.follow_without_threads, cloud, store).succeeds().out
    what = f"refused job {cloud.job_id} is not followed: this process cannot start another thread"
    assert [out[0].startswith(what), out[2].startswith(what)] == [True, True], out
    assert out[1] == out[3] == "threads ['MainThread'] []"
    assert out[4] == "granted"
