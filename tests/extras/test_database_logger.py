"""Metrics in SQLite, and in a PostgreSQL of the test's own where its programs are found."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from glob import glob
from pathlib import Path
from typing import Any, Iterator, List, Optional

import pytest
import sqlalchemy

from arkor_sync import ArkorUsageError
from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import DatabaseLogger
from arkor_sync.handlers.loggers.database import _storable
from support.extras import need
from support.logger_contexts import a_job, end, log, started
from support.logger_runs import EVENTS, at, drain, each_event_twice, train
from support.waiting import PATIENCE

PASSWORD = "pass/w0rd"


def postgresql_programs() -> List[str]:
    """Find the newest PostgreSQL server of this machine: one folder, or none."""
    on_path = shutil.which("initdb")
    found = [os.path.dirname(os.path.realpath(on_path))] if on_path else []
    found += sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return [folder for folder in found if os.path.exists(f"{folder}/postgres")][:1]


class SQLite:
    """A file; it is broken by whoever holds it locked."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.db"
        self.url = f"sqlite:///{self._path}?timeout={PATIENCE}"
        self.url_to_break = f"sqlite:///{self._path}?timeout=0.05"
        self._lock: Optional[sqlite3.Connection] = None

    def break_(self) -> None:
        self._lock = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._lock.execute("BEGIN EXCLUSIVE")

    def mend(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    close = mend


class PostgreSQL:
    """A cluster in a temporary directory, with a socket there: no port that another may take.

    The server refuses to be root, who steps down for it.
    """

    def __init__(self, programs: str) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="arkor-postgresql-"))
        self._user: Optional[str] = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = nobody.pw_name
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._runs = False
        self._run("initdb", "-U", "arkor", "-A", "md5", f"--pwfile={password}", "--no-sync")
        self.mend()
        self.url = self.url_to_break = sqlalchemy.URL.create(
            "postgresql+psycopg",
            "arkor",
            PASSWORD,
            database="postgres",
            query={"host": str(self._folder)},
        )

    def break_(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")
        self._runs = False

    def mend(self) -> None:
        if not self._runs:
            sockets = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}'"
            log_file = str(self._folder / "log")
            self._run("pg_ctl", "start", "-w", "-l", log_file, "-o", f"{sockets} -c fsync=off")
            self._runs = True

    def close(self) -> None:
        if self._runs:
            self.break_()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [f"{self._programs}/{program}", "-D", str(self._folder / "data"), *arguments],
            user=self._user,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )


def name_of(programs: str) -> str:
    return programs if programs == "sqlite" else "postgresql"


