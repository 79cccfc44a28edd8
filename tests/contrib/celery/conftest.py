"""A site with a Valkey that is the broker, and keeps results, positions and what was called."""

from __future__ import annotations

from typing import Any, Iterator

import pytest
from celery_worker import Site

from support.extras import need
from support.valkey import Valkey, valkey, valkey_server

__all__ = ["valkey", "valkey_server"]


@pytest.fixture
def site(valkey: Valkey, arkor_emulator: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """What a web process has: it queues tasks, and looks at their results."""
    need("celery")
    made = Site(valkey, arkor_emulator)
    yield made
    made.close()
