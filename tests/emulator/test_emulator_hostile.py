"""Requests that are malformed, endless or huge, over bare sockets; and what the system refuses."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import requests

from arkor_sync.emulator import Emulator, Fault, Frame, ScriptedEngine
from arkor_sync.emulator.http import reading, server
from support.emulator_client import MODEL, Client, live
from support.hang_phases import no_descriptor_left
from support.servers import CERTIFICATE, KEY
from support.waiting import PATIENCE, until

HOST = b"Host: 127.0.0.1\r\n"
JSON = b"Content-Type: application/json\r\n"
NEXT = b"POST /_emulator/reset HTTP/1.1\r\n" + HOST + b"\r\n"  # what a smuggler would add


@contextlib.contextmanager
def connected(emu: Emulator) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", emu.port), timeout=PATIENCE) as sock:
        yield sock


def rest(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def statuses(answers: bytes) -> List[int]:
    """Return the status of each answer that came over one connection."""
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


# -- which request is it, and where does it end ---------------------------------------------------


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", 411),
        (b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: identity\r\n", 411),
        (b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding:\x0bchunked\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 0\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 4, 4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: -1\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: +4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 0x4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 4_0\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 4 4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 4.0\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length:\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: " + b"0" * 60_000 + b"x\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nX:" + b" " * 60_000 + b"\x01\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: \xb2\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: \xd9\xa4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length : 4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\n Content-Length: 4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nX: y\r\n folded: z\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nX: y\rContent-Length: 4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nX: y\x00\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nX: y\nContent-Length: 4\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nno colon\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\n: no name\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nX\xe9: y\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 99999999999\r\n", 413),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n", 413),
        (b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 16777217\r\n", 413),
        (b"GET  /v1/me HTTP/1.1\r\n", 400),
        (b"GET\t/v1/me HTTP/1.1\r\n", 400),
        (b"GET /v1/me HTTP/1.1 \r\n", 400),
        (b"GET /v1/m e HTTP/1.1\r\n", 400),
        (b"GET /v1/me\r\n", 400),
        (b"GET /v1/m\xc3\xa9 HTTP/1.1\r\n", 400),
        (b"GET /v1/me HTTP/1.1\n", 400),
        (b"GET /v1/me http/1.1\r\n", 400),
        (b"GET /v1/me HTTP/2.0\r\n", 505),
        (b"GET /v1/me HTTP/0.9\r\n", 505),
        (b"G(T /v1/me HTTP/1.1\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n", 403),
        (b"nonsense\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n", 400),
        (b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\n", 414),
        (b"GET /v1/me HTTP/1.1\r\nX: " + b"x" * 65536 + b"\r\n", 431),
        (b"GET /v1/me HTTP/1.1\r\n" + b"X: y\r\n" * 11_000, 431),
    ],
    ids=lambda value: repr(value)[:80],
)
def test_a_request_that_could_be_read_in_two_ways_is_refused(
    emu: Emulator, head: bytes, status: int
) -> None:
    job_id = emu.create_job()
    with connected(emu) as sock:
        sock.sendall(head + HOST + b"\r\n" + NEXT + b"0\r\n\r\n" + NEXT)
        # One answer, and then the connection is closed: nothing after it is taken for a request.
        assert statuses(rest(sock)) == [status]
    assert emu.requests == []
    assert job_id in emu.jobs


def test_what_is_allowed_is_read(emu: Emulator, client: Client) -> None:
    get = b"GET /_emulator/health HTTP/1.1\r\n"
    for head in [
        b"\r\n" + get + HOST,  # a blank line before the request
        get + b"host:127.0.0.1 \t\r\n",
        get + HOST + b"X:\r\nX: \xe9\ty\r\n",
        get + HOST + b"Content-Length: 000\r\n",
        get.replace(b"1.1", b"1.0") + HOST,
    ]:
        with connected(emu) as sock:
            sock.sendall(head + b"\r\n")
            assert statuses(rest(sock)) == [200]


def test_requests_may_follow_each_other_without_waiting(emu: Emulator, client: Client) -> None:
    head = HOST + b"X-Arkor-Client: arkor/1.0.0\r\n"
    one = b"POST /v1/auth/anonymous HTTP/1.1\r\n" + head + JSON + b"Content-Length: 2\r\n\r\n{}"
    with connected(emu) as sock:
        last = one.replace(b"\r\n", b"\r\nConnection: x, Close\r\n", 1)
        sock.sendall(one + one + last + one)
        assert statuses(rest(sock)) == [400, 400, 400]
    with connected(emu) as sock:  # the answer to HEAD is not taken for that to the next request
        sock.sendall(b"HEAD /v1/me HTTP/1.1\r\n" + head + b"\r\n" + one)
        assert statuses(rest(sock)) == [405]


@pytest.mark.parametrize("size", [reading.MAX_BODY + 1, 3 * reading.MAX_BODY])
def test_who_sends_too_large_a_body_gets_the_answer_nevertheless(client: Client, size: int) -> None:
    as_json = {"Content-Type": "application/json"}
    response = client.call("POST", "/v1/jobs", data=b" " * size, headers=as_json)
    assert response.status_code == 413
    assert "larger than 16777216 bytes" in response.json()["error"]
    assert client.get("/v1/me").ok


def test_who_sends_too_long_a_header_gets_the_answer_nevertheless(client: Client) -> None:
    response = client.get("/v1/me", headers={"Last-Event-ID": "x" * 1_000_000})
    assert response.status_code == 431
    assert "65536 bytes" in response.json()["error"]


# -- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"G",
        b"GET /v1/me HTTP/1.1\r\nX: ",
        b"POST /v1/jobs HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 100000\r\n\r\n{",
    ],
    ids=["line", "header", "body"],
)
def test_a_request_that_comes_byte_by_byte_is_given_up(
    emu: Emulator, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "REQUEST_SECONDS", 0.2)
    with connected(emu) as sock:
        sock.sendall(sent)
        sock.settimeout(0.01)

        def drip() -> bytes:
            with contextlib.suppress(socket.timeout):
                return sock.recv(1000)
            sock.sendall(b"x")
            return b""

        assert statuses(until(drip)) == [408]
    assert emu.requests == []


@pytest.mark.parametrize("sent", [b"", b"GET /_emulator/nope HTTP/1.1\r\n" + HOST + b"\r\n"])
def test_a_connection_without_a_request_is_given_up(
    emu: Emulator, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "IDLE_SECONDS", 0.05)
    with connected(emu) as sock:
        sock.sendall(sent.replace(b"_emulator", b"v1"))
        assert statuses(rest(sock)) == ([426] if sent else [])


def test_a_handshake_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.05)
    with Emulator(tls=(CERTIFICATE, KEY)) as emu, connected(emu) as sock:
        sock.sendall(b"\x16")
        assert rest(sock) == b""
        assert emu.errors == []


def test_a_slow_answer_has_no_deadline(
    emu: Emulator, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "REQUEST_SECONDS", 0.2)
    job_id = emu.create_job(ScriptedEngine(events=[{"type": "training.started"}]))
    with client.open(job_id) as response:
        events = live(response)
        assert next(events).id == "1"
        threading.Event().wait(0.3)
        emu.finish(job_id, "completed")
        assert [event.name for event in events] == ["training.completed", "end"]


# -- memory and stack -----------------------------------------------------------------------------

DEEP = 100_000


def nested(opening: bytes, middle: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + middle + closing * depth


@pytest.mark.parametrize("depth", [201, 990, 5_000, DEEP])
@pytest.mark.parametrize("brackets", [(b"[", b"1", b"]"), (b'{"a":', b"1", b"}")])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/inference/chat", "/_emulator/faults"])
def test_json_that_is_nested_too_deeply_is_400(
    emu: Emulator, client: Client, path: str, brackets: Any, depth: int
) -> None:
    as_json = {"Content-Type": "application/json"}
    for body in (nested(*brackets, depth), brackets[0] * depth):
        response = client.call("POST", path, data=body, headers=as_json)
        assert response.status_code == 400
        assert "JSON" in response.json()["error"]
    assert emu.errors == []


def test_json_that_is_nested_as_deeply_as_allowed_is_stored_and_shown(
    emu: Emulator, client: Client
) -> None:
    value: Any = 1
    for _ in range(198):
        value = [value]
    job_id = client.submit(unknown=value)
    assert client.get(f"/v1/jobs/{job_id}").json()["job"]["config"]["unknown"] == value
    listed = client.get("/_emulator/requests").json()["requests"]
    assert listed[0]["body"]["config"]["unknown"] == value
    tool = {"type": "function", "function": {"name": "t", "parameters": {"not": value}}}
    body = {"tools": [tool], "toolChoice": "required", "baseModel": MODEL}
    for strict in (False, True):
        tool["function"]["strict"] = strict  # type: ignore[index]
        assert client.chat(**body).status_code in (200, 400)


def test_an_event_that_is_nested_too_deeply_harms_nobody(emu: Emulator, client: Client) -> None:
    deep = "[" * DEEP + "]" * DEEP
    job_id = emu.create_job(ScriptedEngine(events=[Frame(deep, "1"), {"type": "training.log"}]))
    emu.wait_for(lambda: len(emu.jobs[job_id].log) == 2)
    emu.finish(job_id, "completed")
    events = client.get(f"/v1/jobs/{job_id}").json()["events"]
    assert [event["type"] for event in events] == ["training.log", "training.completed"]
    emu.faults.add(Fault("huge_event", event="1", size=1), Fault("missing_field", event="1"))
    assert client.read(job_id)[0].data == deep


def test_a_data_set_that_is_nested_too_deeply_fails_the_job(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("[" * DEEP + "]" * DEEP)
    said = "the data set's line 1 is not valid JSON"
    source = {"type": "blob", "url": (tmp_path / "data.jsonl").as_uri()}
    with Emulator() as emu:
        job_id = emu.create_job(config={"datasetSource": source})
        emu.wait_for(lambda: emu.jobs[job_id].terminal)
        assert emu.jobs[job_id].error == f"{said}: {tmp_path / 'data.jsonl'}"
        assert emu.errors == []


@pytest.mark.parametrize("path", ["a b", "\x7f", "a\r\nX: y", "\ud800"])
def test_a_data_set_with_an_impossible_url_fails_the_job(path: str) -> None:
    with Emulator() as emu:
        source = {"type": "blob", "url": f"http://127.0.0.1:9/{path}"}
        job_id = emu.create_job(config={"datasetSource": source})
        emu.wait_for(lambda: emu.jobs[job_id].terminal)
        assert str(emu.jobs[job_id].error).startswith("the data set could not be read")
        assert emu.errors == []


def arrays(levels: int, items: int) -> Dict[str, Any]:
    schema: Dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema, "minItems": items}
    return schema


LOOP: Dict[str, Any] = {"$ref": "#"}
TOO_MUCH: Dict[str, Dict[str, Any]] = {
    "items": {"type": "array", "items": {"type": "string"}, "minItems": 10**9},
    "items as a float": {"type": "array", "minItems": 1e18},
    "more items than a number": {"type": "array", "minItems": 10**300},
    "empty items": {"type": "array", "items": {"type": "object"}, "minItems": 10**9},
    "arrays in arrays": arrays(9, 1000),
    "arrays in arrays, of two": arrays(40, 2),
    "a long text often": {"type": "array", "items": {"const": "x" * 100_000}, "minItems": 1000},
    "a long name often": {
        "type": "array",
        "minItems": 1000,
        "items": {"properties": {"n" * 1000: {"type": "null"}}},
    },
    "a long enum": {"enum": [["x" * 1000] * 1000]},
    "very many properties": {"properties": {str(n): {"type": "null"} for n in range(20_000)}},
    "itself": LOOP,
    "itself, by another": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#"}}},
    "itself, as a choice": {"anyOf": [LOOP]},
    "itself, required": {"properties": {"a": LOOP}, "required": ["a"]},
    "itself, ten times": {
        "properties": {str(n): LOOP for n in range(10)},
        "required": [str(n) for n in range(10)],
    },
    "itself, in an array": {"type": "array", "items": LOOP, "minItems": 2},
}
ENOUGH: Dict[str, Dict[str, Any]] = {
    "minLength": {"type": "string", "minLength": 10**9},
    "minProperties": {"type": "object", "minProperties": 10**9},
    "pattern": {"type": "string", "pattern": "(a{1000}){1000}{1000}(a+)+$"},
    "minContains": {"type": "array", "contains": {"type": "integer"}, "minContains": 10**9},
    "minimum": {"type": "integer", "minimum": 10**300},
    "a long list of choices": {"enum": list(range(20_000))},
    "a tree": {
        "properties": {"children": {"type": "array", "items": LOOP}, "up": {"anyOf": [LOOP]}}
    },
    "a list of nodes": {
        "properties": {"n": {"type": "integer"}, "next": {"anyOf": [LOOP, {"type": "null"}]}},
        "required": ["n", "next"],
    },
}
MALFORMED: Dict[str, Dict[str, Any]] = {
    "minItems": {"type": "array", "minItems": "many"},
    "minItems null": {"type": "array", "minItems": None},
    "enum": {"enum": {"a": 1}},
    "anyOf": {"anyOf": {"a": 1}},
    "properties": {"properties": [1]},
    "required": {"type": "object", "properties": {}, "required": "all"},
    "$ref": {"$ref": 5},
}


@pytest.fixture(scope="module")
def chatty() -> Iterator[Client]:
    with Emulator() as emu, Client(emu) as client:
        assert client.chat(baseModel=MODEL).ok  # the base model is trained by now
        yield client
        assert emu.errors == []


def ways_to_ask(schema: Dict[str, Any]) -> List[Dict[str, Any]]:
    function = {"name": "f", "parameters": schema}
    wrapper = {"name": "s", "schema": schema}
    return [
        {"structuredOutputs": {"json": schema}},
        {"responseFormat": {"type": "json_schema", "json_schema": wrapper}},
        {"tools": [{"type": "function", "function": function}], "toolChoice": "required"},
    ]


def peak_of(act: Callable[[], None]) -> int:
    """Return how many bytes it took at most, in all threads together."""
    tracemalloc.start(1)
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("schema", "status"),
    [pytest.param(schema, 400, id=f"too much: {name}") for name, schema in TOO_MUCH.items()]
    + [pytest.param(schema, 200, id=f"enough: {name}") for name, schema in ENOUGH.items()]
    + [pytest.param(schema, 400, id=f"malformed: {name}") for name, schema in MALFORMED.items()],
)
def test_no_schema_takes_all_memory(chatty: Client, schema: Dict[str, Any], status: int) -> None:
    def ask() -> None:
        for asked in ways_to_ask(schema)[: 3 if len(str(schema)) < 10_000 else 1]:
            response = chatty.chat(baseModel=MODEL, maxTokens=2000, **asked)
            assert response.status_code == status, response.text
            if status == 400:
                assert "the schema" in response.json()["error"]

    assert peak_of(ask) < 64 << 20


STRICT = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}


@pytest.mark.parametrize(
    "asked",
    [
        {"toolChoice": {"type": "function", "function": "f"}},
        {"toolChoice": {"type": "function", "function": {"name": ["f"]}}},
        {"toolChoice": {"type": "function", "function": {"name": {}}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": [STRICT]}}]},
        *(
            {
                "responseFormat": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "s",
                        "strict": True,
                        "schema": {**STRICT, "required": required},
                    },
                }
            }
            for required in ([{}], 7, "a", {"a": 1})
        ),
    ],
    ids=str,
)
def test_a_malformed_question_is_400(chatty: Client, asked: Dict[str, Any]) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    response = chatty.chat(baseModel=MODEL, **{"tools": tools, "toolChoice": "none", **asked})
    assert response.status_code == 400


def test_an_answer_has_an_end_whatever_is_asked_for(chatty: Client) -> None:
    response = chatty.chat("a b c", baseModel=MODEL, maxTokens=10**9, temperature=0)
    assert response.json()["usage"]["completion_tokens"] <= 131_072


# -- what the system refuses ----------------------------------------------------------------------


class Refusal:
    """Refuses to start threads, while a name is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name = ""
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if self.name and thread.name.startswith(self.name):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> Refusal:
    return Refusal(monkeypatch)


