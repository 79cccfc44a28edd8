"""Metrics in an SQL database, by SQLAlchemy. The logger's own threads talk to it."""

from __future__ import annotations

import json
import threading
from typing import Any, Dict, List

from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.safety import load
from arkor_sync.handlers.loggers.base import MetricsLogger, Row


class DatabaseLogger(MetricsLogger):
    """Writes runs and their metrics to two tables, which are made on demand.

    `arkor_runs` has `job_id`, `name`, `status` (`running`, or what `MetricsLogger.finalize` is
    told), `params` (JSON), `created_at`, `started_at`, `completed_at` and `error`; `arkor_metrics`
    has `job_id`, `step`, `name`, `value` and `timestamp`, one row for each metric of a step. Times
    are texts, as the cloud sends them.

    It runs as `MetricsLogger` says; what waits goes into one transaction, on a connection that is
    opened for it. What a table has already is not written again: the first three columns of
    `arkor_metrics` are its key. It needs the extra `database`, and the driver of the database.

    Args:
        url: SQLAlchemy's, such as `postgresql+psycopg://user:password@host/database`, or an
            `Engine`. The password never reaches a log.
        flush_timeout: Seconds that the end of a run waits for the database.

    Raises:
        ArkorUsageError: SQLAlchemy or the driver is not installed, or the URL is none.
    """

    def __init__(self, url: Any = "sqlite:///arkor.db", *, flush_timeout: float = 10.0) -> None:
        super().__init__(flush_timeout=flush_timeout)
        self._sql = sql = load("sqlalchemy", "database", "DatabaseLogger")
        self._engine = url if isinstance(url, sql.engine.Engine) else self._connectable(url)
        if self._engine.url.password:
            self._secrets.append(str(self._engine.url.password))
        self._made = False
        self._making = threading.Lock()
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

    def _log_rows(self, rows: List[Row]) -> None:
        table, job_id = self._metrics, self.job.id
        new = {
            (row.step, name): (value, row.timestamp)
            for row in reversed(rows)  # of two that are the same the first counts
            for name, value in row.metrics.items()
        }
        steps = [row.step for row in rows]
        there = self._sql.select(table.c.step, table.c.name).where(
            table.c.job_id == job_id, table.c.step.between(min(steps), max(steps))
        )
        with self._begin() as connection:
            for mark in map(tuple, connection.execute(there)):
                new.pop(mark, None)
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
        """Begin a transaction; make the tables before the first."""
        with self._making:
            if not self._made:
                self._runs.metadata.create_all(self._engine)
                self._made = True
        return self._engine.begin()

    def _connectable(self, url: Any) -> Any:
        """Return an engine without a pool: nothing is shared by threads, or by forked processes."""
        try:
            return self._sql.create_engine(url, poolclass=self._sql.pool.NullPool)
        except (self._sql.exc.ArgumentError, ValueError, ImportError) as error:
            what = str(error) if isinstance(error, ImportError) else "that is no database URL"
            raise ArkorUsageError(f"DatabaseLogger: {what}") from None


def _storable(text: str) -> str:
    """Replace what JSON can carry and a database cannot."""
    return text.replace("\0", " ").encode(errors="replace").decode()
