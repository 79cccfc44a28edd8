"""The rules that every backend holds, held by that of Django; and what is its own."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Iterator, List

import pytest
from django.db import Error
from django_site import BOTH

from arkor_sync.contrib.django.backend import DjangoBackend
from arkor_sync.contrib.django.connections import Slots, current_connection
from stores.test_backend_rules import *  # noqa: F403
from stores.test_backend_rules import MakeBackend

pytestmark = pytest.mark.parametrize("site", BOTH, indirect=True)


@pytest.fixture
def make_backend(site: str) -> Iterator[MakeBackend]:
    made: List[Any] = []

    def make() -> DjangoBackend:
        made.append(DjangoBackend(site))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_connection_is_used_again_after_an_error_unless_it_is_broken(site: str) -> None:
    slots = Slots(site, 1)
    used: List[Any] = []

    def use(statement: str, broken: bool = False) -> Any:
        with suppress(ZeroDivisionError, Error), slots():
            connection = current_connection(site)
            used.append(connection.connection)
            if broken:
                used[-1].close()
            connection.cursor().execute(statement)
            raise ZeroDivisionError
        return used[-1]

    first = use("SELECT 1")
    assert use("SELECT nothing") is first
    assert use("SELECT 1", broken=True) is first
    assert use("SELECT 1") is not first
    slots.close()
