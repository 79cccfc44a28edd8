"""The tests of many processes: they are skipped where the database's library is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest

from support.extras import ModuleOfAnExtra
from support.postgres import Postgres

# Quick, and yet no commit is lost when the server is killed: the system has what was written.
SETTINGS = {"fsync": "off", "full_page_writes": "off"}


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> ModuleOfAnExtra:
    return ModuleOfAnExtra.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """Start a PostgreSQL that tests may restart; tests are skipped where there is none."""
    with Postgres(SETTINGS) as server:
        yield server


@pytest.fixture
def database(postgres_server: Postgres) -> Iterator[Any]:
    """Make an empty database there."""
    from fleet_database import OnPostgres

    with OnPostgres(postgres_server) as database:
        yield database
