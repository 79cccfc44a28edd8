"""PostHog: its client library against a local server that takes events as PostHog does."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, List, Tuple

import posthog.request  # noqa: F401 - the logger imports it when it is made
import pytest

from arkor_sync import ArkorUsageError
from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import PostHogCapture
from support.logger_contexts import end, log, started
from support.logger_runs import EVENTS, Request, Service, at, each_event_twice, join, train

KEY = "phc_s3cretkey"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:posthog")


def ingest(request: Request) -> Tuple[int, Any]:
    """Answer as PostHog's `/batch/` does."""
    body = request.body
    if not request.path.rstrip("/").endswith("/batch"):
        return 404, {"detail": "Not found."}
    if body.get("api_key") != KEY:
        return 401, {"detail": f"Project API key invalid: {body.get('api_key')}"}
    for event in body["batch"]:
        if not (event.get("event") and event.get("distinct_id")):
            return 400, {"detail": "an event needs event and distinct_id"}
        uuid.UUID(event["uuid"])
        datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))
    return 200, {"status": 1}


def events_at(service: Service) -> List[Any]:
    return [event for request in service.requests for event in request.body["batch"]]


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_run_is_a_series_of_events(arkor_client: Any, service: Service) -> None:
    logger = PostHogCapture(KEY, service.url, "nightly")
    job = train(arkor_client, each_event_twice(logger)).job
    events = events_at(service)
    assert [event["event"] for event in events] == [
        "arkor training started",
        *["arkor training log"] * 4,
        "arkor training completed",
    ]
    assert len({event["uuid"] for event in events}) == 6
    for event in events:
        assert event["distinct_id"] == "nightly"
        properties = event["properties"]
        assert properties["job_id"] == job.id
        assert properties["job_name"] == "a run"
        assert properties["model"] == "unsloth/gemma-4-E4B-it"
        assert properties["$process_person_profile"] is False
    assert events[0]["properties"]["maxSteps"] == 3
    assert "s3cret" not in str(events)
    first = events[1]["properties"]
    assert (first["step"], first["loss"], first["gradNorm"]) == (1, 3.0, 0.5)
    assert "loss" not in events[2]["properties"]


def test_what_comes_again_in_another_process_has_the_same_uuid(service: Service) -> None:
    for _ in range(2):
        logger = PostHogCapture(KEY, service.url)
        logger.on_started(started())
        logger.on_log(log(1, loss=1.0))
        logger.on_log(log(1, evalLoss=1.0))
        logger.on_end(end())
    ids = [event["uuid"] for event in events_at(service)]
    assert ids[:4] == ids[4:]
    assert len(set(ids)) == 4


def test_events_go_in_batches(service: Service) -> None:
    logger = PostHogCapture(KEY, service.url)
    service.hangs = True
    for step in range(250):
        logger.on_log(log(step, loss=1.0))
    service.let_go.set()
    logger.on_end(end())
    assert len(events_at(service)) == 252
    assert len(service.requests) <= 6


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_server_that_dies_in_the_middle_does_not_harm_the_run(
    arkor_client: Any, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    logger = PostHogCapture(KEY, service.url)
    assert train(arkor_client, [logger, at(1, logger, service.stop)]).status == "completed"
    assert "PostHogCapture.log_rows failed" in caplog.text
    assert "3 logs of job" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_server_that_hangs_does_not_hold_the_run_up(arkor_client: Any, service: Service) -> None:
    logger = PostHogCapture(KEY, service.url, flush_timeout=0.05)

    def hang() -> None:
        service.hangs = True

    assert train(arkor_client, [logger, at(1, logger, hang)]).status == "completed"
    assert len(events_at(service)) == 2
    service.let_go.set()
    join(logger)  # what is late is still delivered
    assert events_at(service)[-1]["event"] == "arkor training completed"


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_wrong_key_is_told_without_the_key(
    arkor_client: Any, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(arkor_client, PostHogCapture("phc_wr0ng", service.url)).status == "completed"
    assert "PostHogCapture.log_rows failed" in caplog.text
    assert "Project API key invalid" in caplog.text
    assert "wr0ng" not in caplog.text


def test_key_and_host_may_come_from_the_environment(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POSTHOG_API_KEY", raising=False)
    with pytest.raises(ArkorUsageError, match="POSTHOG_API_KEY"):
        PostHogCapture()
    monkeypatch.setenv("POSTHOG_API_KEY", "\n")
    with pytest.raises(ArkorUsageError, match="POSTHOG_API_KEY"):
        PostHogCapture()
    monkeypatch.setenv("POSTHOG_API_KEY", KEY)
    monkeypatch.setenv("POSTHOG_HOST", service.url)
    logger = PostHogCapture()
    logger.on_log(log(1, loss=1.0))
    logger.on_end(end())
    assert len(events_at(service)) == 3
