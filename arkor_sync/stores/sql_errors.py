"""What an error of SQLAlchemy means to a store, told without the connection's secrets. Pure."""

from __future__ import annotations

from typing import Any

from arkor_sync._common.secret import redact
from arkor_sync.errors import CursorStoreError, StoreUnavailableError, text_of

# The beginnings of the SQLSTATEs after which the same may work: no connection, rolled back because
# of another transaction, no resources, cancelled or shut down, a failure outside of the server; a
# lock that was not got in time, a server that may only read (it is taking over), and a transaction
# that was idle for too long.
_TRANSIENT = ("08", "40", "53", "57", "58", "55P03", "25006", "25P03", "25P04")
_NO_TABLE = ("42P01", "42703", "3F000")
_NO_TABLE_IN_SQLITE = ("no such table", "no such column", "has no column")


def is_transient(error: BaseException) -> bool:
    """Whether an error says that the server cannot be reached now, or has refused for a moment."""
    if isinstance(error, StoreUnavailableError):
        return True
    original = getattr(error, "orig", None)
    if original is None:
        return _is_pool_timeout(error)
    if getattr(error, "connection_invalidated", False):
        return True
    names = {each.__name__ for each in type(original).__mro__}
    if not names & {"OperationalError", "InterfaceError"}:
        return _state(original).startswith(_TRANSIENT)
    if type(original).__module__.startswith(("sqlite3", "pysqlite")):
        text = text_of(original)
        return "locked" in text or "busy" in text
    return not _state(original) or _state(original).startswith(_TRANSIENT)


def store_error(error: BaseException, how_to_create: str) -> CursorStoreError:
    """Build the error that a store raises for one of SQLAlchemy.

    Args:
        error: That one.
        how_to_create: What to do where tables are missing.
    """
    original = getattr(error, "orig", None)
    if original is None and _is_pool_timeout(error):
        return StoreUnavailableError("all connections of the store are in use")
    original = original or error
    text = redact((text_of(original).strip() or "no message").splitlines()[0])
    told = f"{type(original).__name__}: {text}"
    if is_transient(error):
        return StoreUnavailableError(f"the database of the store cannot be used now: {told}")
    if _state(original) in _NO_TABLE or any(each in text for each in _NO_TABLE_IN_SQLITE):
        told += f"; {how_to_create}"
    return CursorStoreError(f"the database of the store has refused: {told}")


def _state(original: Any) -> str:
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or ""


def _is_pool_timeout(error: BaseException) -> bool:
    kind = type(error)
    return kind.__name__ == "TimeoutError" and kind.__module__.startswith("sqlalchemy")
