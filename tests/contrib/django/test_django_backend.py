"""The rules that every backend holds, held by that of Django; and what is its own."""

from __future__ import annotations

from typing import Any, Iterator, List

import pytest
from django.db import OperationalError, connections, transaction

from arkor_sync import ArkorUsageError, CursorStoreError, StoreUnavailableError
from arkor_sync.contrib.django.backend import DjangoBackend
from arkor_sync.contrib.django.models import Lease, Run
from arkor_sync.stores.backend import SUBMITTED, Save
from stores.test_backend_rules import *  # noqa: F403
from stores.test_backend_rules import JOB, LONG, MakeBackend, save


@pytest.fixture
def make_backend(site: str) -> Iterator[MakeBackend]:
    made: List[Any] = []

    def make() -> DjangoBackend:
        made.append(DjangoBackend(site))
        return made[-1]

    yield make
    for each in made:
        each.close()


pytestmark = pytest.mark.parametrize("site", ("default", "postgres"), indirect=True)
