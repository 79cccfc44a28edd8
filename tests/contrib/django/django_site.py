"""The Django site of these tests: SQLite is its default database, and PostgreSQL is beside it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List

from django.conf import settings

DEFAULT, POSTGRES = BOTH = "default", "postgres"  # the aliases

settings.configure(
    SECRET_KEY="of-tests",
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "arkor_sync.contrib.django",
    ],
    DATABASES={
        DEFAULT: {"ENGINE": "django.db.backends.sqlite3", "NAME": "/not made yet/"},
        POSTGRES: {"ENGINE": "django.db.backends.postgresql", "NAME": "not made yet"},
    },
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ROOT_URLCONF="contrib_django_urls",
    STATIC_URL="/static/",
    ALLOWED_HOSTS=["*"],
    USE_TZ=True,
)

import django  # noqa: E402

django.setup()

from django.contrib.admin.models import LogEntry  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from arkor_sync import Action, Callbacks, ErrorPolicy, HuggingFaceDataset  # noqa: E402
from arkor_sync.contrib.django.conf import ArkorSettings, arkor_settings  # noqa: E402
from arkor_sync.contrib.django.models import Lease, Member, Position, Run  # noqa: E402
from arkor_sync.contrib.django.store import shared_store  # noqa: E402
from support.postgres import name_of, postgres  # noqa: E402

_made: Dict[str, str] = {}


def make_database(alias: str, folders: Any) -> None:
    """Make the tables, once in this process."""
    if alias in _made:
        return
    connections[alias].close()  # a check of Django may have opened the one that is not made yet
    configured: Dict[str, Any] = connections.settings[alias]
    if alias == POSTGRES:
        server = postgres()
        configured.update(NAME=name_of(server.new_database()), HOST=server.host, USER="postgres")
    else:
        configured.update(NAME=str(folders.mktemp("site") / "site.sqlite3"))
    connections[alias].settings_dict.update(configured)
    call_command("migrate", database=alias, verbosity=0)
    connections[alias].close()
    _made[alias] = configured["NAME"]


@contextmanager
def empty_site(alias: str, folders: Any) -> Iterator[None]:
    """Have the site use an empty database, that of this alias."""
    for each in {alias, DEFAULT}:
        make_database(each, folders)
    on_event.clear()
    with override_settings(ARKOR={"DATABASE": alias, "CALLBACKS": "django_site.site_callbacks"}):
        yield
        shared_store(arkor_settings()).close()
    for model in (LogEntry, User, Run, Lease, Position, Member):
        model.objects.using(alias).all().delete()
    connections.close_all()


TRAINING: Dict[str, Any] = {
    "name": "support",
    "model": "unsloth/gemma-4-E4B-it",
    "dataset": HuggingFaceDataset("emulator/sample"),
    "max_steps": 10,
}


class _Changed:
    """The settings of the site, with some changed: `arkor_with(TTL=1.0)`."""

    def __call__(self, **changed: Any) -> ArkorSettings:
        with self.used(**changed):
            return arkor_settings()

    def used(self, **changed: Any) -> Any:
        """Have the site use them, until the context ends."""
        return override_settings(ARKOR={**settings.ARKOR, **changed})


arkor_with = _Changed()


def retrying() -> ErrorPolicy:
    """Return an error policy of the site."""
    return ErrorPolicy.abort().on(ConnectionError, do=Action.RETRY, attempts=9, base=0.0)


on_event: List[Callable[[str, Any], Any]] = []  # what the callbacks of the site call


def site_callbacks(run: Run) -> Callbacks:
    """Return the callbacks of the site: they call what the test has put into `on_event`."""

    def tell(name: str) -> Callable[[Any], None]:
        def told(ctx: Any) -> None:
            for each in on_event:
                each(name, ctx)

        return told

    names = ("on_started", "on_log", "on_checkpoint", "on_completed", "on_failed", "on_cancelled")
    return Callbacks(**{name: tell(name) for name in names})
