"""Logs metrics to an SQL database, with SQLAlchemy. Runs on a thread of its own."""

from __future__ import annotations

import json
from typing import Any, Dict, List

from arkor_sync._common.extras import import_extra
from arkor_sync._common.locks import ProcessLock
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.loggers.base import LibraryLogger, LogRow


class DatabaseLogger(LibraryLogger):
    """Writes runs and their metrics to two tables, which are made if they do not exist.

    `arkor_runs` has `job_id`, `name`, `status` (`running`, or the status given to
    `MetricsLogger.finalize`), `params` (JSON), `created_at`, `started_at`, `completed_at` and
    `error`. `arkor_metrics` has `job_id`, `step`, `name`, `value` and `timestamp`, one row for each
    metric of a step. Times are texts, as the cloud sends them.

    For its threads see `MetricsLogger`. All rows that wait are written in one transaction, on a
    connection that is opened for it. Rows that the table already has are not written again: the
    first three columns of `arkor_metrics` are its key. It needs the extra `database`, and the
    driver of the database.

    Args:
        url: A URL of SQLAlchemy, such as `postgresql+psycopg://user:password@host/database`, or an
            `Engine`. The password is never logged.
        flush_timeout: Seconds that the end of a run waits for the database.

    Raises:
        ArkorUsageError: SQLAlchemy or the driver is not installed, or the URL cannot be read.
    """

    def __init__(self, url: Any = "sqlite:///arkor.db", *, flush_timeout: float = 10.0) -> None:
        super().__init__(flush_timeout=flush_timeout)
        self._sql = sql = import_extra("sqlalchemy", "database", "DatabaseLogger")
        self._engine = url if isinstance(url, sql.engine.Engine) else self._create_engine(url)
        if self._engine.url.password:
            self._secrets.append(str(self._engine.url.password))
        self._tables_exist = False
        self._create_lock = ProcessLock()
        text, schema = sql.Text, sql.MetaData()
        key = sql.String(100)
        self._runs = sql.Table(
            "arkor_runs",
            schema,
            sql.Column("job_id", key, primary_key=True),
            *[sql.Column(name, text) for name in ("name", "status", "params", "created_at")],
            *[sql.Column(name, text) for name in ("started_at", "completed_at", "error")],
        )
        self._metrics = sql.Table(
            "arkor_metrics",
            schema,
            sql.Column("job_id", key, primary_key=True),
            sql.Column("step", sql.BigInteger, primary_key=True, autoincrement=False),
            sql.Column("name", key, primary_key=True),
            sql.Column("value", sql.Float(53), nullable=False),
            sql.Column("timestamp", text),
        )

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Write the run's row."""
        self._write_run(status="running", params=json.dumps(params))

    def finalize(self, status: str) -> None:
        """Write how the run ended."""
        job = self.job
        self._write_run(status=status, completed_at=job.completed_at, error=job.error)

    def _log_rows(self, rows: List[LogRow]) -> None:
        table, job_id = self._metrics, self.job.id
        new = {
            (row.step, name): (value, row.timestamp)
            for row in reversed(rows)  # of two equal ones the first is kept
            for name, value in row.metrics.items()
        }
        steps = [row.step for row in rows]
        existing = self._sql.select(table.c.step, table.c.name).where(
            table.c.job_id == job_id, table.c.step.between(min(steps), max(steps))
        )
        with self._begin() as connection:
            for key in map(tuple, connection.execute(existing)):
                new.pop(key, None)
            if new:
                connection.execute(
                    table.insert(),
                    [
                        {
                            "job_id": job_id,
                            "step": step,
                            "name": name,
                            "value": float(value),
                            "timestamp": timestamp,
                        }
                        for (step, name), (value, timestamp) in sorted(new.items())
                    ],
                )

    def _write_run(self, **values: Any) -> None:
        job, table = self.job, self._runs
        values.update(name=job.name, created_at=job.created_at, started_at=job.started_at)
        values = {name: value and _storable(value) for name, value in values.items()}
        with self._begin() as connection:
            done = connection.execute(
                table.update().where(table.c.job_id == job.id).values(**values)
            )
            if not done.rowcount:
                connection.execute(table.insert().values(job_id=job.id, **values))

    def _begin(self) -> Any:
        """Begin a transaction; create the tables before the first one."""
        with self._create_lock():
            if not self._tables_exist:
                self._runs.metadata.create_all(self._engine)
                self._tables_exist = True
        return self._engine.begin()

    def _create_engine(self, url: Any) -> Any:
        """Return an engine without a pool, so that threads and forked processes share nothing."""
        try:
            return self._sql.create_engine(url, poolclass=self._sql.pool.NullPool)
        except (self._sql.exc.ArgumentError, ValueError, ImportError) as error:
            if isinstance(error, ImportError):
                raise ArkorUsageError(f"DatabaseLogger: {error}") from None
            raise ArkorUsageError(
                "url: got a text that is no database URL (it may hold a password, so it is not "
                "shown here); give one of SQLAlchemy, such as sqlite:///arkor.db"
            ) from None


def _storable(text: str) -> str:
    """Replace characters that JSON can hold and a database cannot."""
    return text.replace("\0", " ").encode(errors="replace").decode()
