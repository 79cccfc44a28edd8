"""OpenTelemetry as the extra installs it, without an SDK: the API takes all and keeps nothing."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.metrics import get_meter_provider

from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import OpenTelemetryMetrics
from support.logger_runs import EVENTS, train


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_run_completes_and_nothing_is_logged(
    arkor_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert type(get_meter_provider()).__module__ == "opentelemetry.metrics._internal"  # no SDK's
    assert train(arkor_client, OpenTelemetryMetrics(spans=True)).status == "completed"
    assert caplog.text == ""
