"""Fixtures of the tests with Django, which `django_site` configures once for each process."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Iterator

import pytest

if TYPE_CHECKING:
    from arkor_sync.emulator import Emulator

if find_spec("django") is None and os.environ.get("ARKOR_EXTRAS") != "all":
    collect_ignore_glob = ["test_*.py"]  # they need the extra `django`
else:
    import django_site


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the alias of an empty database that has the tables; by default that of SQLite."""
    alias = getattr(request, "param", django_site.DEFAULT)
    with django_site.empty_site(alias, tmp_path_factory):
        yield alias


@pytest.fixture
def arkor(site: str, request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """Start a local Arkor that the site uses; the parameter is its engine."""
    from arkor_sync.contrib.django import using_arkor
    from arkor_sync.emulator import Emulator, ScriptedEngine

    engine = getattr(request, "param", None) or ScriptedEngine()
    with Emulator(engine=engine) as emulator, using_arkor(emulator):
        yield emulator
