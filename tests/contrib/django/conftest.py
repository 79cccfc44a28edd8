"""Configures Django for these tests: SQLite as the default database, and PostgreSQL beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from support.extras import need

need("django")

from django.conf import settings  # noqa: E402

POSTGRES = "postgres"  # the alias

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
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "not made yet"},
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

from arkor_sync.contrib.django.models import Lease, Member, Position, Run  # noqa: E402
from arkor_sync.contrib.django.testing import using_arkor  # noqa: E402
from arkor_sync.emulator import Emulator  # noqa: E402
from support.postgres import name_of, postgres  # noqa: E402

_made: Dict[str, str] = {}


def make_database(alias: str, folder: Path) -> None:
    """Make the tables, once in this process."""
    if alias in _made:
        return
    configured: Dict[str, Any] = connections.settings[alias]
    if alias == POSTGRES:
        server = postgres()
        configured.update(NAME=name_of(server.new_database()), HOST=server.host, USER="postgres")
    else:
        configured.update(NAME=str(folder / "site.sqlite3"))
    connections[alias].settings_dict.update(configured)
    call_command("migrate", database=alias, verbosity=0)
    connections[alias].close()
    _made[alias] = configured["NAME"]


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the alias of an empty database that has the tables; by default that of SQLite."""
    alias = getattr(request, "param", "default")
    if alias not in _made:
        make_database(alias, tmp_path_factory.mktemp("site"))
    make_database("default", tmp_path_factory.mktemp("site"))
    with override_settings(ARKOR={"DATABASE": alias}):
        yield alias
    for model in (LogEntry, User, Run, Lease, Position, Member):
        model.objects.using(alias).all().delete()
    connections.close_all()
