"""The settings `ARKOR_*` of an application, checked, and what is made of them. Any thread."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Optional

from arkor_sync._common.arguments import check, check_keys, refusal
from arkor_sync._common.secret import Secret
from arkor_sync.callbacks import CallbacksInput
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.project import ProjectState
from arkor_sync.errors import ArkorUsageError
from arkor_sync.follower import CallbacksOfJob
from arkor_sync.stores.leased import LEAST_TTL, MOST_TTL, LeasedStore

if TYPE_CHECKING:
    from flask import Flask

NAMES = (
    "ARKOR_BASE_URL",
    "ARKOR_TOKEN",
    "ARKOR_PROJECT",
    "ARKOR_STORE",
    "ARKOR_CALLBACKS",
    "ARKOR_TTL",
)
# A program may copy the whole environment into its settings.
_OF_THE_ENVIRONMENT = ("ARKOR_CLOUD_API_URL", "ARKOR_ORG", "ARKOR_PROJECT_ID")

_REDIS = ("redis", "rediss", "unix")
_STORE_WANTED = (
    "a URL (postgresql://..., sqlite:////path, redis://...), a store object, or nothing if "
    "Flask-SQLAlchemy's database is to keep it"
)


class Settings:
    """What the settings of one application say.

    Attributes:
        client: Asks the cloud.
        callbacks: What to call, or a function of a job's id that returns it.
        ttl: Seconds that a lease lasts.
        store: The store; None for that of Flask-SQLAlchemy's database.
    """

    def __init__(self, app: Flask) -> None:
        given = {
            name: value
            for name, value in app.config.items()
            if name.startswith("ARKOR_") and name not in _OF_THE_ENVIRONMENT
        }
        check_keys("app.config", given, NAMES, closed=False)
        get = given.get
        self.client = _client(get("ARKOR_BASE_URL"), get("ARKOR_TOKEN"), get("ARKOR_PROJECT"))
        self.callbacks: CallbacksOfJob = _named("ARKOR_CALLBACKS", get("ARKOR_CALLBACKS"))
        ttl = get("ARKOR_TTL", 15.0)
        fits = type(ttl) in (int, float) and LEAST_TTL <= ttl <= MOST_TTL
        check("ARKOR_TTL", ttl, fits, f"seconds from {LEAST_TTL:g} to {MOST_TTL:g}")
        self.ttl = float(ttl)
        self.store = make_store(get("ARKOR_STORE"), self.ttl)


def _client(base_url: Any, token: Any, project: Any) -> CloudApiClient:
    for name, value in (("ARKOR_BASE_URL", base_url), ("ARKOR_PROJECT", project)):
        fits = value is None or (isinstance(value, str) and value.strip() != "")
        check(name, value, fits, "a text, or leave it out")
    credentials = scope = None
    if token is not None:
        if not isinstance(token, str) or not token.strip():
            raise refusal("ARKOR_TOKEN", token, "a text, or leave it out", secret=True)
        credentials = TokenCredentials(Secret(token.strip()), base_url)
    if project is not None:
        parts = [part.strip() for part in project.split("/")]
        check("ARKOR_PROJECT", project, len(parts) == 2 and all(parts), "'organisation/project'")
        scope = ProjectState(*parts)
    return CloudApiClient(base_url, credentials, scope=scope)


def make_store(given: Any, ttl: float) -> Optional[LeasedStore]:
    """Return the store that is given, or that of a URL; None for none.

    Raises:
        ArkorUsageError: It is neither. The message does not show a URL, which may hold a password.
    """
    if given is None or isinstance(given, LeasedStore):
        return given
    if not isinstance(given, str):
        raise refusal("ARKOR_STORE", given, _STORE_WANTED, secret=True)
    given = Secret(given)
    # Imported here: each needs a library of its own.
    if given.partition("://")[0] in _REDIS:
        from arkor_sync.stores.redis import RedisCursorStore

        return RedisCursorStore(given, ttl=ttl)
    from arkor_sync.stores.sql import SQLCursorStore

    return SQLCursorStore(given, ttl=ttl)


def _named(name: str, given: Any) -> Any:
    """Return the object of `module:name`, or what is given if it is no text."""
    if not isinstance(given, str):
        return given
    module, _, attribute = given.partition(":")
    check(name, given, bool(module and attribute), "'module:name', or the object itself")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ArkorUsageError(f"{name}: {given!r} cannot be imported: {error}") from error


def callbacks_of(given: CallbacksOfJob, job_id: str) -> CallbacksInput:
    """Return the callbacks of a job."""
    from arkor_sync.callbacks import Callback, Callbacks

    if callable(given) and not isinstance(given, (Callback, Callbacks)):
        found: CallbacksInput = given(job_id)
        return found
    return given
