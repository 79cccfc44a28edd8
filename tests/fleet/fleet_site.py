"""The database of the Django site of `web_site.py`. Django is used in other processes only."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Dict, List, Mapping, Optional

from fleet_cloud import JobFacts
from fleet_database import HERE, OnPostgres
from fleet_driver import COMMAND, PYTHONPATH

from arkor_sync import CloudApiClient
from arkor_sync.stores.backend import Holder, Member
from support.extras import need
from support.waiting import PATIENCE

NOW = "extract(epoch from clock_timestamp())::double precision"
SITE = str(HERE / "web_site.py")


class OfSite(OnPostgres):
    """A database of a PostgreSQL server, with the tables of the Django app and one for effects."""

    application = "web_site"

    def _open(self) -> None:
        need("django")
        self._run("migrate", "--verbosity=0")

    def close(self) -> None:
        self._server.drop_database(self._address)

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [*COMMAND, SITE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": PYTHONPATH, "FLEET_STORE": self.url},
        )
        assert done.returncode == 0, done.stdout

    def _rows(self, statement: str, *values: Any) -> List[Any]:
        return self._server.execute(statement, *values, url=self._address)

    def follower(self, settings: Mapping[str, Any]) -> List[str]:
        return [SITE, "arkor_follow"]

    def holders(self) -> List[Holder]:
        rows = self._rows(
            f"SELECT job_id, owner, lease.epoch, expires - {NOW}, {NOW} - saved_at, finished "
            "FROM arkor_lease AS lease JOIN arkor_position USING (job_id)"
        )
        return [Holder(*row) for row in rows]

    def members(self) -> List[Member]:
        rows = self._rows(f"SELECT owner, expires - {NOW} FROM arkor_member WHERE expires > {NOW}")
        return [Member(*row) for row in rows]

    def submitted(self) -> Dict[str, str]:
        return dict(self._rows("SELECT key, job_id FROM arkor_run WHERE job_id IS NOT NULL"))

    def unsettled(self, status: str) -> Dict[str, str]:
        return dict(self._rows("SELECT key, error FROM arkor_run WHERE status = %s", status))

    def recover(self, client: CloudApiClient) -> None:
        """Do nothing: the processes that follow do it."""

    def settle(self, jobs: Mapping[str, Optional[str]]) -> None:
        self._run("settle", json.dumps(jobs))

    def check(self, jobs: Mapping[str, JobFacts]) -> None:
        runs = self._rows("SELECT job_id, status FROM arkor_run")
        assert sorted(runs) == sorted((job_id, facts.status) for job_id, facts in jobs.items())
        metrics = self._rows(
            "SELECT job_id, array_agg(arkor_metric.step ORDER BY arkor_metric.id) "
            "FROM arkor_run JOIN arkor_metric ON run_id = arkor_run.id GROUP BY job_id"
        )
        assert dict(metrics) == {job_id: facts.steps for job_id, facts in jobs.items()}