def test_a_connection_that_gets_no_thread_is_reset_and_the_next_is_served(
    emu: Emulator, client: Client, no_thread: Refusal
) -> None:
    no_thread.name = "arkor-emulator-connection"
    for _ in range(3):
        with pytest.raises(requests.ConnectionError):
            client.get("/v1/me")
    no_thread.name = ""
    assert client.get("/v1/me").ok
    assert {str(error) for error in emu.errors} == {"can't start new thread"}
    emu.errors.clear()


def test_an_emulator_that_gets_no_thread_leaves_nothing_behind(
    no_thread: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    no_thread.name = "arkor-emulator-accept"
    emu = Emulator(ScriptedEngine(steps=1))
    with no_descriptor_left():
        with pytest.raises(RuntimeError, match="can't start new thread"):
            emu.start()
        assert list(tmp_path.iterdir()) == []
    no_thread.name = ""
    with emu, Client(emu) as client:
        assert client.get("/v1/me").ok
        no_thread.name = "arkor-emulator-accept"
        with pytest.raises(RuntimeError, match="can't start"), emu.refusing():
            pass


def test_a_job_that_gets_no_thread_is_not_accepted(
    emu: Emulator, client: Client, no_thread: Refusal
) -> None:
    no_thread.name = "arkor-emulator-job"
    body = {"name": "x", "config": {"model": MODEL, "datasetSource": {"type": "huggingface"}}}
    body["config"]["datasetSource"]["name"] = "d"  # type: ignore[index]
    assert client.post("/v1/jobs", body).status_code == 500
    with pytest.raises(RuntimeError, match="can't start new thread"):
        emu.create_job()
    assert emu.jobs == {}
    no_thread.name = ""
    assert client.post("/v1/jobs", body).status_code == 201
    emu.errors.clear()


TOO_MANY_FILES = textwrap.dedent(
    """
    import contextlib, json, os, resource, socket, threading, time
    from arkor_sync.emulator import Emulator, ScriptedEngine

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    REQUEST = (
        "GET /v1/jobs/%s/events/stream?orgSlug=%s&projectSlug=%s HTTP/1.1\\r\\n"
        "Host: localhost\\r\\nAuthorization: Bearer %s\\r\\nX-Arkor-Client: arkor/1.0.0\\r\\n\\r\\n"
    )
    with Emulator(ScriptedEngine(events=[])) as emu, contextlib.ExitStack() as files:
        job_id = emu.create_job()
        request = REQUEST % (job_id, emu.org_slug, emu.project_slug, emu.token)
        early, late = (socket.socket() for _ in range(2))
        for sock in (early, late):
            sock.settimeout(60)
        early.connect(("127.0.0.1", emu.port))
        early.sendall(request.encode())
        emu.wait_for(lambda: emu.open_streams)
        with contextlib.suppress(OSError):
            while True:
                files.callback(os.close, os.dup(0))
        late.connect(("127.0.0.1", emu.port))
        late.sendall(request.encode())
        cpu = time.process_time()
        time.sleep(1)
        cpu = time.process_time() - cpu
        # The stream that was open goes on, although a descriptor cannot be had for anything.
        emu.publish(job_id, {"type": "training.started"})
        emu.wait_for(lambda: emu.connections()[0].sent == ["1"])
        still_open = len(emu.open_streams)
        files.close()
        served = late.recv(12).decode()
        print(json.dumps([cpu, still_open, served, [str(e) for e in emu.errors]]))
    """
)


def test_too_many_open_files_use_no_cpu_and_pass_by() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOO_MANY_FILES],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    cpu, still_open, served, errors = json.loads(done.stdout)
    assert cpu < 0.5  # of one second
    assert still_open == 1
    assert served == "HTTP/1.1 200"
    assert errors == []
