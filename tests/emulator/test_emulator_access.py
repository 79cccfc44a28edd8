"""No page in a browser may use the emulator: by bare requests, as a browser would send them."""

from __future__ import annotations

import json
import socket
from typing import List, Tuple

import pytest

from arkor_sync.emulator import Emulator, Fault
from support.emulator_client import Client
from support.waiting import PATIENCE

FAULT = json.dumps({"kind": "status"}).encode()
Headers = List[Tuple[str, str]]


def send(
    emu: Emulator, line: str, headers: Headers, body: bytes = b"", *, host: str = "127.0.0.1"
) -> bytes:
    """Send one request; return the whole answer."""
    if host:
        headers = [("Host", host), *headers]
    if body:
        headers = [*headers, ("Content-Length", str(len(body)))]
    head = f"{line} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
    with socket.create_connection(("127.0.0.1", emu.port), timeout=PATIENCE) as sock:
        sock.sendall(head.encode("latin-1") + b"Connection: close\r\n\r\n" + body)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# Every route that changes or reveals something.
ROUTES = [
    ("GET /_emulator/health", b""),
    ("GET /_emulator/requests", b""),
    ("GET /_emulator/faults", b""),
    ("POST /_emulator/faults", FAULT),
    ("DELETE /_emulator/faults", b""),
    ("POST /_emulator/reset", b""),
    ("POST /v1/auth/anonymous", b'{"kind": "cli"}'),
    ("GET /v1/auth/cli/config", b""),
    ("GET /v1/me", b""),
    ("GET /v1/jobs", b""),
    ("POST /v1/jobs", b"{}"),
    ("POST /v1/inference/chat", b"{}"),
    ("GET /v1/endpoints", b""),
    ("OPTIONS /_emulator/faults", b""),
    ("GET /v1/nope", b""),
]
FOREIGN = [
    [("Host", "attacker.example")],
    [("Host", "127.0.0.1"), ("Origin", "https://attacker.example")],
    [("Host", "127.0.0.1"), ("Origin", "null")],
    [("Host", "127.0.0.1"), ("Sec-Fetch-Site", "cross-site")],
]


@pytest.mark.parametrize("line, body", ROUTES)  # noqa: PT006
@pytest.mark.parametrize("foreign", FOREIGN, ids=["host", "origin", "null", "fetch-site"])
def test_a_page_of_another_origin_is_refused_on_every_route(
    emu: Emulator, client: Client, line: str, body: bytes, foreign: Headers
) -> None:
    client.get("/v1/me")
    emu.faults.add(Fault("status", route="list_jobs", status=418))
    allowed = [
        ("Authorization", client.headers["Authorization"]),
        ("X-Arkor-Client", client.headers["X-Arkor-Client"]),
        ("Content-Type", "application/json"),
    ]
    answer = send(emu, line, [*foreign, *allowed], body, host="")
    assert status(answer) == 403
    assert b"access-control-" not in answer.lower()
    assert b"v1/me" not in answer
    assert b"anon." not in answer
    # Nothing changed, nothing is recorded, and no fault was used up.
    assert [request.path for request in emu.requests] == ["/v1/me"]
    assert len(emu.faults.tally()) == 1
    assert emu.faults.fired() == 0
    assert status(send(emu, line, allowed, body)) != 403


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example:80",
        "127.0.0.1.attacker.example",
        "localhost.attacker.example",
        "attacker.example#127.0.0.1",
        "user@127.0.0.1",
        "127.0.0.1@attacker.example",
        "127.0.0.1, attacker.example",
        "127.0.0.1:80:80",
        "127.0.0.1:port",
        "127.1",
        "2130706433",
        "0.0.0.0",
        "192.168.0.1",
        "[::]",
        "::1",
        "xn--localhost",
        "l\xf6calhost",
        "-",
    ],
)
def test_a_host_that_is_not_this_machine_is_refused(emu: Emulator, host: str) -> None:
    answer = send(emu, "GET /_emulator/requests", [], host=host)
    assert status(answer) == 403
    assert b"give 127.0.0.1, localhost or [::1]" in answer


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LocalHost:80", "[::1]", "[::1]:8080", "127.0.0.1:65535"]
)
def test_a_host_that_is_this_machine_is_served(emu: Emulator, host: str) -> None:
    assert status(send(emu, "GET /_emulator/health", [], host=host)) == 200


