"""OpenTelemetry, read back from the SDK's memory."""

from __future__ import annotations

import threading
from typing import Any, Dict, List, Tuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import OpenTelemetryMetrics
from support.logger_contexts import a_job, end, log
from support.logger_runs import EVENTS, at, each_event_twice, train
from support.waiting import PATIENCE


class Reader(InMemoryMetricReader):
    """Keeps what each flush exported, and not only the last."""

    def __init__(self) -> None:
        super().__init__()
        self.exported: List[Any] = []

    def _receive_metrics(self, metrics_data: Any, *_: Any, **__: Any) -> None:
        self.exported.append(metrics_data)


class Telemetry:
    """An SDK of the test's own: nothing is global."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def logger(self, **more: Any) -> OpenTelemetryMetrics:
        return OpenTelemetryMetrics(
            meter_provider=self.meters, tracer_provider=self.tracers, **more
        )

    def points(self) -> List[Tuple[str, Dict[str, Any], float]]:
        return [
            (metric.name, dict(point.attributes), point.value)
            for data in self.reader.exported
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            if scope.scope.name == "arkor_sync"  # the SDK measures itself, too
            for metric in scope.metrics
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_gauges_have_the_last_values_and_say_which_job(
    arkor_client: Any, telemetry: Telemetry
) -> None:
    logger = telemetry.logger()
    job = train(arkor_client, each_event_twice(logger)).job
    points = telemetry.points()
    assert telemetry.reader.exported, "it is flushed before wait() returns"
    assert {name: value for name, _, value in points} == {
        "arkor.training.step": 3,
        "arkor.training.loss": 2.0,
        "arkor.training.eval_loss": 2.25,
        "arkor.training.learning_rate": 0.001,
        "arkor.training.gradnorm": 0.5,
    }
    for _, attributes, _ in points:
        assert attributes == {
            "arkor.job.id": job.id,
            "arkor.job.name": "a run",
            "arkor.model": "unsloth/gemma-4-E4B-it",
        }
    assert telemetry.exporter.get_finished_spans() == ()


def test_two_runs_at_once_are_two_series(telemetry: Telemetry) -> None:
    logger = telemetry.logger()
    for number in (1, 2):
        logger.on_log(log(1, a_job(f"job-{number}"), loss=float(number)))
    for number in (1, 2):
        logger.on_end(end("completed", a_job(f"job-{number}")))
    losses = {
        attributes["arkor.job.id"]: value
        for name, attributes, value in telemetry.points()
        if name == "arkor.training.loss"
    }
    assert losses == {"job-1": 1.0, "job-2": 2.0}


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_run_may_be_a_span(arkor_client: Any, telemetry: Telemetry) -> None:
    logger = telemetry.logger(spans=True)
    job = train(arkor_client, logger).job
    [span] = telemetry.exporter.get_finished_spans()
    assert span.name == "arkor.training"
    assert span.attributes["arkor.job.id"] == job.id
    assert span.attributes["arkor.job.status"] == "completed"
    assert span.attributes["maxSteps"] == 3
    assert "s3cret" not in str(dict(span.attributes))
    assert span.status.is_unset
    assert logger._spans == {}


@pytest.mark.arkor(engine=ScriptedEngine(fails_at=2))
def test_the_span_of_a_failed_run_says_why(arkor_client: Any, telemetry: Telemetry) -> None:
    train(arkor_client, telemetry.logger(spans=True))
    [span] = telemetry.exporter.get_finished_spans()
    assert not span.status.is_ok
    assert span.status.description == "CUDA out of memory"


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_meter_that_breaks_in_the_middle_does_not_harm_the_run(
    arkor_client: Any,
    telemetry: Telemetry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = telemetry.logger()

    def refuse(*_: Any) -> None:
        raise RuntimeError("the SDK is shut down")

    def break_() -> None:
        for gauge in logger._gauges.values():
            monkeypatch.setattr(type(gauge), "set", refuse)

    assert train(arkor_client, [logger, at(1, logger, break_)]).status == "completed"
    assert "OpenTelemetryMetrics.log_metrics failed" in caplog.text
    assert "3 logs of job" in caplog.text


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_an_exporter_that_hangs_does_not_hold_the_run_up(
    arkor_client: Any, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, ended = threading.Event(), threading.Event()

    def hang(*_: Any) -> None:
        let_go.wait(PATIENCE)
        ended.set()

    monkeypatch.setattr(telemetry.meters, "force_flush", hang)
    assert train(arkor_client, telemetry.logger(flush_timeout=0.05)).status == "completed"
    assert not ended.is_set()
    let_go.set()
    assert ended.wait(PATIENCE)


def test_the_providers_of_the_program_are_the_default() -> None:
    logger = OpenTelemetryMetrics(spans=True)
    logger.on_log(log(1, loss=1.0))  # no SDK is set up: it goes nowhere
    logger.on_end(end())


def test_a_number_that_fits_into_no_64_bits_does_not_spoil_the_export() -> None:
    telemetry = Telemetry()
    logger = telemetry.logger(spans=True)
    job = a_job(seed=2**64, bigger=10**400, flag=True)
    logger.on_log(log(1, job, tokens=2**64, loss=1))
    logger.on_end(end("completed", job))
    values = {name: value for name, _, value in telemetry.points()}
    assert values == {
        "arkor.training.step": 1,
        "arkor.training.tokens": 2.0**64,
        "arkor.training.loss": 1,
    }
    [span] = telemetry.exporter.get_finished_spans()
    assert span.attributes["seed"] == 2.0**64
    assert span.attributes["bigger"] == str(10**400)
    assert span.attributes["flag"] is True
