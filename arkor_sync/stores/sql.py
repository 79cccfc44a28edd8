"""`SQLCursorStore`: a cursor store in PostgreSQL, or in SQLite on one host. Any thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any, ContextManager, Iterator, Optional

from arkor_sync._common.arguments import check, show
from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import Flag
from arkor_sync.errors import ArkorUsageError, StoreUnavailableError
from arkor_sync.stores.leased import RETRY, LeasedStore
from arkor_sync.stores.sql_backend import SQLBackend
from arkor_sync.stores.sql_engine import STATEMENT_SECONDS, engine_from
from arkor_sync.stores.sql_errors import is_transient, store_error
from arkor_sync.stores.sql_transactions import Joined


class SQLCursorStore(LeasedStore):
    """Keeps positions and leases in tables of PostgreSQL, which several machines may share.

    With SQLite, the file serves the processes of one host, and that host's clock is the store's. It
    needs the extra `database`, and psycopg 3 for PostgreSQL. `create_tables` makes the tables.

    Args:
        engine_or_url: A URL of SQLAlchemy, such as `postgresql://user:password@host/database` or
            `sqlite:////path/to/file.db`; or an `Engine`, whose pool remains the program's.
        ttl: Seconds that a lease lasts without a renewal. So long after a machine has died another
            one may follow its jobs. From 1 to 3600.
        max_connections: The most connections that this process opens for the store, from 2. One is
            kept free of the transactions of callbacks, for the leases. Of an engine that was given,
            its pool has to have so many.
        schema: The schema of the tables, on PostgreSQL; None for the default one.

    Raises:
        ArkorUsageError: An argument cannot work, or SQLAlchemy is not installed.
    """

    def __init__(
        self,
        engine_or_url: Any,
        *,
        ttl: float = 15.0,
        max_connections: int = 4,
        schema: Optional[str] = None,
    ) -> None:
        fits = type(max_connections) is int and 2 <= max_connections <= 1000
        check("max_connections", max_connections, fits, "a whole number from 2 to 1000")
        check("schema", schema, schema is None or (type(schema) is str and schema != ""), "a name")
        self._engine = engine = engine_from(engine_or_url, max_connections)
        owns_engine = engine is not engine_or_url
        del engine_or_url  # it may hold a password, and an error may show this frame
        on_postgresql = engine.dialect.name == "postgresql"
        check("schema", schema, schema is None or on_postgresql, "None: SQLite has no schemas")
        self._slots_for = max_connections - 1
        super().__init__(SQLBackend(engine, schema, ttl, owns_engine), ttl)

    def _begin(self) -> None:
        super()._begin()
        self._slots = threading.BoundedSemaphore(self._slots_for)

    @property
    def _tables(self) -> SQLBackend:
        assert isinstance(self.backend, SQLBackend)
        return self.backend

    def create_tables(self) -> None:
        """Make the tables that are missing, and add what an older version had not.

        Any number of processes may do it at a time.

        Raises:
            CursorStoreError: There are tables of a newer version. They are not changed.
        """
        self._tables.create_tables()

    def transaction(self) -> ContextManager[Any]:
        """Begin a transaction for the callbacks of an event and its position: `around=`.

        It yields the SQLAlchemy `Connection`, which callbacks get from `connection`. What they
        write with it is committed together with the position, or not at all.
        """
        return self._transaction()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        joined = self._tables.current
        if joined is not None:
            yield joined.connection
            return
        if not self._slots.acquire(timeout=STATEMENT_SECONDS):
            raise StoreUnavailableError(
                f"callbacks use all {self._slots_for} connections that the store has for "
                "transactions (max_connections, and one less)"
            )
        try:
            connection = self._connect()
            try:
                with self._tables.joining(connection) as joined:
                    yield connection
                self._commit(joined)
            except BaseException as error:
                _end(connection)
                if not isinstance(error, StoreUnavailableError) and is_transient(error):
                    raise store_error(error) from error
                raise
            connection.close()
        finally:
            self._slots.release()

    def _connect(self) -> Any:
        from sqlalchemy.exc import SQLAlchemyError

        connection = None
        try:
            connection = self._engine.connect()
            connection.begin()
            return connection
        except SQLAlchemyError as error:
            raised = store_error(error)
        if connection is not None:
            _end(connection)
        raise raised  # here, so that the frames of the driver, with its password, are not kept

    def _commit(self, joined: Joined) -> None:
        """Commit. Where the answer is lost, look up what became of it.

        A callback's effects must be there once: they are not repeated unless it is known that they
        were undone.
        """
        try:
            joined.connection.commit()
            return
        except Exception as error:
            if not joined.saves or not is_transient(error):
                raise
            raised = store_error(error)
        _end(joined.connection)
        deadline = Clock.now() + self.ttl
        while True:
            try:
                if self._tables.was_saved(joined.saves[-1]):
                    return
                break
            except StoreUnavailableError:
                if Clock.now() >= deadline:
                    break
            Flag().wait(RETRY)
        raise raised

    def connection(self) -> Any:
        """Return the connection of the transaction that this callback is in.

        Raises:
            ArkorUsageError: The thread is in no transaction of this store.
        """
        joined = self._tables.current
        if joined is None:
            raise ArkorUsageError(
                "connection: this thread is in no transaction of the store; follow with "
                "around=store.transaction, and call it in a callback, on the callback's own thread"
            )
        return joined.connection

    @contextmanager
    def joining(self, connection: Any) -> Iterator[None]:
        """Join the positions that this thread saves to a transaction of the program's own.

        Such as that of a `Session`: `with Session(engine) as session, session.begin(),
        store.joining(session.connection()): yield session`.
        """
        begun = callable(getattr(connection, "in_transaction", None))
        begun = begun and hasattr(connection, "exec_driver_sql") and connection.in_transaction()
        if not begun:
            raise ArkorUsageError(
                f"connection: got {show(connection)} that is in no transaction; give a Connection "
                "of SQLAlchemy that is in one, such as session.connection()"
            )
        with self._tables.joining(connection):
            yield


def _end(connection: Any) -> None:
    """Undo what was not committed. A connection that is broken is thrown away."""
    try:
        connection.close()
    except Exception:  # of a server that is gone: what comes after this says so
        connection.invalidate()
