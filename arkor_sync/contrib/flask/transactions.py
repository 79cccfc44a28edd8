"""What an event's callbacks run in: a context of the application, and one transaction. Any thread.

A context of the application of its own has a `db.session` of its own: what a view has written and
not committed, or rolled back, is not in it.

Where the store is in the database of Flask-SQLAlchemy, that session is a part of the transaction
which saves the position. A callback's `commit()` ends a savepoint there. All is committed at the
end, with the position, or not at all; also what the callback has not committed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator

from arkor_sync.stores.leased import LeasedStore

if TYPE_CHECKING:
    from flask import Flask


@contextmanager
def around_event(app: Flask, store: LeasedStore, joins: bool) -> Iterator[None]:
    """Enter a context of the application, and the transaction of an event.

    Args:
        app: The application.
        store: The store.
        joins: Whether the store is an `SQLCursorStore` in the database of Flask-SQLAlchemy.
    """
    with app.app_context():
        if not joins:
            yield
            return
        database: Any = app.extensions["sqlalchemy"]
        untyped: Any = store
        with untyped.transaction() as connection:
            _begin(connection)
            session = database.session.session_factory(join_transaction_mode="create_savepoint")
            _bind(session, database.engine, connection)
            database.session.registry.set(session)
            try:
                yield
                session.commit()
            finally:
                database.session.remove()


def _begin(connection: Any) -> None:
    """Begin the transaction in SQLite: its driver would do so only when something is written.

    A savepoint before that would be the transaction, and its end would commit.
    """
    if connection.dialect.name == "sqlite":
        driver = connection.connection.dbapi_connection
        if not driver.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _bind(session: Any, engine: Any, connection: Any) -> None:
    """Have the session use this connection for whatever would go to this engine."""
    find = session.get_bind

    def get_bind(*args: Any, **more: Any) -> Any:
        found = find(*args, **more)
        return connection if found is engine else found

    session.get_bind = get_bind
