"""The cursor store of the app, and how its runs are followed. Any thread."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

from django.db import InterfaceError, OperationalError

from arkor_sync._common.locks import ProcessLock
from arkor_sync.contrib.django.backend import DjangoBackend
from arkor_sync.contrib.django.conf import ArkorSettings, arkor_settings
from arkor_sync.errors import StoreUnavailableError
from arkor_sync.stores.leased import LeasedStore
from arkor_sync.stream.error_policy import Action, ErrorPolicy

_RETRIES = 100


class DjangoCursorStore(LeasedStore):
    """Keeps leases, positions and submissions in a database of Django: PostgreSQL or SQLite.

    SQLite serves processes of one host, and one transaction at a time: a callback must be shorter
    than a lease there.

    Args:
        database: The alias; the default is that of the setting `ARKOR`.
        ttl: Seconds that a lease lasts without a renewal; the default is that of the setting.
    """

    backend: DjangoBackend

    def __init__(self, database: Optional[str] = None, ttl: Optional[float] = None) -> None:
        configured = arkor_settings()
        backend = DjangoBackend(configured.database if database is None else database)
        super().__init__(backend, configured.ttl if ttl is None else ttl)


def policy_of(configured: ErrorPolicy) -> ErrorPolicy:
    """Return an error policy that also tries again while the database cannot be reached.

    It tries for longer than a lease lasts. After that the run ends, because its lease has, and is
    followed again when the database is back.
    """
    errors = (OperationalError, InterfaceError, StoreUnavailableError)
    return configured.on(*errors, do=Action.RETRY, attempts=_RETRIES, base=0.25, cap=5.0)


_stores: Dict[Tuple[str, float], DjangoCursorStore] = {}
_lock = ProcessLock()


def shared_store(configured: ArkorSettings) -> DjangoCursorStore:
    """Return the store that all submissions of this process share."""
    key = (configured.database, configured.ttl)
    with _lock():
        if key not in _stores:
            _stores[key] = DjangoCursorStore(*key)
        return _stores[key]
