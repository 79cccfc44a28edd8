"""The database of a fleet: what callbacks have written there, and how it is disturbed."""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, TypeVar

from fleet_cloud import JobFacts
from fleet_oracle import Effect
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, func, select
from sqlalchemy.pool import NullPool

from arkor_sync import (
    CloudApiClient,
    SQLCursorStore,
    StoreUnavailableError,
    recover_submissions,
    settle_submission,
)
from arkor_sync.stores.backend import SUBMITTED, Holder, Member
from support.postgres import Postgres, name_of
from support.waiting import until

D = TypeVar("D", bound="Database")

HERE = Path(__file__).parent

EFFECTS = Table(
    "effect",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
)


class Database:
    """A database, with the tables of the store and one for effects.

    Args:
        url: Where it is, as SQLAlchemy has it.

    Attributes:
        application: The module of the web application that submits to it.
        url: The same.
        store: A store there, of this process.
    """

    application = "web_app"

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = create_engine(url, poolclass=NullPool)
        EFFECTS.metadata.create_all(self._engine)
        self._open()

    def __enter__(self: D) -> D:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of this process."""
        self.store.close()

    def _open(self) -> None:
        """Make the tables of who follows."""
        self.store = SQLCursorStore(self.url)
        self.store.create_tables()

    def follower(self, settings: Mapping[str, Any]) -> List[str]:
        """Return the arguments of Python for a process that follows."""
        return [str(HERE / "fleet_member.py"), json.dumps({"url": self.url, **settings})]

    def count(self) -> int:
        """Count the effects."""
        with self._engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(EFFECTS)) or 0

    def effects(self) -> List[Effect]:
        """List the effects, in the order in which they were written."""
        columns = EFFECTS.c.job, EFFECTS.c.event, EFFECTS.c.epoch
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).order_by(EFFECTS.c.number))
            return [Effect(*row) for row in rows]

    def holders(self) -> List[Holder]:
        """List what the store knows of all jobs."""
        return self.store.holders()

    def members(self) -> List[Member]:
        """List the processes that follow jobs."""
        return self.store.members()

    def leases_of(self, pid: int) -> int:
        """Count the leases of a process that have not ended."""
        held = [str(each.owner) for each in self.holders() if each.expires_in > 0]
        return sum(owner.startswith(f"process {pid} ") for owner in held)

    def end_all_leases(self) -> None:
        """Have all leases end at once."""
        for each in self.holders():
            if each.owner is not None:
                until(partial(self._released, each))

    def _released(self, holder: Holder) -> bool:
        try:
            self.store.backend.release(holder.job_id, str(holder.owner), holder.epoch)
        except StoreUnavailableError:  # SQLite, which the others keep locked on a loaded machine
            return False
        return True

    def submitted(self) -> Dict[str, str]:
        """Return the job of each key that has one."""
        rows = self.store.backend.submissions([SUBMITTED])
        return {each.key: str(each.job_id) for each in rows}

    def unsettled(self, status: str) -> Dict[str, str]:
        """Return the keys that are `submitting` or `unknown`, each with what is said about it."""
        return {each.key: str(each.detail) for each in self.store.backend.submissions([status])}

    def recover(self, client: CloudApiClient) -> None:
        """Settle what processes have left that died."""
        recover_submissions(self.store, client)

    def settle(self, jobs: Mapping[str, Optional[str]]) -> None:
        """Say which job each unknown key has, or that it has none, as a person does."""
        for key, job_id in jobs.items():
            settle_submission(self.store, key, job_id)

    def check(self, jobs: Mapping[str, JobFacts]) -> None:
        """Check what is written of jobs beside their effects and positions, if anything is."""

    def connections(self) -> Dict[str, int]:
        """Count the connections that are open now, by the name of their process."""
        raise NotImplementedError

    def cut(self) -> None:
        """Cut the connections of all other processes."""
        raise NotImplementedError

    def restart(self) -> None:
        """Restart the server in the middle of what it does."""
        raise NotImplementedError


class OnPostgres(Database):
    """A database of a PostgreSQL server."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._address = server.new_database()
        super().__init__(self._address.replace("postgresql://", "postgresql+psycopg://"))

    def close(self) -> None:
        super().close()
        self._server.drop_database(self._address)

    def connections(self) -> Dict[str, int]:
        rows = self._server.execute(
            "SELECT application_name, count(*) FROM pg_stat_activity "
            "WHERE datname = %s AND application_name LIKE 'member-%%' GROUP BY 1",
            name_of(self._address),
        )
        return {name: int(number) for name, number in rows}

    def cut(self) -> None:
        self._server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND application_name LIKE 'member-%%'",
            name_of(self._address),
        )

    def restart(self) -> None:
        self._server.restart()


class OnSqlite(Database):
    """A file."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        super().__init__(f"sqlite:///{path}")

    def connections(self) -> Dict[str, int]:
        """Count who has the file open, by the names that processes have in their environment."""
        found: Counter[str] = Counter()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                name = _variable(process, b"PGAPPNAME")
                files = [os.readlink(each) for each in process.glob("fd/*")] if name else []
            except OSError:  # it has ended
                continue
            found[name] += files.count(self._path)
        return {name: number for name, number in found.items() if number}


def _variable(process: Path, name: bytes) -> str:
    for each in (process / "environ").read_bytes().split(b"\0"):
        if each.startswith(name + b"="):
            return each.partition(b"=")[2].decode()
    return ""
