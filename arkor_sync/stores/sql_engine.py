"""Engines of SQLAlchemy for a store: which are used, and how they connect. Any thread."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from arkor_sync._common.arguments import refusal
from arkor_sync._common.extras import import_extra
from arkor_sync.errors import ArkorUsageError

STATEMENT_SECONDS = 5.0  # that one statement, or the wait for a connection, takes at most
LOCK_SECONDS = 2.0  # that a statement waits for a row
_SUPPORTED = ("postgresql", "sqlite")
_WANTED = (
    "a URL of PostgreSQL (postgresql://user:password@host/database) or SQLite "
    "(sqlite:////path/to/file.db), or an Engine of SQLAlchemy for one of these"
)

# A server that has vanished without closing the connection is noticed within these times.
_POSTGRESQL_OPTIONS = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,
    # A prepared statement belongs to one connection of the server. PgBouncer may give each
    # transaction another one.
    "prepare_threshold": None,
}


def engine_from(given: Any, max_connections: int) -> Any:
    """Return the engine that was given, or make one for a URL.

    Raises:
        ArkorUsageError: It is neither, or of a database that the store cannot use.
    """
    sql = import_extra("sqlalchemy", "database", "SQLCursorStore")
    if isinstance(given, sql.engine.Engine):
        engine = given
        _check_url(engine.url)
        if engine.dialect.is_async:
            raise refusal("engine_or_url", given, _WANTED, got="an engine for asyncio")
        return engine
    if not isinstance(given, (str, sql.engine.URL)):
        raise refusal("engine_or_url", given, _WANTED)
    try:
        url = sql.engine.make_url(given)
        _check_url(url)
        return _create(sql, url, max_connections)
    except (sql.exc.ArgumentError, ValueError, ImportError) as error:
        if isinstance(error, ArkorUsageError):
            raise
        why = str(error) if isinstance(error, ImportError) else ""
    if why:
        raise ArkorUsageError(f"SQLCursorStore: {why}; pip install 'psycopg[binary]>=3.1'")
    got = "a text that is no database URL (it may hold a password, so it is not shown here)"
    raise refusal("engine_or_url", None, _WANTED, got=got)


def _check_url(url: Any) -> None:
    name = url.get_backend_name()
    if name not in _SUPPORTED:
        raise refusal("engine_or_url", None, _WANTED, got=f"a database of {name}")
    if name == "sqlite" and url.database in (None, "", ":memory:"):
        got = "a database in memory, which no other process can see"
        raise refusal("engine_or_url", None, _WANTED, got=got)


def _create(sql: Any, url: Any, max_connections: int) -> Any:
    options: Any = {
        "pool_size": max_connections,
        "max_overflow": 0,
        "pool_timeout": STATEMENT_SECONDS,
        "pool_use_lifo": True,
        "poolclass": sql.pool.QueuePool,
        "hide_parameters": True,  # a position holds the callbacks' state
    }
    if url.get_backend_name() == "sqlite":
        engine = sql.create_engine(url, **options)
        sql.event.listen(engine, "connect", _on_sqlite_connect)
        sql.event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.get_driver_name() != "psycopg":
        got = f"the driver {url.get_driver_name()}"
        raise refusal("engine_or_url", None, "postgresql+psycopg://..., or an Engine", got=got)
    connect = {k: v for k, v in _POSTGRESQL_OPTIONS.items() if k not in url.query}
    return sql.create_engine(url, pool_pre_ping=True, connect_args=connect, **options)


def _on_sqlite_connect(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver begins no transactions; see below
    connection.execute(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000:.0f}")
    with suppress(connection.OperationalError):  # the file is in use; the next connection does it
        connection.execute("PRAGMA journal_mode = WAL")


def _on_sqlite_begin(connection: Any) -> None:
    """Take the lock of a writer at once: a reader that becomes one may be refused it for good."""
    reads = connection.get_execution_options().get("arkor_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
