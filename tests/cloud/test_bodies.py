"""Bodies of answers: each ends in time, and none takes more memory than its limit."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
import requests

from arkor_sync.cloud import identity_provider
from arkor_sync.cloud.bodies import ByteStream
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import OAuthCredentials, TokenCredentials, ensure_credentials
from arkor_sync.cloud.http import HttpClient
from arkor_sync.cloud.oauth import Refresher
from arkor_sync.cloud.project import ProjectState
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorTimeoutError,
    ArkorUsageError,
    ResponseError,
    ServerError,
)
from support.hostile import (
    BODIES,
    CHUNKED,
    DRIPS,
    FLOODS,
    JSON,
    MIB,
    OK,
    bomb,
    drip,
    flood,
    peak_of,
    send_bomb,
)
from support.loopback import Server
from support.scripted_cloud import JOB
from support.servers import CERTIFICATE
from support.waiting import PATIENCE, Background

ME = {"user": None, "orgs": []}
HELLO = [{"role": "user", "content": "Hello"}]
CONFIG = {"model": "unsloth/gemma-4-E4B-it"}
SHORT = (PATIENCE, 0.3)


def client_of(server: Server, timeout: Any = SHORT, **more: Any) -> CloudApiClient:
    return CloudApiClient(
        server.url,
        TokenCredentials("token-0123456789"),
        scope=ProjectState("org", "project", "1"),
        timeout=timeout,
        retry="none",
        **more,
    )


def sign_in(server: Server, timeout: Any) -> Any:
    return ensure_credentials(server.url, http=HttpClient(timeout))


def chat(server: Server, timeout: Any, stream: bool) -> Any:
    client = client_of(server, (timeout[0], PATIENCE))
    return client.chat(HELLO, base_model="m", stream=stream, timeout=timeout[1])


def events(server: Server, timeout: Any) -> Any:
    with Transport() as transport:
        return client_of(server).jobs.events("job-1", transport=transport, timeout=timeout)


CALLS: Dict[str, Callable[[Server, Any], Any]] = {
    "sign in": sign_in,
    "me": lambda server, timeout: client_of(server, timeout).me(),
    "submit": lambda server, timeout: client_of(server, timeout).jobs.create("n", CONFIG),
    "record": lambda server, timeout: client_of(server, timeout).jobs.get("job-1"),
    "jobs": lambda server, timeout: client_of(server, timeout).jobs.list(),
    "projects": lambda server, timeout: client_of(server, timeout).projects.list("org"),
    "chat": lambda server, timeout: chat(server, timeout, False),
}
WITHOUT_BODY: Dict[str, Callable[[Server, Any], Any]] = {
    **CALLS,
    "cancel": lambda server, timeout: client_of(server, timeout).jobs.cancel("job-1"),
    "streamed chat": lambda server, timeout: chat(server, timeout, True),
    "events": events,
}


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """Call it on another thread, so that a call which never ends fails the test."""
    return Background(function, *args).result()


@pytest.mark.parametrize("call", sorted(WITHOUT_BODY))
@pytest.mark.parametrize("name", sorted(DRIPS))
def test_headers_that_never_end_are_given_up(call: str, name: str) -> None:
    with Server(DRIPS[name]) as server, pytest.raises(ArkorTimeoutError):
        outcome(WITHOUT_BODY[call], server, SHORT)


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize("name", sorted(BODIES))
def test_a_body_that_never_ends_is_given_up(call: str, name: str) -> None:
    with Server(BODIES[name]) as server, pytest.raises(ArkorTimeoutError) as caught:
        outcome(CALLS[call], server, SHORT)
    assert ("may have been created" in str(caught.value)) == (call == "submit")


@pytest.mark.parametrize("name", sorted(BODIES))
def test_a_cancel_is_accepted_whatever_its_body_does(name: str) -> None:
    with Server(BODIES[name]) as server:
        assert outcome(client_of(server).jobs.cancel, "job-1") is None


@pytest.mark.parametrize("name", sorted(BODIES))
def test_an_error_whose_body_never_ends_is_raised(name: str) -> None:
    def fail(connection: Any, request: str) -> None:
        connection.send(b"HTTP/1.1 500 Oh\r\nX-")  # the handler's own status line is a header now
        BODIES[name](connection, request)

    with Server(fail) as server, pytest.raises(ServerError):
        outcome(client_of(server).me)


def test_time_passes_in_tls_too() -> None:
    session = requests.Session()
    session.verify = CERTIFICATE
    session.trust_env = False
    for handler in (DRIPS["100 Continue"], BODIES["chunks"]):
        with Server(handler, tls=True) as server, pytest.raises(ArkorTimeoutError):
            outcome(client_of(server, session=session).me)


def account(server: Server) -> OAuthCredentials:
    host = server.url.partition("://")[2]
    return OAuthCredentials("old-access", "old-refresh", 0, host, "audience", "client")


@pytest.mark.parametrize("handler", [DRIPS["a header"], BODIES["chunks"]], ids=["head", "body"])
def test_a_refresh_that_never_ends_is_given_up(
    handler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_provider, "_TIMEOUT", SHORT)
    session = requests.Session()
    session.verify = CERTIFICATE
    session.trust_env = False
    with Server(handler, tls=True) as server, pytest.raises(ArkorTimeoutError):
        outcome(Refresher(account(server), session).valid_credentials)


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
SILLY_STREAMS = {
    "pings": drip(STREAM + b"\r\n", b"event: ping\ndata: {}\n\n"),
    "comments": drip(STREAM + b"\r\n", b": still here\n\n"),
    "bytes": drip(STREAM + b"\r\ndata: ", b"a"),
    "the size of a chunk": drip(STREAM + CHUNKED, b"0"),
    "empty gzip": drip(STREAM + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"")),
}


@pytest.mark.parametrize("name", sorted(SILLY_STREAMS))
def test_a_streamed_chat_without_a_next_piece_is_given_up(name: str) -> None:
    with Server(SILLY_STREAMS[name]) as server, pytest.raises(ArkorTimeoutError):
        outcome(lambda: chat(server, SHORT, True).text())


# Memory.

MOST = 100 * MIB
"""More than any body here may take: of 16 MiB there are two copies for a moment, of 64 MiB one."""


@pytest.mark.parametrize("call", sorted(set(CALLS) - {"chat"}))
def test_a_bomb_is_refused(call: str) -> None:
    def attack() -> None:
        with pytest.raises(ResponseError, match=r"larger than 16,777,216 bytes"):
            CALLS[call](server, (PATIENCE, PATIENCE))

    with Server(FLOODS["gzip"]) as server:
        assert peak_of(attack)[1] < MOST


@pytest.mark.parametrize("name", sorted(FLOODS))
def test_a_body_larger_than_its_limit_is_refused(name: str) -> None:
    def attack() -> None:
        with pytest.raises(ResponseError, match=r"larger than 2,097,152 bytes.*max_answer_bytes"):
            client_of(server, (PATIENCE, PATIENCE), max_answer_bytes=2 * MIB).me()

    with Server(FLOODS[name]) as server:
        assert peak_of(attack)[1] < 16 * MIB


@pytest.mark.parametrize(
    ("stream", "limit"), [(False, None), (False, 2 * MIB), (True, 2 * MIB)], ids=str
)
def test_a_chat_has_a_limit_of_its_own(stream: bool, limit: Any) -> None:
    more = {} if limit is None else {"max_chat_bytes": limit}

    def attack() -> None:
        client = client_of(server, (PATIENCE, PATIENCE), **more)
        with pytest.raises(ResponseError, match=f"larger than {limit or 64 * MIB:,} bytes"):
            client.chat(HELLO, base_model="m", stream=stream).text()

    # Spaces are no piece of a stream: events are, so small that their parser takes them.
    event = b'data: {"choices": [{"delta": {}}], "x": "' + b"x" * 60_000 + b'"}\n\n'
    handler = flood(STREAM + b"\r\n", event) if stream else FLOODS["gzip"]
    with Server(handler) as server:
        peak = peak_of(attack)[1]
    assert stream or peak < (limit or 64 * MIB) * 3


def test_of_the_body_of_an_error_the_start_is_read() -> None:
    def attack() -> ServerError:
        with pytest.raises(ServerError) as caught:
            client_of(server, (PATIENCE, PATIENCE)).me()
        return caught.value

    with Server(send_bomb("500 Oh", "text/html", prefix=b"<h1>down</h1>")) as server:
        error, peak = peak_of(attack)
        assert error.message == "<h1>down</h1>"
        assert peak < 4 * MIB
        client = client_of(server, (PATIENCE, PATIENCE), max_error_bytes=4)
        with pytest.raises(ServerError, match=r"500: <h1> \(GET "):
            client.me()


def test_a_refresh_reads_the_start_of_a_bomb() -> None:
    session = requests.Session()
    session.verify = CERTIFICATE
    session.trust_env = False

    def attack() -> None:
        with pytest.raises(ArkorConnectionError):
            Refresher(account(server), session).valid_credentials()

    with Server(send_bomb(), tls=True) as server:
        assert peak_of(attack)[1] < 4 * MIB


@pytest.mark.parametrize("coding", ["gzip, gzip", "br", "zstd", "deflate", "gzip;q=1", "x"])
def test_a_coding_that_was_not_asked_for_is_refused(coding: str) -> None:
    with (
        Server(send_bomb(coding=coding, layers=2)) as server,
        pytest.raises(ArkorConnectionError, match=r"content coding .*not asked for"),
    ):
        client_of(server, (PATIENCE, PATIENCE)).me()
    assert "accept-encoding: gzip\r\n" in server.requests[0].lower()


@pytest.mark.parametrize("size", [b"-1", b"+1", b"0x1", b"", b"1_0", b"f" * 20])
def test_the_size_of_a_chunk_is_hexadecimal(size: bytes) -> None:
    handler = flood(OK + JSON + CHUNKED + size + b"\r\n", b" ")
    with Server(handler) as server, pytest.raises(ArkorConnectionError, match="size of a chunk"):
        client_of(server, (PATIENCE, PATIENCE)).me()


@pytest.mark.parametrize("endless", [drip, flood], ids=["slow", "fast"])
def test_a_trailer_is_not_read(endless: Any) -> None:
    body = json.dumps({"job": JOB}).encode()
    whole = OK + JSON + CHUNKED + b"%x\r\n%s\r\n0\r\n" % (len(body), body)
    with Server(endless(whole, b"X-Trailer: a\r\n")) as server:
        assert outcome(client_of(server).jobs.get, "job-1").id == "job-1"


def test_a_compressed_stream_is_read_piece_by_piece() -> None:
    def read() -> int:
        with Transport() as transport:
            timeout = (PATIENCE, PATIENCE)
            stream = ByteStream(transport.request("GET", server.url, timeout=timeout, stream=True))
            return sum(len(stream.read()) for _ in range(500))

    with Server(send_bomb(kind="text/event-stream")) as server:
        size, peak = peak_of(read)
        assert size > 64 * MIB
        assert peak < 8 * MIB


# What is as it was.


def test_gzip_in_several_members_is_read_whole() -> None:
    text = json.dumps({"job": JOB}).encode()
    body = b"".join(gzip.compress(text[i : i + 50]) for i in range(0, len(text), 50))
    head = OK + JSON + b"Content-Encoding: x-gzip\r\nContent-Length: %d\r\n\r\n"

    def handler(connection: Any, _: str) -> None:
        connection.send(head % (len(body) + 3) + body + b"\0\0\0")  # some servers pad it

    with Server(handler) as server:
        assert client_of(server, (PATIENCE, PATIENCE)).jobs.get("job-1").id == "job-1"


@pytest.mark.parametrize("cut", [1, 8, 30])
def test_gzip_that_is_cut_is_no_whole_answer(cut: int) -> None:
    body = gzip.compress(json.dumps({"job": JOB}).encode())[:-cut]

    def handler(connection: Any, _: str) -> None:
        head = OK + JSON + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        connection.send(head % len(body) + body)

    with Server(handler) as server, pytest.raises(ArkorConnectionError, match="is cut"):
        client_of(server, (PATIENCE, PATIENCE)).jobs.get("job-1")


@pytest.mark.parametrize("body", [b"not gzip at all", bomb()[:5] + b"\xff" * 99])
def test_what_is_not_gzip_is_said(body: bytes) -> None:
    def handler(connection: Any, _: str) -> None:
        head = OK + JSON + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        connection.send(head % len(body) + body)

    with Server(handler) as server, pytest.raises(ArkorConnectionError, match="reading the answer"):
        client_of(server, (PATIENCE, PATIENCE)).me()


def test_the_answer_of_a_chat_stays_a_response(tmp_path: Path) -> None:
    text = json.dumps({"choices": [{"message": {"content": "Hi"}}]}).encode()
    body = gzip.compress(text)

    def handler(connection: Any, _: str) -> None:
        head = OK + JSON + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        connection.send(head % len(body) + body)

    with Server(handler) as server:
        answer = chat(server, (PATIENCE, PATIENCE), False)
    assert answer.text() == "Hi"
    assert answer.response.content == text
    assert answer.response.json()["choices"]


@pytest.mark.parametrize("name", ["max_answer_bytes", "max_error_bytes", "max_chat_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True, None])
def test_a_limit_is_a_number_of_bytes(name: str, value: Any) -> None:
    limit: Dict[str, Any] = {name: value}
    with pytest.raises(ArkorUsageError, match=f"{name}: got .*; give a whole number of bytes"):
        CloudApiClient(credentials=TokenCredentials("t"), **limit)
