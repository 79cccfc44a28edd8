from __future__ import annotations

import threading
from contextlib import closing, suppress
from typing import List, Optional

import pytest
import requests

from arkor_sync.cloud.client import CloudApiClient, is_sendable_id
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.project import ProjectState
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorTimeoutError,
    GoneError,
    StreamProtocolError,
)
from support.loopback import Connection, Server, hang_up
from support.scripted_cloud import Reply, ScriptedCloud
from support.waiting import PATIENCES


def sent_id(cloud: ScriptedCloud, client: CloudApiClient, event_id: Optional[str]) -> Optional[str]:
    cloud.received.clear()
    with client.transport() as transport:
        client.jobs.events("job-1", transport=transport, last_event_id=event_id).close()
    return cloud.received[0].headers.get("Last-Event-ID")


def test_the_request(cloud: ScriptedCloud, client: CloudApiClient, token: str) -> None:
    cloud.stream(b"id: 1\ndata: {}\n\n", b"event: end\ndata:\n\n")
    with client.transport() as transport:
        stream = client.jobs.events("a/b c", transport=transport)
        body = b""
        while True:
            chunk = stream.read()
            if not chunk:
                break
            body += chunk
        stream.close()
    assert body == b"id: 1\ndata: {}\n\nevent: end\ndata:\n\n"
    (request,) = cloud.received
    assert request.method == "GET"
    assert request.target == (
        "/v1/jobs/a%2Fb%20c/events/stream?orgSlug=my%20org&projectSlug=my%26project"
    )
    assert request.headers["Accept"] == "text/event-stream"
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["Cache-Control"] == "no-cache"
    assert request.headers["Authorization"] == f"Bearer {token}"
    assert request.headers["X-Arkor-Client"].startswith("arkor/")
    assert "Last-Event-ID" not in request.headers


def test_the_last_event_id_is_sent_as_it_is(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.stream()
    assert sent_id(cloud, client, "1700000000-evt-42") == "1700000000-evt-42"
    assert sent_id(cloud, client, "2026-01-01T00:00:00.000Z") == "2026-01-01T00:00:00.000Z"
    # Header bytes arrive as Latin-1 text.
    assert sent_id(cloud, client, "größe 日本") == "größe 日本".encode().decode("latin-1")


@pytest.mark.parametrize(
    "event_id",
    [None, "", " a", "a ", "\t", "a\nb", "a\x00", "\ud800", "a\x85", "a" * 4097, "\u65e5" * 1366],
)
def test_an_id_that_cannot_be_sent_is_left_out(
    cloud: ScriptedCloud, client: CloudApiClient, event_id: Optional[str]
) -> None:
    cloud.stream()
    assert sent_id(cloud, client, event_id) is None
    assert event_id is None or not is_sendable_id(event_id)


@pytest.mark.parametrize("event_id", ["1", "a b", "é", "{}", "\U0001f600", ":", "a" * 4096])
def test_ids_that_can_be_sent(event_id: str) -> None:
    assert is_sendable_id(event_id)


@pytest.mark.parametrize(
    "kind",
    [
        "text/event-stream",
        "text/event-stream; charset=utf-8",
        "TEXT/EVENT-STREAM ;x",
        "",
        "text/event-stream, text/event-stream",
        "text/event-stream; charset=utf-8, text/event-stream;charset=utf-8",
        'text/event-stream; x="a, text/html; \\", b"',
        "text/html, text/event-stream",
        "text/event-stream, */*",
        "text/event-stream, nonsense",
        ",text/event-stream,",
    ],
)
def test_content_types_that_pass(cloud: ScriptedCloud, client: CloudApiClient, kind: str) -> None:
    cloud.stream(b"data\n\n", headers={"Content-Type": kind})
    with client.transport() as transport:
        stream = client.jobs.events("job-1", transport=transport)
        assert stream.read() == b"data\n\n"
        stream.close()


@pytest.mark.parametrize(
    "kind",
    [
        "text/html; charset=utf-8",
        "application/json",
        "text/event-stream2",
        "text/html; x=1, text/plain",
        "text/event-stream, text/html",
    ],
)
def test_other_content_types_are_named_and_closed(
    cloud: ScriptedCloud, client: CloudApiClient, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    closed: List[requests.Response] = []
    close = requests.Response.close

    def record(response: requests.Response) -> None:
        closed.append(response)
        close(response)

    monkeypatch.setattr(requests.Response, "close", record)
    cloud.stream(headers={"Content-Type": kind})
    named = kind.rpartition(", ")[2].partition(";")[0]
    with client.transport() as transport, pytest.raises(StreamProtocolError, match=named):
        client.jobs.events("job-1", transport=transport)
    assert len(closed) == 1


def test_an_answer_that_breaks_off_in_its_headers_is_a_lost_connection() -> None:
    """Wherever it is cut: HTTP libraries take the end of the connection for that of the headers."""
    head = (
        b"HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nContent-Type: text/event-stream\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )

    cuts = iter(range(len(head)))

    def cut_off_in_the_head(connection: Connection, request: str) -> None:
        connection.send(head[: next(cuts)])
        hang_up(connection, request)

    with Server(cut_off_in_the_head) as server:
        scope = ProjectState("o", "p", "q")
        cut_off = CloudApiClient(server.url, TokenCredentials("t"), scope=scope)
        for _ in head:
            with (
                suppress(ArkorConnectionError),
                cut_off.transport() as transport,
                closing(cut_off.jobs.events("job-1", transport=transport)) as stream,
            ):
                assert stream.read() == b""
    assert next(cuts, None) is None


def test_a_refusal_is_read_and_closed(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"error": "over"}, status=410, headers={"Retry-After": "3"})
    with client.transport() as transport:
        with pytest.raises(GoneError, match="410: over") as caught:
            client.jobs.events("job-1", transport=transport)
        assert caught.value.retry_after == 3.0


def test_the_transport_is_left_open(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.replies = [
        Reply(503, ""),
        Reply(chunks=[b"data: 1\n\n"], headers={"Content-Type": "text/event-stream"}),
    ]
    with client.transport() as transport:
        for _ in range(2):
            try:
                stream = client.jobs.events("job-1", transport=transport)
            except Exception:
                continue
        assert stream.read() == b"data: 1\n\n"
        stream.close()


def test_another_thread_interrupts_a_read(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    never = threading.Event()
    cloud.stream(b"data: 1\n\n", hold=never)
    with client.transport() as transport:
        stream = client.jobs.events("job-1", transport=transport, timeout=(20.0, 20.0))
        assert stream.read() == b"data: 1\n\n"
        timer = threading.Timer(0.01, transport.interrupt)
        timer.start()
        try:
            body = stream.read()
        except ArkorTimeoutError:
            raise
        except ArkorConnectionError:
            body = b""
        assert body == b""
        timer.join()
        stream.close()
    never.set()


def test_silence_has_a_limit(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    never = threading.Event()
    cloud.stream(b"data: 1\n\n", hold=never)
    with client.transport() as transport:
        for patience in PATIENCES:
            transport.reset()
            try:
                stream = client.jobs.events("job-1", transport=transport, timeout=(20.0, patience))
                assert stream.read() == b"data: 1\n\n"
            except ArkorTimeoutError:
                continue  # too little for the stream to begin
            break
        with pytest.raises(ArkorTimeoutError):
            stream.read()
        stream.close()
    never.set()