def test_the_request_line_cannot_name_another_host(emu: Emulator) -> None:
    port = emu.port
    assert status(send(emu, f"GET http://localhost:{port}/_emulator/health", [])) == 200
    assert status(send(emu, "GET http://attacker.example/_emulator/health", [])) == 403
    # Nor does an honest request line help a foreign Host.
    line = f"GET http://localhost:{port}/_emulator/health"
    assert status(send(emu, line, [], host="attacker.example")) == 403
    # A path may begin with two slashes, and is no host then.
    assert status(send(emu, "GET //attacker.example/_emulator/health", [])) == 404


@pytest.mark.parametrize("hosts", [[], ["127.0.0.1", "127.0.0.1"], ["127.0.0.1", "a.example"]])
@pytest.mark.parametrize("line", ["GET /_emulator/health", "GET http://127.0.0.1/_emulator/health"])
def test_there_is_exactly_one_host(emu: Emulator, hosts: List[str], line: str) -> None:
    headers = [("Host", host) for host in hosts]
    assert status(send(emu, line, headers, host="")) == 400


@pytest.mark.parametrize(
    ("origin", "served"),
    [
        ("http://127.0.0.1:80", True),
        ("HTTP://127.0.0.1:80", True),
        ("http://127.0.0.1:81", False),
        ("http://127.0.0.1", False),
        ("http://localhost:80", False),
        ("http://127.0.0.1:80.attacker.example", False),
        ("", False),
        ("file://", False),
        ("moz-extension://1", False),
    ],
)
def test_only_the_emulators_own_origin_is_served(emu: Emulator, origin: str, served: bool) -> None:
    headers = [("Origin", origin)]
    answer = send(emu, "GET /_emulator/health", headers, host="127.0.0.1:80")
    assert status(answer) == (200 if served else 403)
    twice = [("Origin", "http://127.0.0.1:80"), *headers]
    answer = send(emu, "GET /_emulator/health", twice, host="127.0.0.1:80")
    assert status(answer) == (200 if served else 403)


@pytest.mark.parametrize(
    ("site", "served"),
    [("none", True), ("same-origin", True), ("same-site", False), ("cross-site", False)],
)
def test_a_browser_says_where_a_request_comes_from(emu: Emulator, site: str, served: bool) -> None:
    answer = send(emu, "GET /_emulator/health", [("Sec-Fetch-Site", site)])
    assert status(answer) == (200 if served else 403)


@pytest.mark.parametrize(
    ("types", "accepted"),
    [
        (["application/json"], True),
        (["Application/JSON ; charset=utf-8"], True),
        ([], False),
        ([""], False),
        (["text/plain"], False),
        (["text/plain;application/json"], False),
        (["text/plain, application/json"], False),
        (["application/x-www-form-urlencoded"], False),
        (["multipart/form-data; boundary=x"], False),
        (["application/json-seq"], False),
        (["application/json", "text/plain"], False),
        (["text/plain", "application/json"], False),
    ],
)
def test_only_json_is_taken(emu: Emulator, types: List[str], accepted: bool) -> None:
    headers = [("Content-Type", value) for value in types]
    for line, body in [
        ("POST /_emulator/faults", FAULT),
        ("POST /v1/auth/anonymous", b'{"kind": "cli"}'),
        ("POST /_emulator/reset", b"{}"),
    ]:
        answer = send(emu, line, [*headers, ("X-Arkor-Client", "arkor/1.0.0")], body)
        assert (status(answer) == 415) != accepted
        assert (b"give application/json" in answer) != accepted


def test_an_empty_form_cannot_reset_it(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    form = [("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", "0")]
    assert status(send(emu, "POST /_emulator/reset", form)) == 415
    assert job_id in emu.jobs
    # Without a body there is no type: as `curl -X POST` sends it.
    assert status(send(emu, "POST /_emulator/reset", [])) == 204
    assert emu.jobs == {}


def test_who_is_refused_is_refused_before_the_body(emu: Emulator) -> None:
    with socket.create_connection(("127.0.0.1", emu.port), timeout=PATIENCE) as sock:
        sock.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9000000\r\n\r\n"
        )
        assert status(sock.recv(1000)) == 403
