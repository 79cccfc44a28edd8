"""Who has a lease and stands still: for long, past the lease's end, and in the worst moment."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Iterator, List

import holder
import pytest
from fleet_cloud import Cloud
from fleet_database import Database
from fleet_driver import COMMAND, PYTHONPATH

from arkor_sync import LeaseHeldError, StoreUnavailableError
from support.waiting import PATIENCE, until

TTL = 2.0

pytestmark = pytest.mark.slow


class Holder:
    """A process of `holder.py`."""

    def __init__(self, database: Database, cloud: Cloud, job_id: str, where: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, holder.__file__, database.url, str(TTL), job_id, where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": PYTHONPATH, **cloud.environment},
        )
        self.pid = self._process.pid

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=PATIENCE)

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def is_held(self) -> bool:
        """Wait until it stands still."""
        assert self._process.stdout
        return self._process.stdout.readline() == "held\n"

    def ends(self) -> str:
        """Let it go on; return how it ends."""
        out, err = self._process.communicate("go on\n", timeout=PATIENCE)
        assert self._process.returncode == 0, err
        return out.strip()


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


def epochs(database: Database, cloud: Cloud, job_id: str) -> List[int]:
    """See that each event had its effect once and in order; return under which epochs."""
    effects = database.effects()
    assert [each.event for each in effects] == cloud.jobs()[job_id].events
    return [each.epoch for each in effects]


@pytest.mark.parametrize("where", [holder.IN_CALLBACK, holder.BEFORE_COMMIT])
def test_a_holder_that_comes_back_after_its_lease_changes_nothing(
    database: Database, cloud: Cloud, where: str
) -> None:
    (job_id,) = cloud.create(1)
    with Holder(database, cloud, job_id, where) as first:
        assert first.is_held()
        first.send(signal.SIGSTOP)
        until(lambda: database.leases_of(first.pid) == 0)
        # Where the first one has saved and not committed, the server has to end its transaction.
        until(lambda: can_be_taken(database, job_id))
        with Holder(database, cloud, job_id, holder.NOWHERE) as second:
            assert second.ends() in ("completed", "failed")
        first.send(signal.SIGCONT)
        assert first.ends() == "LeaseLostError"
    found = epochs(database, cloud, job_id)
    assert found[0] == 1
    assert set(found[1:]) == {found[-1]} != {1}


def can_be_taken(database: Database, job_id: str) -> bool:
    try:
        database.store.reserve(job_id, lambda _: None).release()
    except (LeaseHeldError, StoreUnavailableError):
        return False
    return True


def test_a_callback_may_take_longer_than_a_lease(database: Database, cloud: Cloud) -> None:
    (job_id,) = cloud.create(1)
    with Holder(database, cloud, job_id, holder.IN_CALLBACK) as only:
        assert only.is_held()
        end = time.monotonic() + 2 * TTL
        until(lambda: time.monotonic() > end)
        assert not can_be_taken(database, job_id)
        assert only.ends() in ("completed", "failed")
    assert set(epochs(database, cloud, job_id)) == {1}
