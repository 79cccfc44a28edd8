"""Connections of our own: a bounded number, whatever the number of threads. Any thread.

Django keeps a connection for each thread, and never closes that of a thread which is not part of a
request. With one thread for each followed job that is one connection for each job. So here a thread
borrows a connection: the models that it uses meanwhile use that one.
"""

from __future__ import annotations

import copy
import threading
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, Optional, Set

from django.db import Error, connections, transaction
from django.db.models import FloatField, Func

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import SLICE, Flag, ProcessLock
from arkor_sync._common.process import register_hooks
from arkor_sync._common.threads import OwnThread, raise_if_interrupted

IDLE = 5.0  # seconds after which a connection that nobody borrows is closed

# What a transaction of the store waits for: another one's lock, and the answer.
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


class OwnConnections:
    """Up to so many connections to one database. A thread that needs one waits for it.

    One is closed after an error of the database that no rollback followed: it may be broken. Other
    errors, such as that a lease is held, leave it open.

    Args:
        alias: The database.
        most: How many there are at most.
    """

    def __init__(self, alias: str, most: int = 1) -> None:
        self.alias = alias
        self._most = most
        self._lock = ProcessLock()
        self._begin()
        register_hooks(self)

    def _begin(self) -> None:
        self._all: Set[Any] = set()
        self._idle: Dict[Any, float] = {}  # with the time from which on nobody had it
        self._free = threading.BoundedSemaphore(self._most)
        self._closer: Optional[OwnThread] = None
        self._wake = Flag()

    @contextmanager
    def borrowed(self) -> Iterator[Any]:
        """Have this thread use one of them for the database, until the context ends."""
        free = self._free
        while not free.acquire(timeout=SLICE):
            raise_if_interrupted()
        try:
            connection = self._lend()
            before = list(connections.all(initialized_only=True))
            others = current_connection(self.alias)
            connections[self.alias] = connection
            try:
                yield connection
            finally:
                if others is None:
                    del connections[self.alias]
                else:
                    connections[self.alias] = others
                for each in connections.all(initialized_only=True):
                    if each not in before:  # to another database; the program has opened it
                        _close(each)
                self._take_back(connection)
        finally:
            free.release()

    def close(self) -> None:
        """Close those that nobody has borrowed. The others are closed when they are idle."""
        with self._lock():
            self._close_idle(0.0)
        self._wake.set()

    def after_fork(self) -> None:
        """Leave them to the parent, in a forked child."""
        _inherited.append(self._all)
        self._begin()

    def at_exit(self, timeout: float) -> None:
        """Do nothing. The exit hook calls it on every registered object."""

    def _lend(self) -> Any:
        with self._lock():
            if self._idle:
                return self._idle.popitem()[0]  # the one that was used last
            connection = _new_connection(self.alias)
            self._all.add(connection)
            return connection

    def _take_back(self, connection: Any) -> None:
        with self._lock():
            if connection.errors_occurred or not self._has_closer():
                self._all.discard(connection)
                _close(connection)
            elif connection in self._all:  # else this is a forked child
                self._idle[connection] = Clock.now()

    def _has_closer(self) -> bool:
        if self._closer is None:
            closer = OwnThread(self._close_when_idle, "arkor-database")
            try:
                closer.start()
            except (RuntimeError, MemoryError):
                return False
            self._closer = closer
        return True

    def _close_when_idle(self) -> None:
        while True:
            self._wake.wait(IDLE)
            with self._lock():
                self._wake.clear()
                self._close_idle(IDLE)
                if not self._idle:
                    self._closer = None
                    return

    def _close_idle(self, idle: float) -> None:
        for connection, since in list(self._idle.items()):
            if Clock.now() >= since + idle:
                del self._idle[connection]
                self._all.discard(connection)
                _close(connection)


class Slots(OwnConnections):
    """`around` of a followed job: a transaction, on one of a few connections."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Enter a transaction; wait for a connection before."""
        with self.borrowed(), transaction.atomic(using=self.alias):
            yield


class StoreConnection(OwnConnections):
    """One connection of the store, which waits for nothing for long."""

    @contextmanager
    def transaction(self, reads: bool = False) -> Iterator[None]:
        """Enter a transaction; wait for the connection before.

        Args:
            reads: Whether it only reads. SQLite then takes no lock that a writer has to wait for.
        """
        with self.borrowed() as connection:
            if reads and connection.vendor == "sqlite":
                yield
                return
            with transaction.atomic(using=self.alias):
                if connection.vendor == "postgresql":
                    with connection.cursor() as cursor:
                        cursor.execute(_LIMITS)
                yield


_inherited: List[Any] = []  # kept alive: a connection that is collected would end the parent's


def current_connection(alias: str) -> Any:
    """Return this thread's connection to a database; None if it has none. None is made."""
    found = (each for each in connections.all(initialized_only=True) if each.alias == alias)
    return next(found, None)


def _new_connection(alias: str) -> Any:
    connection: Any = connections.create_connection(alias)
    connection.inc_thread_sharing()
    own = connection.settings_dict = copy.deepcopy(connection.settings_dict)
    if connection.vendor == "postgresql":
        own["OPTIONS"] = {**_NETWORK, **own["OPTIONS"]}
        own["OPTIONS"].pop("pool", None)  # there are few, and they keep none of the site's
    elif connection.vendor == "sqlite":
        # A transaction that reads first and writes later fails with "database is locked", without
        # waiting, if another one has written in between. So each waits for the lock at its begin.
        connection._start_transaction_under_autocommit = lambda: connection.cursor().execute(
            "BEGIN IMMEDIATE"
        )
    return connection


def _close(connection: Any) -> None:
    with suppress(Error):
        connection.close()
