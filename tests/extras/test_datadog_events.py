"""Datadog: its client library against a local server that takes what Datadog takes."""

from __future__ import annotations

import logging
from typing import Any, List, Tuple

import pytest
from datadog import api

from arkor_sync import ArkorUsageError
from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import DatadogEvents
from support.logger_contexts import end, log
from support.logger_runs import EVENTS, Request, Service, at, each_event_twice, join, train
from support.waiting import PATIENCE

KEY = "s3cretkey0123456789"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:datadog")


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the library keeps for the whole process to one test."""
    for name in ("_api_key", "_application_key", "_api_host", "_host_name"):
        monkeypatch.setattr(api, name, None)
    monkeypatch.setattr(api, "_mute", True)
    monkeypatch.setattr(api, "_timeout", PATIENCE)
    for name in ("DD_API_KEY", "DATADOG_API_KEY", "DATADOG_HOST"):
        monkeypatch.delenv(name, raising=False)


def ingest(request: Request) -> Tuple[int, Any]:
    """Answer as Datadog's `/api/v1/events` and `/api/v1/series` do."""
    if request.headers.get("dd-api-key") != KEY:
        return 403, {"errors": [f"Forbidden: {request.headers.get('dd-api-key')}"]}
    if request.path == "/api/v1/events":
        if not (request.body.get("title") and request.body.get("text")):
            return 400, {"errors": ["title and text are required"]}
        return 202, {"status": "ok", "event": {"id": 1}}
    if request.path == "/api/v1/series":
        for series in request.body["series"]:
            if not all(len(point) == 2 for point in series["points"]):
                return 400, {"errors": ["Payload is not in the expected format"]}
        return 202, {"status": "ok"}
    return 404, {"errors": ["Not found"]}


def events_at(service: Service) -> List[Any]:
    return [each.body for each in service.requests if each.path == "/api/v1/events"]


def points_at(service: Service) -> List[Tuple[str, float, float]]:
    return [
        (series["metric"], when, value if isinstance(value, (int, float)) else value[0])
        for each in service.requests
        if each.path == "/api/v1/series"
        for series in each.body["series"]
        for when, value in series["points"]
    ]


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_run_is_two_events_and_its_metrics(arkor_client: Any, service: Service) -> None:
    logger = DatadogEvents(KEY, service.url)
    job = train(arkor_client, each_event_twice(logger)).job
    began, ended = events_at(service)
    assert began["title"] == "Arkor training started: a run"
    assert "maxSteps: 3" in began["text"]
    assert ended["title"] == "Arkor training completed: a run"
    assert (began["alert_type"], ended["alert_type"]) == ("info", "success")
    assert began["aggregation_key"] == ended["aggregation_key"] == f"arkor-{job.id}"
    tags = [f"job_id:{job.id}", "job_name:a run", "model:unsloth/gemma-4-E4B-it"]
    assert began["tags"] == tags
    assert "s3cret" not in str([each.body for each in service.requests])
    points = sorted((name, value) for name, _, value in points_at(service))
    assert points == sorted(
        [
            ("arkor.training.loss", 3.0),
            ("arkor.training.learning_rate", 0.001),
            ("arkor.training.gradNorm", 0.5),
            ("arkor.training.eval_loss", 3.125),
            ("arkor.training.loss", 2.5),
            ("arkor.training.loss", 2.0),
            ("arkor.training.eval_loss", 2.25),
            *[("arkor.training.step", step) for step in (1, 1, 2, 3)],
        ]
    )


@pytest.mark.arkor(engine=ScriptedEngine(fails_at=2))
def test_the_event_of_a_failed_run_says_why(arkor_client: Any, service: Service) -> None:
    train(arkor_client, DatadogEvents(KEY, service.url))
    _, ended = events_at(service)
    assert ended["text"] == "CUDA out of memory"
    assert ended["alert_type"] == "error"


def test_points_have_the_time_of_their_event_and_go_in_batches(service: Service) -> None:
    logger = DatadogEvents(KEY, service.url)
    service.hangs = True
    for step in range(700):
        logger.on_log(log(step, loss=1.0))
    service.let_go.set()
    logger.on_end(end())
    points = points_at(service)
    assert len(points) == 1400
    assert points[0][1] == 1767225600.5
    assert len(service.requests) <= 6


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_server_that_dies_in_the_middle_does_not_harm_the_run(
    arkor_client: Any, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    logger = DatadogEvents(KEY, service.url)
    assert train(arkor_client, [logger, at(1, logger, service.stop)]).status == "completed"
    assert "DatadogEvents.log_rows failed" in caplog.text
    assert "3 logs of job" in caplog.text
    assert KEY not in caplog.text
    assert {each.name for each in caplog.records if each.levelno >= logging.WARNING} == {
        "arkor_sync.handlers"
    }


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_server_that_hangs_does_not_hold_the_run_up(arkor_client: Any, service: Service) -> None:
    logger = DatadogEvents(KEY, service.url, flush_timeout=0.05)

    def hang() -> None:
        service.hangs = True

    assert train(arkor_client, [logger, at(1, logger, hang)]).status == "completed"
    assert len(events_at(service)) == 1
    service.let_go.set()
    join(logger)  # what is late is still delivered
    assert len(events_at(service)) == 2


@pytest.mark.parametrize("mute", [False, True])
def test_a_wrong_key_is_told_without_the_key(
    service: Service, caplog: pytest.LogCaptureFixture, mute: bool
) -> None:
    logger = DatadogEvents("wr0ng", service.url)
    api._mute = mute  # a program may have told the library to hide errors
    logger.on_log(log(1, loss=1.0))
    logger.on_end(end())
    assert "DatadogEvents.log_rows failed" in caplog.text
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("arkor")]
    assert "Forbidden: [hidden]" in ours[0]
    assert "wr0ng" not in "".join(ours)


@pytest.mark.parametrize("empty", ["", " \n"])
def test_without_a_key_it_is_refused(monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    for name in ("DATADOG_API_KEY", "DD_API_KEY"):
        monkeypatch.setenv(name, empty)
    with pytest.raises(ArkorUsageError, match="DD_API_KEY"):
        DatadogEvents()


def test_an_empty_host_in_the_environment_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATADOG_HOST", "")
    monkeypatch.setenv("DD_API_KEY", KEY)
    DatadogEvents()
    assert api._api_host == "https://api.datadoghq.com"


def test_what_the_program_has_set_is_used(service: Service) -> None:
    api._api_key, api._api_host, api._host_name = KEY, service.url, "web-1"
    logger = DatadogEvents()
    assert api._mute, "nor is it changed"
    logger.on_log(log(1, loss=1.0))
    logger.on_end(end())
    assert len(points_at(service)) == 2
