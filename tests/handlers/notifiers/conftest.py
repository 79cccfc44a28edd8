from __future__ import annotations

from typing import Iterator

import pytest

from arkor_sync.handlers import WebhookNotifier
from support.clocks import FakeClock
from support.waiting import PATIENCE
from support.webhook_services import Service


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def notifier(service: Service) -> WebhookNotifier:
    return WebhookNotifier(service.url, clock=FakeClock(1.0), flush_timeout=PATIENCE)
