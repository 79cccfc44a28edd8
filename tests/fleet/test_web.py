"""Web servers submit jobs and other processes follow them, while both are killed and replaced.

The web application is a plain one, or a Django site. By default each server has a schedule with the
plain one, and two servers have one with the site. More of both, and a single one again, with the
environment::

    ARKOR_FLEET_SCHEDULES=200 python -m pytest -m '' tests/fleet/test_web.py
    ARKOR_FLEET_SEED=123 python -m pytest -m '' tests/fleet/test_web.py -k web_site
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Dict, List, Sequence, Set, Type

import pytest
from fleet_cloud import Cloud
from fleet_database import Database, OnPostgres
from fleet_driver import PYTHONPATH, Fleet
from fleet_schedule import draw_web
from fleet_site import OfSite
from web_servers import OF_SERVER, SERVERS, Server, until_seldom

from arkor_sync import CloudApiClient, ProjectState, TokenCredentials
from arkor_sync.stores.backend import SUBMITTING, UNKNOWN
from support.postgres import Postgres
from support.waiting import Background

NAMES = list(SERVERS)
SEED = os.environ.get("ARKOR_FLEET_SEED")
SCHEDULES = int(os.environ.get("ARKOR_FLEET_SCHEDULES", "0"))
SEEDS = [int(SEED)] if SEED else list(range(max(SCHEDULES, len(NAMES))))
SITE_SEEDS = SEEDS if SEED or SCHEDULES else [3, 4]
CASES = [*((OnPostgres, seed) for seed in SEEDS), *((OfSite, seed) for seed in SITE_SEEDS)]
IDS = [f"{seed} {NAMES[seed % len(NAMES)]} {kind.application}" for kind, seed in CASES]
CUSTOMERS = 8
LISTED = 5  # jobs of a list that is cut
PATIENT = 240.0  # seconds for all that a customer asks for

pytestmark = pytest.mark.slow


class Customers:
    """Ask for a job for each key, again and again until each has an answer.

    Attributes:
        jobs: The job of each key that has one.
        unknown: The keys that a person has to settle.
        workers: The processes that have answered, the latest last.
    """

    def __init__(self, server: Server, keys: Sequence[str]) -> None:
        self.jobs: Dict[str, str] = {}
        self.unknown: Set[str] = set()
        self.workers: List[int] = []
        self._server = server
        parts = [keys[number::CUSTOMERS] for number in range(CUSTOMERS)]
        self._asking = [Background(self._ask_for, part) for part in parts]

    def _ask_for(self, keys: Sequence[str]) -> None:
        for key in keys:
            until_seldom(partial(self._has_answer, key), PATIENT)

    def _has_answer(self, key: str) -> bool:
        answer = self._server.ask(f"/?key={key}")
        if answer is None:
            return False
        self.workers.append(answer["pid"])
        if answer.get("error") == "SubmissionUnknownError":
            self.unknown.add(key)
        elif answer["job"]:
            self.jobs[key] = answer["job"]
        return key in self.jobs or key in self.unknown

    def answered(self) -> int:
        """Count the keys that have an answer."""
        for each in self._asking:
            assert each.running() or each.result() is None
        return len(self.jobs) + len(self.unknown)

    def wait(self) -> None:
        """Wait until all keys have an answer."""
        for each in self._asking:
            each.thread.join(PATIENT)
            each.result()


@pytest.mark.parametrize(("kind", "seed"), CASES, ids=IDS)
def test_no_job_is_lost_and_none_is_paid_twice(
    kind: Type[OnPostgres], seed: int, postgres_server: Postgres, tmp_path: Path
) -> None:
    command = "python -m pytest -m '' tests/fleet/test_web.py"
    print(f"repeat it: ARKOR_FLEET_SEED={seed} {command} -k {kind.application}")
    schedule = draw_web(seed)
    name = NAMES[seed % len(NAMES)]
    with kind(postgres_server) as database, Cloud(schedule.fleet.pause, seed) as cloud:
        for fault in schedule.faults:
            cloud.fault(**fault)
        if schedule.truncated:
            cloud.list_at_most(LISTED)
        environment = {
            **cloud.environment,
            "PYTHONPATH": PYTHONPATH,
            "FLEET_STORE": database.url,
        }
        with (
            Fleet(schedule.fleet, cloud, database, tmp_path, submitted=True) as fleet,
            Server(name, kind.application, tmp_path, environment) as server,
        ):
            customers = Customers(server, schedule.keys)
            for event in schedule.events:
                wanted = event.after * len(schedule.keys)
                until_seldom(lambda wanted=wanted: customers.answered() >= wanted, PATIENT)
                if event.kind in OF_SERVER:
                    server.disturb(event.kind, customers.workers)
                else:
                    fleet.disturb(event)
            customers.wait()
            settle(database, cloud)
            check_jobs(database, cloud, customers)
            fleet.finish()
            # A server may end a worker that is still being loaded.
            ended = r"Traceback(?:(?!Traceback).)*?\n(?:KeyboardInterrupt|SystemExit)\b"
            rest = re.sub(ended, "", server.log, flags=re.DOTALL)
            assert "Traceback" not in rest, server.log[-8000:]


def settle(database: Database, cloud: Cloud) -> None:
    """Settle what processes have left that died; then what is unknown, as a person does."""
    variables = cloud.environment
    client = CloudApiClient(
        variables["ARKOR_CLOUD_API_URL"],
        TokenCredentials(variables["ARKOR_TOKEN"]),
        scope=ProjectState(variables["ARKOR_ORG"], variables["ARKOR_PROJECT"]),
    )

    def is_settled() -> bool:
        database.recover(client)
        return not database.unsettled(SUBMITTING)

    until_seldom(is_settled)
    # What has no job may be sent again after that, and may be unknown again.
    while unknown := database.unsettled(UNKNOWN):
        assert all("may have been cut" in detail for detail in unknown.values()), unknown
        ids = {facts.name: job_id for job_id, facts in cloud.jobs().items()}
        database.settle({key: ids.get(f"web [{key}]") for key in unknown})
        until_seldom(is_settled)


def check_jobs(database: Database, cloud: Cloud, customers: Customers) -> None:
    """See that each key has one job, or none if it was reported as unknown; none has two."""
    names = Counter(facts.name for facts in cloud.jobs().values())
    assert set(names.values()) <= {1}, names
    rows = database.submitted()
    assert set(rows.values()) == set(cloud.jobs())
    assert {key: rows.get(key) for key in customers.jobs} == customers.jobs
    assert set(rows) <= {*customers.jobs, *customers.unknown}
