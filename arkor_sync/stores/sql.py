"""`SQLCursorStore`: a cursor store in PostgreSQL, or in SQLite on one host. Any thread."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import Any, ContextManager, Iterator, Optional

from arkor_sync._common.arguments import check, show
from arkor_sync._common.locks import SLICE
from arkor_sync._common.secret import Secret
from arkor_sync._common.threads import raise_if_interrupted
from arkor_sync.errors import ArkorUsageError, StoreUnavailableError
from arkor_sync.stores.leased import LeasedStore
from arkor_sync.stores.sql_backend import SQLBackend
from arkor_sync.stores.sql_engine import engine_from
from arkor_sync.stores.sql_errors import is_transient, store_error
from arkor_sync.stores.sql_transactions import close


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
        if isinstance(engine_or_url, str):  # a report of an error may show this variable
            engine_or_url = Secret(engine_or_url)
        fits = type(max_connections) is int and 2 <= max_connections <= 1000
        check("max_connections", max_connections, fits, "a whole number from 2 to 1000")
        check("schema", schema, schema is None or (type(schema) is str and schema != ""), "a name")
        self._engine = engine = engine_from(engine_or_url, max_connections)
        owns_engine = engine is not engine_or_url
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

        Where the database has gone away or has refused for a moment, in a callback too, the context
        raises `StoreUnavailableError`, and the run tries the event again for `ttl` seconds.
        """
        return self._transaction()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        if self._tables.current is not None:
            yield self._tables.current
            return
        slots, process = self._slots, os.getpid()
        while not slots.acquire(timeout=SLICE):  # the callbacks of other runs have all
            raise_if_interrupted()
        try:
            connection = self._tables.begin()
            try:
                with self._tables.joining(connection):
                    yield connection
                if process == os.getpid():  # in a forked child it is the parent's
                    connection.commit()
            except Exception as error:
                if isinstance(error, StoreUnavailableError) or not is_transient(error):
                    raise
                raise store_error(error, self._tables.how_to_create) from error
            finally:
                if process == os.getpid():
                    close(connection)
        finally:
            slots.release()

    def connection(self) -> Any:
        """Return the connection of the transaction that this callback is in.

        Raises:
            ArkorUsageError: The thread is in no transaction of this store.
        """
        connection = self._tables.current
        if connection is None:
            raise ArkorUsageError(
                "connection: this thread is in no transaction of the store; follow with "
                "around=store.transaction, and call it in a callback, on the callback's own thread"
            )
        return connection

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
