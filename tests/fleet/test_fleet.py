"""Many processes follow many jobs together, and are killed, stopped, cut off and replaced.

Each seed is a schedule of its own. A few are run by default; more, and a single one again, with
the environment, and a fleet of another size, too::

    ARKOR_FLEET_SCHEDULES=200 python -m pytest -m '' tests/fleet/test_fleet.py
    ARKOR_FLEET_SEED=123 python -m pytest -m '' tests/fleet/test_fleet.py
    ARKOR_FLEET_JOBS=1000 ARKOR_FLEET_KILLS=50 python -m pytest -m '' tests/fleet -k killed
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fleet_cloud import Cloud
from fleet_database import Database, OnSqlite
from fleet_driver import Fleet
from fleet_schedule import Schedule, draw, kills

SEED = os.environ.get("ARKOR_FLEET_SEED")
SEEDS = [int(SEED)] if SEED else list(range(int(os.environ.get("ARKOR_FLEET_SCHEDULES", "4"))))
JOBS = int(os.environ.get("ARKOR_FLEET_JOBS", "60"))
KILLS = int(os.environ.get("ARKOR_FLEET_KILLS", "6"))

pytestmark = pytest.mark.slow


def run(schedule: Schedule, database: Database, directory: Path) -> None:
    print(schedule)
    with (
        Cloud(schedule.pause, schedule.seed) as cloud,
        Fleet(schedule, cloud, database, directory) as fleet,
    ):
        fleet.run()


def again(seed: int) -> str:
    return f"ARKOR_FLEET_SEED={seed} python -m pytest -m '' tests/fleet/test_fleet.py"


@pytest.mark.parametrize("seed", SEEDS)
def test_on_postgresql_nothing_is_lost_or_repeated(
    seed: int, database: Database, tmp_path: Path
) -> None:
    print(f"repeat it: {again(seed)}")
    run(draw(seed), database, tmp_path)


@pytest.mark.parametrize("seed", SEEDS[: max(1, len(SEEDS) // 2)])
def test_on_sqlite_nothing_is_lost_or_repeated(seed: int, tmp_path: Path) -> None:
    print(f"repeat it: {again(seed)}")
    with OnSqlite(tmp_path / "fleet.db") as database:
        run(draw(seed, on_server=False), database, tmp_path)


def test_many_jobs_in_processes_that_are_killed(database: Database, tmp_path: Path) -> None:
    run(kills(JOBS, JOBS, KILLS), database, tmp_path)
