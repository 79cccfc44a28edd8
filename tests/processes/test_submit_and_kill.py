"""Processes that submit with a key are killed at each point: as many jobs are paid as are wanted.

More keys, in other orders, with the environment::

    ARKOR_KILLS=50 python -m pytest tests/processes/test_submit_and_kill.py
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List

import pytest
from children import Child, Nursery
from submit_scenarios import submit_with_a_key, trainer_of

from arkor_sync import SubmissionUnknownError, recover_submissions, settle_submission, submit
from arkor_sync._submission_search import may_be_cut
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.stores import LeasedStore
from support.shared_backend import SharedBackend
from support.waiting import until

ROUNDS = int(os.environ.get("ARKOR_KILLS", "3"))
KEYS = [f"order-{number}" for number in range(25)]
LATER = 200.0  # seconds: by then the lease of each row has ended

IN_THE_REQUEST = {
    "while the request waits": Fault("stall_before_headers", route="create_job"),
    "while the answer waits": Fault("blackhole", route="create_job"),
}
POINTS = [
    "before the intent",
    "after the intent",
    *IN_THE_REQUEST,
    "after the answer",
    "before the close",
    "after the close",
]


class Shop:
    """Wants one job for each order, and its processes are killed."""

    def __init__(self, nursery: Nursery, path: Path, emu: Emulator) -> None:
        self.emu = emu
        self.backend = SharedBackend(path / "store")
        self.store = LeasedStore(self.backend)
        self._nursery = nursery
        self.cloud = {
            "url": emu.url,
            "token": emu.token,
            "org": emu.org_slug,
            "project": emu.project_slug,
        }
        self._path = str(path / "store")

    def start(self, key: str, *point: str) -> Child:
        return self._nursery.start(submit_with_a_key, self.cloud, self._path, key, *point)

    def submit_and_die(self, key: str, point: str) -> None:
        """Run a process that is killed at this point, unless it ends before it gets there."""
        self.backend.advance(LATER)
        fault = IN_THE_REQUEST.get(point)
        before = self.requests()
        if fault is not None:
            self.emu.faults.add(fault)
        child = self.start(key, point)
        if fault is not None:
            until(lambda: self.requests() > before or child.ended())
            if point == "while the answer waits" and not child.ended():
                until(lambda: job_names(self.emu)[f"bot [{key}]"])
            child.kill()
            self.emu.faults.clear()
        status = child.status()
        assert status in (-signal.SIGKILL, 0) or "SubmissionUnknownError" in child.err, child.err

    def requests(self) -> int:
        return sum(each.route == "create_job" for each in self.emu.requests)

    def settle(self, key: str) -> str:
        return str(submit(trainer_of(self.cloud), key=key, store=self.store).job_id)


def job_names(emu: Emulator) -> Dict[str, int]:
    return Counter(job.name for job in list(emu.jobs.values()))


def pad(emu: Emulator) -> None:
    """Have another program submit jobs until the list has a length that is no limit."""
    while may_be_cut(len(emu.jobs)):
        emu.create_job(name="another program's")


def wanted_jobs(emu: Emulator) -> List[str]:
    return sorted(name for name in job_names(emu) if name.startswith("bot"))


@pytest.fixture
def shop(nursery: Nursery, tmp_path: Path) -> Iterator[Shop]:
    with Emulator(ScriptedEngine(steps=1)) as emulator:
        yield Shop(nursery, tmp_path, emulator)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_this_point_the_job_is_paid_once(shop: Shop, point: str) -> None:
    shop.submit_and_die("order", point)
    before = dict(shop.emu.jobs)
    shop.backend.advance(LATER)
    job_id = shop.settle("order")
    assert list(shop.emu.jobs) == [job_id]
    assert set(before) <= {job_id}, "a job that was created is found again"


@pytest.mark.slow
def test_25_wanted_25_paid(shop: Shop) -> None:
    chance = random.Random(f"killed {ROUNDS} times")
    for _ in range(ROUNDS):
        for key in KEYS:
            pad(shop.emu)
            shop.submit_and_die(key, chance.choice(POINTS))
    shop.backend.advance(LATER)
    pad(shop.emu)
    recovered = recover_submissions(
        shop.store,
        shop.emu.client(),
        trainer_for=lambda key: trainer_of(shop.cloud),
    )
    for each in recovered:
        if each.status == "unknown":  # the list had grown to a limit; nobody sees such a job
            assert each.name not in job_names(shop.emu)
            settle_submission(shop.store, each.key)
    ids = {shop.settle(key) for key in KEYS}
    assert wanted_jobs(shop.emu) == sorted(f"bot [{key}]" for key in KEYS)
    assert sum(job.name.startswith("bot") for job in shop.emu.jobs.values()) == 25
    assert ids == {id for id, job in shop.emu.jobs.items() if job.name.startswith("bot")}


@pytest.mark.slow
def test_with_a_list_that_is_cut_nothing_is_paid_twice(shop: Shop) -> None:
    shop.emu.settings.listed_jobs = 10
    for number, key in enumerate(KEYS):
        shop.submit_and_die(key, POINTS[number % len(POINTS)])
    shop.backend.advance(LATER)
    unknown = []
    for key in KEYS:
        try:
            shop.settle(key)
        except SubmissionUnknownError:
            unknown.append(key)
    assert max(job_names(shop.emu).values()) == 1
    assert unknown
    assert {each.key for each in shop.backend.submissions(("unknown",))} == set(unknown)
    for key in unknown:  # a person looks
        found = [id for id, job in shop.emu.jobs.items() if job.name == f"bot [{key}]"]
        settle_submission(shop.store, key, *found)
    ids = {shop.settle(key) for key in KEYS}
    assert ids == set(shop.emu.jobs)
    assert len(ids) == 25


def test_of_two_processes_one_sends_and_the_other_waits(nursery: Nursery, tmp_path: Path) -> None:
    with Emulator(ScriptedEngine(steps=1), speed=0) as emulator:
        shop = Shop(nursery, tmp_path, emulator)
        emulator.faults.add(Fault("stall_before_headers", route="create_job", seconds=5))
        first = shop.start("order")
        until(lambda: shop.requests() == 1)
        second = shop.start("order")
        second.until_said("asks")
        emulator.advance(5)
        assert first.succeeds().value("job") == second.succeeds().value("job")
        assert shop.requests() == 1
