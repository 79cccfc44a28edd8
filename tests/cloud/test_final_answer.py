"""Answers as servers and proxies write them: informational ones first, headers twice or padded."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest
import requests

from arkor_sync.cloud.bodies import ByteStream
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.project import ProjectState
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError, CloudApiError
from support.loopback import Connection, Server, hang_up
from support.scripted_cloud import JOB
from support.servers import CERTIFICATE
from support.waiting import PATIENCE

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
UNKNOWN = b"HTTP/1.1 199 Whatever\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = json.dumps({"job": JOB}).encode()
FINAL = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)

BEFORE = {
    "102": PROCESSING,
    "103": HINTS,
    "100, 103": CONTINUE + HINTS,
    "102 many times": PROCESSING * 90,
    "one that nobody knows": UNKNOWN,
    "all": CONTINUE + PROCESSING + UNKNOWN + HINTS + CONTINUE,
}

Handler = Callable[[Connection, str], None]


def say(*parts: bytes) -> Handler:
    def handler(connection: Connection, _: str) -> None:
        for part in parts:
            connection.send(part)

    return handler


def client_of(server: Server, **more: Any) -> CloudApiClient:
    return CloudApiClient(
        server.url, TokenCredentials("t"), scope=ProjectState("o", "p", "1"), **more
    )


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_informational_answers_before_a_paid_job_are_skipped(name: str, tls: bool) -> None:
    with Server(say(BEFORE[name], FINAL), tls=tls) as server:
        session = requests.Session()
        session.verify = CERTIFICATE
        job = client_of(server, session=session).jobs.create("bot", {"model": "m"})
        assert job.id == JOB["id"]
        assert len(server.requests) == 1


def test_informational_answers_come_byte_by_byte_and_on_one_connection() -> None:
    with Server(say(*(bytes([byte]) for byte in HINTS + PROCESSING), FINAL)) as server:
        with Transport() as transport:
            for _ in range(3):
                response = transport.request("GET", server.url, timeout=(PATIENCE, PATIENCE))
                assert (response.status_code, response.content) == (201, BODY)
        assert server.accepted.acquire(timeout=PATIENCE)
        assert not server.accepted.acquire(blocking=False)


def test_an_informational_answer_before_an_error_is_skipped() -> None:
    with (
        Server(say(HINTS, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")) as server,
        pytest.raises(CloudApiError, match="404"),
    ):
        client_of(server).me()


def test_an_informational_answer_before_a_stream_is_skipped() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    with Server(say(HINTS, chunked)) as server, client_of(server).transport() as transport:
        stream = client_of(server).jobs.events("job-1", transport=transport)
        assert stream.read() == b"abcde"
        assert stream.read() == b""
        stream.close()


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 103 Early", HINTS])
def test_an_answer_that_never_becomes_final_is_a_lost_connection(after: bytes) -> None:
    def handler(connection: Connection, request: str) -> None:
        connection.send(HINTS + after)
        hang_up(connection, request)

    with Server(handler) as server, pytest.raises(ArkorConnectionError, match="may have been"):
        client_of(server).jobs.create("bot", {"model": "m"})


def test_a_proxys_informational_answer_before_a_tunnel_is_skipped() -> None:
    def handler(connection: Connection, head: str) -> None:
        connection.send(HINTS + b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
        hang_up(connection, head)

    with Server(handler) as server:
        session = requests.Session()
        session.proxies = {"https": server.url}
        with Transport(session) as transport, pytest.raises(ArkorConnectionError, match="407"):
            transport.request("GET", "https://cloud.invalid", timeout=(PATIENCE, PATIENCE))


def test_protocols_are_not_switched() -> None:
    with (
        Server(say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")) as server,
        pytest.raises(CloudApiError, match="101"),
    ):
        client_of(server).me()


@pytest.mark.parametrize(
    "headers",
    [
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding:   Chunked \t",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2",
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_chunked_body_is_known_however_it_is_announced(headers: bytes, stream: bool) -> None:
    body = b"  05 \r\nabcde\r\n0\r\n\r\n"
    with (
        Server(say(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + body)) as server,
        Transport() as transport,
    ):
        for _ in range(2):
            response = transport.request(
                "GET", server.url, timeout=(PATIENCE, PATIENCE), stream=stream
            )
            if stream:
                assert ByteStream(response).read() == b"abcde"
                response.close()
            else:
                assert response.content == b"abcde"


@pytest.mark.parametrize(
    "headers",
    [b"Content-Length: 2 ", b"Content-Length: 2, 2", b"Content-Length: 2\r\nContent-Length: 2"],
)
def test_a_length_may_be_given_twice(headers: bytes) -> None:
    with (
        Server(say(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\nok")) as server,
        Transport() as transport,
    ):
        for _ in range(2):
            response = transport.request("GET", server.url, timeout=(PATIENCE, PATIENCE))
            assert response.content == b"ok"
        assert server.accepted.acquire(timeout=PATIENCE)
        assert not server.accepted.acquire(blocking=False)
