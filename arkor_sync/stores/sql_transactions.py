"""Transactions of a store's own in PostgreSQL or SQLite, and those of the program. Any thread.

On PostgreSQL the timeouts of a transaction are set for it alone, and nothing is kept in the
session, so PgBouncer may give each transaction another one.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, TypeVar

from arkor_sync._common.clock import Clock
from arkor_sync._common.extras import import_extra
from arkor_sync.errors import CursorStoreError, StoreUnavailableError
from arkor_sync.stores.sql_engine import LOCK_SECONDS, STATEMENT_SECONDS
from arkor_sync.stores.sql_errors import store_error
from arkor_sync.stores.sql_tables import Tables

T = TypeVar("T")

_CREATING = 6_265_830_117  # of the lock while tables are made: any number that nobody else uses
_PATIENCE = 60.0  # seconds that one waits for others that make the tables
_inherited: List[Any] = []  # kept alive: what a child collects it might close


class Transactions:
    """Executes statements in which `{leases}` is the name of a table, and `{now}` the time.

    Args:
        engine: Connects to the database.
        schema: That of the tables; None for the default one.
        ttl: Seconds after which a transaction that has saved is cut off if it stands still.
        owns_engine: Whether `close` closes the connections of the engine.

    Attributes:
        is_postgresql: Whether the database is PostgreSQL, or else SQLite.
        how_to_create: What an error about missing tables says is to be done.
    """

    def __init__(self, engine: Any, schema: Optional[str], ttl: float, owns_engine: bool) -> None:
        self._sql: Any = import_extra("sqlalchemy", "database", "SQLCursorStore")
        self._engine = engine
        self._owns_engine = owns_engine
        self._ttl = ttl
        self.is_postgresql = engine.dialect.name == "postgresql"
        self.how_to_create = "call store.create_tables(), or run: arkor-sync store create"
        isolation = {"isolation_level": "READ COMMITTED"} if self.is_postgresql else {}
        self._reading = engine.execution_options(arkor_reads=True, **isolation)
        self._writing = engine.execution_options(arkor_reads=False, **isolation)
        self._tables = Tables(self._sql, schema)
        self._names = {
            name: engine.dialect.identifier_preparer.format_table(getattr(self._tables, name))
            for name in ("leases", "positions", "members", "submissions")
        }
        self._names["now"] = (
            "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
            if self.is_postgresql
            else "((julianday('now') - 2440587.5) * 86400.0)"
        )
        self._names["skip"] = "FOR UPDATE SKIP LOCKED" if self.is_postgresql else ""
        self._texts: Dict[str, Any] = {}
        self._checked = False
        self._local = threading.local()

    @property
    def joined(self) -> bool:
        """Whether the calling thread is in a transaction that its saves belong to."""
        return self.current is not None

    @property
    def current(self) -> Any:
        """The connection of the program's transaction that the calling thread is in, or None."""
        stack = getattr(self._local, "stack", None)
        return stack[-1] if stack else None

    @contextmanager
    def joining(self, connection: Any) -> Iterator[None]:
        """Join the saves of this thread to the transaction of a connection."""
        before = getattr(self._local, "stack", ())
        self._local.stack = (*before, connection)
        try:
            yield
        finally:
            self._local.stack = before

    def run(self, function: Callable[[Any], T], reads: bool = False) -> T:
        """Call a function with a connection, in a transaction of its own.

        Raises:
            CursorStoreError: It could not be committed; see `store_error`.
        """
        try:
            engine = self._reading if reads else self._writing
            if not self._checked:
                with engine.begin() as connection:
                    self._tables.check(connection, self.how_to_create)
                self._checked = True
            with engine.begin() as connection:
                self._limit(
                    connection,
                    statement_timeout=STATEMENT_SECONDS,
                    lock_timeout=LOCK_SECONDS,
                    idle_in_transaction_session_timeout=STATEMENT_SECONDS,
                )
                return function(connection)
        except (self._sql.exc.SQLAlchemyError, UnicodeError) as error:
            raised = store_error(error, self.how_to_create)
        raise raised  # here, so that the frames of the driver, with its password, are not kept

    def run_joined(self, function: Callable[[Any], T]) -> T:
        """Call a function with the connection of the program's transaction, or in a new one."""
        if self.current is None:
            return self.run(function)
        try:
            return function(self.current)
        except (self._sql.exc.SQLAlchemyError, UnicodeError) as error:
            raised = store_error(error, self.how_to_create)
        raise raised

    def begin(self) -> Any:
        """Return a connection of the engine that a transaction was begun on.

        Raises:
            CursorStoreError: There is none; see `store_error`.
        """
        connection = None
        try:
            connection = self._engine.connect()
            if getattr(connection.connection.dbapi_connection, "autocommit", None) is True:
                raise CursorStoreError(
                    "the engine of the store commits each statement (isolation level AUTOCOMMIT); "
                    "give one that has transactions"
                )
            connection.begin()
            return connection
        except self._sql.exc.SQLAlchemyError as error:
            raised = store_error(error, self.how_to_create)
        except CursorStoreError as error:
            raised = error
        if connection is not None:
            close(connection)
        raise raised

    def limit_joined(self) -> None:
        """Have the server undo the program's transaction if this process is frozen in it.

        It is about to lock a row that whoever takes the job over has to wait for.
        """
        if self.current is not None:
            self._limit(
                self.current,
                lock_timeout=LOCK_SECONDS,
                idle_in_transaction_session_timeout=self._ttl,
            )

    def _limit(self, connection: Any, **seconds: float) -> None:
        """Set timeouts for what is left of a transaction."""
        if self.is_postgresql:
            settings = ", ".join(f"set_config('{name}', :{name}, true)" for name in seconds)
            values = {name: f"{each * 1000:.0f}" for name, each in seconds.items()}
            self.do(connection, f"SELECT {settings}", **values)

    def do(self, connection: Any, statement: str, **values: Any) -> Any:
        """Execute a statement; return what came of it."""
        return connection.execute(self.text(statement), values)

    def text(self, statement: str) -> Any:
        """Return a statement of SQLAlchemy, with the names of the tables."""
        text = self._texts.get(statement)
        if text is None:
            text = self._sql.text(statement.format(**self._names))
            if ":some" in statement:
                text = text.bindparams(self._sql.bindparam("some", expanding=True))
            self._texts[statement] = text
        return text

    def create_tables(self) -> None:
        """Make the tables that are missing, and add the columns that are. One process at a time."""

        def create(connection: Any) -> None:
            if self.is_postgresql:
                self._limit(connection, statement_timeout=_PATIENCE, lock_timeout=_PATIENCE)
                self.do(connection, "SELECT pg_advisory_xact_lock(:lock)", lock=_CREATING)
                self._limit(connection, lock_timeout=LOCK_SECONDS)  # others wait for the tables
            self._tables.create(connection)

        checked, self._checked = self._checked, True
        deadline = Clock.now() + _PATIENCE
        try:
            while True:
                try:
                    return self.run(create)
                except StoreUnavailableError:
                    if self.is_postgresql or Clock.now() >= deadline:
                        raise  # SQLite has no lock that keeps the order of those who wait
        except BaseException:
            self._checked = checked
            raise

    def after_fork(self) -> None:
        """Leave the parent's connections and transactions alone, in a forked child."""
        _inherited.append((self._engine.pool, self._local))
        self._local = threading.local()
        self._engine.dispose(close=False)

    def close(self) -> None:
        """Close the connections that are not in use. A later call makes new ones."""
        if self._owns_engine:
            self._engine.dispose()


def close(connection: Any) -> None:
    """Undo what was not committed. A connection that is broken is thrown away."""
    try:
        connection.close()
    except Exception:  # the server is gone, which whoever uses it next is told
        connection.invalidate()
