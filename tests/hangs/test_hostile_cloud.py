"""A run over a cloud whose answers never end, or are far larger than they look."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from arkor_sync import (
    CloudApiClient,
    CloudApiError,
    ProjectState,
    ReconnectPolicy,
    TokenCredentials,
    TrainingResult,
    follow,
)
from support.hostile import BODIES, DRIPS, FLOODS, MIB, answer_json, peak_of, route, send_bomb
from support.loopback import Connection, Server, stay_silent
from support.scripted_cloud import JOB
from support.waiting import PATIENCE, Background

QUICK = ReconnectPolicy(base=0.01, cap=0.01, idle_timeout=0.5)
RUNNING = answer_json({"job": {**JOB, "status": "running"}})
DONE = answer_json({"job": {**JOB, "status": "completed"}})


def end_frame(connection: Connection, _: str) -> None:
    """Send a stream that ends without saying how the job ended."""
    connection.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 23\r\n\r\n"
        b"event: end\ndata: null\n\n"
    )


def failure_frame(connection: Connection, _: str) -> None:
    """Send a stream that calls the job failed: only its record says whether it was cancelled."""
    body = b'data: {"type": "training.failed", "error": "CUDA out of memory"}\n\n'
    connection.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s"
        % (len(body), body)
    )


def result_of(server: Server, **more: Any) -> TrainingResult:
    client = CloudApiClient(
        server.url,
        TokenCredentials("token"),
        scope=ProjectState("org", "project", "1"),
        timeout=(PATIENCE, more.pop("seconds", 0.3)),
    )
    run = follow("job-1", client=client, stale_after=0.1, **{"reconnect": QUICK, **more})
    with run:
        result: TrainingResult = Background(run.wait).result()
    return result


SILLY_RECORDS: Dict[str, Any] = {**DRIPS, **BODIES}


@pytest.mark.parametrize("name", sorted(SILLY_RECORDS))
def test_a_record_that_never_ends_does_not_hold_the_run(name: str) -> None:
    cloud = route(job_1=[RUNNING, SILLY_RECORDS[name], DONE], stream=end_frame)
    with Server(cloud) as server:
        assert result_of(server).status == "completed"


@pytest.mark.parametrize("name", sorted(SILLY_RECORDS))
def test_a_failed_job_whose_record_never_ends_has_failed(name: str) -> None:
    with Server(route(job_1=[RUNNING, SILLY_RECORDS[name]], stream=failure_frame)) as server:
        result = result_of(server)
    assert (result.status, result.job.error) == ("failed", "CUDA out of memory")


@pytest.mark.parametrize("name", sorted(DRIPS))
def test_a_stream_whose_headers_never_end_leads_to_the_record(name: str) -> None:
    with Server(route(job_1=[RUNNING, DONE], stream=DRIPS[name])) as server:
        assert result_of(server).status == "completed"


@pytest.mark.parametrize("name", sorted(BODIES))
def test_an_error_of_the_stream_whose_body_never_ends_is_one(name: str) -> None:
    def fail(connection: Connection, request: str) -> None:
        connection.send(b"HTTP/1.1 403 No\r\nX-")
        BODIES[name](connection, request)

    with Server(route(job_1=RUNNING, stream=fail)) as server, pytest.raises(CloudApiError):
        result_of(server)


@pytest.mark.parametrize("name", sorted(FLOODS))
def test_a_record_that_is_a_bomb_does_not_burst_the_run(name: str) -> None:
    cloud = route(job_1=[RUNNING, FLOODS[name], DONE], stream=end_frame)
    with Server(cloud) as server:
        result, peak = peak_of(lambda: result_of(server, seconds=PATIENCE))
    assert result.status == "completed"
    assert peak < 100 * MIB


def test_a_stream_that_is_a_bomb_does_not_burst_the_run() -> None:
    """Of the spaces of one endless line no more is kept than an event may have."""
    cloud = route(job_1=RUNNING, stream=send_bomb(kind="text/event-stream"))
    with Server(cloud) as server:

        def attack() -> None:
            with pytest.raises(Exception, match=r"larger than 1,048,576 bytes"):
                result_of(server, seconds=PATIENCE, reconnect=ReconnectPolicy())

        assert peak_of(attack)[1] < 32 * MIB


def test_a_cancel_ends_in_time_in_a_run() -> None:
    cloud = route(job_1=RUNNING, stream=stay_silent, cancel=BODIES["chunks"])
    with Server(cloud) as server:
        client = CloudApiClient(
            server.url,
            TokenCredentials("token"),
            scope=ProjectState("org", "project", "1"),
            timeout=(PATIENCE, 0.3),
        )
        with follow("job-1", client=client) as run:
            Background(run.cancel).result()