@pytest.fixture(scope="module", params=["sqlite", *postgresql_programs()], ids=name_of)
def server(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if request.param == "sqlite":
        made: Any = SQLite(tmp_path_factory.mktemp("sqlite"))
    else:
        need("psycopg")
        made = PostgreSQL(request.param)
    yield made
    made.close()


@pytest.fixture
def database(server: Any) -> Iterator[Any]:
    server.mend()
    query(server, "DROP TABLE IF EXISTS arkor_runs")
    query(server, "DROP TABLE IF EXISTS arkor_metrics")
    yield server
    server.mend()


def query(database: Any, statement: str) -> List[Any]:
    engine = sqlalchemy.create_engine(database.url, poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        done = connection.execute(sqlalchemy.text(statement))
        return [tuple(row) for row in done] if done.returns_rows else []


METRICS = "SELECT step, name, value FROM arkor_metrics"
WHOLE = [
    (1, "loss", 3.0),
    (1, "learning_rate", 0.001),
    (1, "gradNorm", 0.5),
    (1, "eval_loss", 3.125),
    (2, "loss", 2.5),
    (3, "loss", 2.0),
    (3, "eval_loss", 2.25),
]


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_run_is_a_row_and_each_metric_of_a_step_another(arkor_client: Any, database: Any) -> None:
    logger = DatabaseLogger(database.url)
    job = train(arkor_client, each_event_twice(logger)).job
    assert sorted(query(database, METRICS)) == sorted(WHOLE)
    assert query(database, "SELECT DISTINCT job_id FROM arkor_metrics") == [(job.id,)]
    [(timestamp,)] = query(database, "SELECT MIN(timestamp) FROM arkor_metrics")
    assert timestamp.startswith("20")
    columns = "job_id, name, status, params, created_at, started_at, completed_at, error"
    [row] = query(database, f"SELECT {columns} FROM arkor_runs")
    assert row[:3] == (job.id, "a run", "completed")
    assert json.loads(row[3])["maxSteps"] == 3
    assert "s3cret" not in row[3]
    assert row[4:] == (job.created_at, job.started_at, job.completed_at, None)


@pytest.mark.arkor(engine=ScriptedEngine(steps=3, fails_at=2))
def test_why_a_run_failed_is_there(arkor_client: Any, database: Any) -> None:
    train(arkor_client, DatabaseLogger(database.url))
    assert query(database, "SELECT status, error FROM arkor_runs") == [
        ("failed", "CUDA out of memory")
    ]


@pytest.mark.arkor(engine=ScriptedEngine(steps=3, fails_at=2, error="CUDA\0out"))
def test_a_text_that_no_column_takes_does_not_hide_how_a_run_ended(
    arkor_client: Any, database: Any
) -> None:
    train(arkor_client, DatabaseLogger(database.url))
    assert query(database, "SELECT status, error FROM arkor_runs") == [("failed", "CUDA out")]
    assert _storable("a\0b\ud800") == "a b?"


def test_a_process_that_carries_on_repeats_nothing(database: Any) -> None:
    first = DatabaseLogger(database.url)
    first.on_started(started())
    for step in (1, 2):
        first.on_log(log(step, loss=float(step)))
    drain(first)
    second = DatabaseLogger(database.url)
    second.load_state_dict({})
    for step in (1, 2, 3):
        second.on_log(log(step, loss=float(step)))
    second.on_log(log(3, evalLoss=9.0))
    second.on_end(end())
    assert sorted(query(database, METRICS)) == [
        (1, "loss", 1.0),
        (2, "loss", 2.0),
        (3, "eval_loss", 9.0),
        (3, "loss", 3.0),
    ]
    assert query(database, "SELECT status FROM arkor_runs") == [("completed",)]
    first.on_end(end())


def test_two_runs_at_once_are_kept_apart(database: Any) -> None:
    logger = DatabaseLogger(database.url)
    jobs = [a_job("job-1"), a_job("job-2")]
    for step in (1, 2):
        for job in jobs:
            logger.on_log(log(step, job, loss=float(job.id[-1])))
    for job in jobs:
        logger.on_end(end("completed", job))
    rows = query(database, "SELECT job_id, step, value FROM arkor_metrics ORDER BY job_id, step")
    assert rows == [("job-1", 1, 1.0), ("job-1", 2, 1.0), ("job-2", 1, 2.0), ("job-2", 2, 2.0)]


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_database_that_breaks_in_the_middle_does_not_harm_the_run(
    arkor_client: Any, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logger = DatabaseLogger(database.url_to_break)
    result = train(arkor_client, [logger, at(2, logger, database.break_)])
    assert result.status == "completed"
    database.mend()
    assert max(step for step, _, _ in query(database, METRICS)) == 2
    assert "DatabaseLogger.log_rows failed" in caplog.text
    assert "1 log of job" in caplog.text
    assert PASSWORD not in caplog.text
    assert "w0rd" not in caplog.text


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_database_that_is_away_for_a_while_misses_nothing(
    arkor_client: Any, database: Any
) -> None:
    logger = DatabaseLogger(database.url_to_break)
    breaking, mending = at(1, logger, database.break_), at(2, logger, database.mend)
    train(arkor_client, [logger, breaking, mending])
    assert sorted(query(database, METRICS)) == sorted(WHOLE)
    assert query(database, "SELECT status FROM arkor_runs") == [("completed",)]


def test_an_engine_may_be_given(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(
        f"sqlite:///{tmp_path / 'own.db'}", poolclass=sqlalchemy.pool.NullPool
    )
    logger = DatabaseLogger(engine)
    logger.on_log(log(1, loss=1.0))
    logger.on_end(end())
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT COUNT(*) FROM arkor_metrics")).scalar()


@pytest.mark.parametrize("url", [f"no url with {PASSWORD}", f"nothing://arkor:{PASSWORD}@host/db"])
def test_a_url_that_cannot_be_is_refused_without_its_password(url: Any) -> None:
    with pytest.raises(ArkorUsageError) as caught:
        DatabaseLogger(url)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__


def test_what_cannot_be_reached_is_told_without_the_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    need("psycopg")
    logger = DatabaseLogger(
        "postgresql+psycopg://arkor:pass%2Fw0rd@127.0.0.1:9/db?connect_timeout=1"
    )
    logger.on_log(log(1, loss=1.0))
    logger.on_end(end())
    assert "DatabaseLogger.log_rows failed for job job-1: OperationalError" in caplog.text
    assert "w0rd" not in caplog.text


def test_a_url_with_a_port_that_is_none_is_refused_without_being_shown() -> None:
    need("psycopg")
    with pytest.raises(ArkorUsageError, match="that is no database URL") as caught:
        DatabaseLogger("postgresql+psycopg://arkor@127.0.0.1:s3cret/db")
    assert "s3cret" not in str(caught.value)
