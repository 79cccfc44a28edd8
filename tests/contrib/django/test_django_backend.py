"""The rules that every backend holds, held by that of Django; and what is its own."""

from __future__ import annotations

from typing import Any, Iterator, List

import pytest
from django_site import BOTH

from arkor_sync.contrib.django.backend import DjangoBackend
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
