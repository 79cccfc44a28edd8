"""System checks of the app: settings that cannot work, or not well. Runs on the caller's thread."""

from __future__ import annotations

from typing import Any, List, Optional

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import connections

from arkor_sync.cloud.credentials import DEFAULT_BASE_URL, resolve_base_url
from arkor_sync.cloud.project import project_of_environment, read_project_state
from arkor_sync.contrib.django.conf import ArkorSettings, arkor_settings
from arkor_sync.errors import ArkorError

_POOL = 4  # connections in a pool of psycopg, if nothing is said


@register()
def check_arkor(**_: Any) -> List[CheckMessage]:
    """Check the setting `ARKOR` and the database that it names."""
    try:
        configured = arkor_settings()
    except ArkorError as error:
        return [Error(str(error), id="arkor.E001")]
    found: List[Optional[CheckMessage]] = [
        *_paths(configured),
        _database(configured),
        _project(configured),
        _production(configured),
    ]
    return [each for each in found if each is not None]


def _paths(configured: ArkorSettings) -> List[Optional[CheckMessage]]:
    found: List[Optional[CheckMessage]] = []
    if configured.callbacks is not None:
        try:
            configured.callbacks_function()
        except ArkorError as error:
            found.append(Error(str(error), id="arkor.E002"))
    try:
        configured.policy()
    except ArkorError as error:
        found.append(Error(str(error), id="arkor.E003"))
    return found


def _database(configured: ArkorSettings) -> Optional[CheckMessage]:
    connection = connections[configured.database]
    alias = repr(configured.database)
    if connection.vendor not in ("postgresql", "sqlite"):
        return Error(
            f"the database {alias} is {connection.vendor}: the leases of runs need PostgreSQL, or "
            "SQLite on one host",
            hint="Name a database of its own in ARKOR['DATABASE'].",
            id="arkor.E004",
        )
    if connection.vendor == "sqlite":
        if settings.DEBUG:
            return None
        return Warning(
            f"the database {alias} is SQLite: it serves the processes of one host, and writes of "
            "several followers wait for each other",
            hint="Use PostgreSQL; or run one arkor_follow, with callbacks that take a second or "
            "less, and give the database the OPTIONS {'transaction_mode': 'IMMEDIATE'}, from "
            "Django 5.1 on.",
            id="arkor.W002",
        )
    pool = connection.settings_dict["OPTIONS"].get("pool")
    if not pool:
        return None
    options = pool if isinstance(pool, dict) else {}
    size = options.get("max_size") or options.get("min_size", _POOL)
    if size >= configured.slots:
        return None
    return Warning(
        f"the pool of the database {alias} has {size} connections, and ARKOR['SLOTS'] is "
        f"{configured.slots}: callbacks would wait for a connection",
        hint=f"Set SLOTS to {size} or less, or the pool's max_size to {configured.slots} or more.",
        id="arkor.W003",
    )


def _project(configured: ArkorSettings) -> Optional[CheckMessage]:
    try:
        known = configured.project or project_of_environment() or read_project_state()
    except ArkorError as error:
        return Error(str(error), id="arkor.E005")
    if known:
        return None
    return Warning(
        "no project is named: each host would make one of its own",
        hint="Set ARKOR['PROJECT'] to 'organisation/project', or the variables ARKOR_ORG and "
        "ARKOR_PROJECT.",
        id="arkor.W001",
    )


def _production(configured: ArkorSettings) -> Optional[CheckMessage]:
    url = configured.base_url or resolve_base_url()
    if not settings.DEBUG or url.rstrip("/") != DEFAULT_BASE_URL:
        return None
    return Warning(
        f"DEBUG is on, and jobs go to {DEFAULT_BASE_URL}, where they cost money",
        hint="Start a local Arkor (`arkor-sync emulator`), and give its URL in "
        "ARKOR['BASE_URL'] or ARKOR_CLOUD_API_URL.",
        id="arkor.W004",
    )
