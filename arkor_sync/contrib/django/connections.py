"""Connections: a bounded number of them for callbacks, and two of the store's own. Any thread.

Django keeps a connection for each thread, and never closes that of a thread which is not part of a
request. With one thread a followed job that is one connection a job. So a worker thread has one
only while it is inside of a slot; all else that the store asks goes over two connections that the
threads use one after the other.
"""

from __future__ import annotations

import copy
import threading
from contextlib import contextmanager, suppress
from typing import Any, Iterator, List, Optional

from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.models import FloatField, Func

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import SLICE, Flag, ProcessLock
from arkor_sync._common.process import register_hooks
from arkor_sync._common.threads import OwnThread

IDLE = 5.0  # seconds after which a connection of the store's own is closed

# What such a connection waits for, in a transaction: another one's lock, and the answer.
_LIMITS = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s'"
_NETWORK = {"connect_timeout": 5, "tcp_user_timeout": 10_000}  # seconds, milliseconds


class ServerTime(Func):
    """Seconds since 1970 on the clock of the database's server; on SQLite, of this machine."""

    template = "(EXTRACT(EPOCH FROM clock_timestamp())::double precision)"
    output_field = FloatField()

    def as_sqlite(self, compiler: Any, connection: Any, **more: Any) -> Any:
        """Return the expression for SQLite."""
        template = "((julianday('now') - 2440587.5) * 86400.0)"
        return self.as_sql(compiler, connection, template=template, **more)


class Slots:
    """`around` of a followed job: a transaction, in one of a few slots. Any thread may enter it.

    It waits for a slot. At the end the connections of the thread are closed, or given back to
    Django's pool. So the next attempt gets a new one if this one was broken.

    Args:
        alias: The database.
        slots: How many threads may be inside at once.
    """

    def __init__(self, alias: str, slots: int) -> None:
        self.alias = alias
        self._slots = slots
        self.after_fork()
        register_hooks(self)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Enter a slot and a transaction."""
        with self.connection(), transaction.atomic(using=self.alias):
            yield

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Enter a slot, without a transaction."""
        free = self._free
        while not free.acquire(timeout=SLICE):
            pass
        try:
            connection = connections[self.alias]
            write_at_once(connection)
            yield
        finally:
            with suppress(DatabaseError, InterfaceError):
                connections.close_all()
            free.release()

    def after_fork(self) -> None:
        """Have all slots free in a forked child: the threads that are inside are the parent's."""
        self._free = threading.BoundedSemaphore(self._slots)

    def at_exit(self, timeout: float) -> None:
        """Do nothing. The exit hook calls it on every registered object."""


class OwnConnection:
    """A connection of the store's own, for one thread at a time. It is closed when it is idle.

    Args:
        alias: The database that it is to.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._lock = ProcessLock()
        self._connection: Any = None
        self._begin()

    def _begin(self) -> None:
        self._closer: Optional[OwnThread] = None
        self._wake = Flag()
        self._used = 0.0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Enter a transaction on it. The models that this thread uses inside use it as well."""
        with self._lock():
            if self._connection is None:
                self._connection = _new_connection(self._alias)
            own, others = self._connection, current_connection(self._alias)
            connections[self._alias] = own
            try:
                with transaction.atomic(using=self._alias):
                    if own.vendor == "postgresql":
                        with own.cursor() as cursor:
                            cursor.execute(_LIMITS)
                    yield
            except (OperationalError, InterfaceError):
                self._close()
                raise
            finally:
                if others is None:
                    del connections[self._alias]
                else:
                    connections[self._alias] = others
                self._used = Clock.now()
                self._close_later()

    def close(self) -> None:
        """Close it; the next transaction opens it again."""
        with self._lock():
            self._close()
        self._wake.set()

    def after_fork(self) -> None:
        """Leave it to the parent, in a forked child."""
        if self._connection is not None:
            _inherited.append(self._connection)
        self._connection = None
        self._begin()

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(DatabaseError, InterfaceError):
                self._connection.close()
            self._connection = None

    def _close_later(self) -> None:
        if self._closer is not None or self._connection is None:
            return
        closer = OwnThread(self._close_when_idle, "arkor-database")
        try:
            closer.start()
        except (RuntimeError, MemoryError):
            self._close()  # there is no thread that could
        else:
            self._closer = closer

    def _close_when_idle(self) -> None:
        while True:
            self._wake.wait(IDLE)
            with self._lock():
                if self._connection is None or Clock.now() >= self._used + IDLE:
                    self._close()
                    self._closer = None
                    self._wake.clear()
                    return


_inherited: List[Any] = []  # kept alive: a connection that is collected would end the parent's


def current_connection(alias: str) -> Any:
    """Return this thread's connection to a database; None if it has none. None is made."""
    found = (each for each in connections.all(initialized_only=True) if each.alias == alias)
    return next(found, None)


def write_at_once(connection: Any) -> None:
    """Have transactions of SQLite wait for the lock for writing when they begin.

    One that reads first and writes later fails with "database is locked", without waiting, if
    another one has written in between.
    """
    if connection.vendor == "sqlite":
        connection._start_transaction_under_autocommit = lambda: connection.cursor().execute(
            "BEGIN IMMEDIATE"
        )


def _new_connection(alias: str) -> Any:
    connection = connections.create_connection(alias)
    connection.inc_thread_sharing()
    own = connection.settings_dict = copy.deepcopy(connection.settings_dict)
    if connection.vendor == "postgresql":
        options = {**_NETWORK, **own["OPTIONS"]}
        for name in ("pool", "isolation_level"):
            options.pop(name, None)
        own["OPTIONS"] = options
    write_at_once(connection)
    return connection
