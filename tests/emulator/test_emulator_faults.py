from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.emulator import KINDS, Emulator, Fault, FaultBook, Frame, ScriptedEngine
from arkor_sync.emulator.faults import EVENT, REQUEST, RequestTarget, fire_faults
from arkor_sync.emulator.http.faulty_encoder import mix_newlines
from support.emulator_client import Client, SseEvent, live, parse_sse
from support.waiting import PATIENCE

BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


@pytest.fixture
def emu() -> Iterator[Emulator]:
    """Jobs have three events, ids 1 to 3, and an end."""
    with Emulator(ScriptedEngine(steps=1)) as emulator:
        yield emulator
        assert emulator.errors == []


def partial(response: requests.Response) -> bytes:
    """Read what a cut body still gives, and check that it was cut."""
    body = b""
    with pytest.raises(BROKEN):  # noqa: PT012
        for piece in response.iter_content(1):
            body += piece
    return body


def ids(events: List[SseEvent]) -> List[Optional[str]]:
    return [event.id for event in events]


# -- instead of an answer -------------------------------------------------------------------------


def test_refuse_resets_new_connections(emu: Emulator, client: Client) -> None:
    emu.faults.add(Fault("refuse", count=2))
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            client.get("/v1/me")
    assert client.get("/v1/me").ok
    assert emu.faults.fired() == 2
    assert len(emu.requests) == 1


def test_refuse_on_a_route_resets_its_requests(emu: Emulator, client: Client) -> None:
    emu.faults.add(Fault("refuse", route="list_jobs"))
    assert client.get("/v1/me").ok
    with pytest.raises(requests.ConnectionError):
        client.get("/v1/jobs")
    assert client.get("/v1/jobs").ok


def test_refusing_closes_the_port_for_a_while(emu: Emulator, client: Client) -> None:
    url = emu.url
    with emu.refusing(), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", emu.port), timeout=PATIENCE)
    assert emu.url == url
    assert client.get("/v1/me").ok


def test_refusing_leaves_open_streams_open(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(events=[]))
    with client.open(job_id) as response, emu.refusing():
        emu.publish(job_id, {"type": "training.started"})
        assert next(live(response)).id == "1"


def test_accept_then_drop_obeys_nothing(emu: Emulator, client: Client) -> None:
    emu.faults.add(Fault("accept_then_drop", route="create_job"))
    with pytest.raises(requests.ConnectionError):
        client.submit()
    assert emu.jobs == {}
    assert emu.requests[-1].status is None
    assert client.submit()


@pytest.mark.parametrize("kind", ["cut_mid_event", "reset_peer", "cut_clean"])
def test_an_answer_may_be_lost_after_the_request_was_obeyed(
    emu: Emulator, client: Client, kind: str
) -> None:
    emu.faults.add(Fault(kind, route="create_job"))
    if kind == "cut_clean":
        client.submit()
    else:
        with pytest.raises(requests.RequestException):
            client.submit()
    assert len(emu.jobs) == 1
    # Not over the same session: it may still trust the connection that was closed.
    with Client(emu) as other:
        assert other.get("/v1/jobs").ok


def test_a_stall_before_the_headers_follows_the_clock() -> None:
    with Emulator(speed=0) as emu, Client(emu) as client:
        emu.faults.add(Fault("stall_before_headers", seconds=5, route="me"))
        with pytest.raises(requests.ReadTimeout):
            client.get("/v1/me", timeout=(PATIENCE, 0.1))
        emu.wait_for(emu.faults.fired)  # which a machine that stands still may not have come to
        assert client.get("/v1/me").ok
    with Emulator(speed=1000) as emu, Client(emu) as client:
        emu.faults.add(Fault("stall_before_headers", seconds=5, route="me"))
        assert client.get("/v1/me").ok
        assert emu.faults.fired() == 1


def test_stop_ends_a_stall(emu: Emulator) -> None:
    emu.faults.add(Fault("stall_before_headers"))
    with socket.create_connection(("127.0.0.1", emu.port), timeout=PATIENCE) as sock:
        sock.sendall(b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\n\r\n")
        emu.wait_for(emu.faults.fired)
        emu.stop()
        assert sock.recv(1) == b""


def test_status_and_retry_after(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    emu.faults.add(Fault("status", route="stream", status=503, retry_after=2, count=2))
    for _ in range(2):
        response = client.open(job_id)
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "2"
        assert response.json() == {"error": "fault"}
    assert ids(client.read(job_id)) == ["1", "2", "3", None]
    assert [r.status for r in emu.requests] == [503, 503, 200]
    assert [c.number for c in emu.connections()] == [1]


def test_a_wrong_content_type_and_a_redirect(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    emu.faults.add(Fault("wrong_content_type"), Fault("redirect", nth=2))
    response = client.open(job_id)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html"
    assert b"<!doctype" in response.content
    response = client.get(f"/v1/jobs/{job_id}/events/stream", allow_redirects=False)
    assert response.status_code == 302
    assert client.get(response.headers["Location"]).ok
    assert ids(client.read(job_id))[0] == "1"


def test_an_expired_token_is_401_from_then_on(emu: Emulator, client: Client) -> None:
    emu.faults.add(Fault("expire_token", route="me"))
    assert client.get("/v1/jobs").ok
    assert client.get("/v1/me").status_code == 401
    assert client.get("/v1/jobs").status_code == 401
    emu.add_token("renewed")
    with Client(emu, "renewed") as renewed:
        assert renewed.get("/v1/jobs").ok
    emu.reset()
    assert client.get("/v1/me").ok


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_token_may_expire_in_the_middle_of_a_stream(
    emu: Emulator, client: Client, framing: str
) -> None:
    emu.settings.framing = framing
    job_id = emu.create_job()
    emu.faults.add(Fault("expire_token", event="2"))
    assert ids(client.read(job_id)) == ["1", "2"]
    assert client.open(job_id, "2").status_code == 401


def test_replay_gone_is_410_for_a_resume_only(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    emu.faults.add(Fault("replay_gone"))
    assert ids(client.read(job_id)) == ["1", "2", "3", None]
    assert client.open(job_id, "1").status_code == 410
    assert ids(client.read(job_id, "1")) == ["2", "3", None]


# -- how an answer is written ---------------------------------------------------------------------


def test_replay_all_ignores_the_resume_id(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    emu.faults.add(Fault("replay_all"))
    assert ids(client.read(job_id, "2")) == ["1", "2", "3", None]
    assert ids(client.read(job_id, "2")) == ["3", None]


@pytest.mark.parametrize(
    "fault", [Fault("slice"), Fault("slice", size=7), Fault("slow_drip", size=50, seconds=0.001)]
)
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_slices_change_nothing_but_the_packets(
    emu: Emulator, client: Client, fault: Fault, framing: str
) -> None:
    emu.settings.framing = framing
    job_id = emu.create_job()
    emu.faults.add(fault)
    assert ids(client.read(job_id)) == ["1", "2", "3", None]
    assert client.get("/v1/me").ok
    assert emu.faults.fired(fault) == 1


def test_slices_cut_plain_answers_too(emu: Emulator, client: Client) -> None:
    emu.faults.add(Fault("slice", route="me"))
    assert client.get("/v1/me").json()["orgs"]


@pytest.mark.parametrize("kind", ["split_crlf", "mixed_newlines", "bom"])
def test_other_line_ends_and_the_byte_order_mark(emu: Emulator, client: Client, kind: str) -> None:
    job_id = emu.create_job(ScriptedEngine(steps=4))
    plain = client.open(job_id).content
    emu.faults.add(Fault(kind))
    odd = client.open(job_id).content
    assert odd != plain
    assert odd.startswith(b"\xef\xbb\xbf") == (kind == "bom")
    assert odd.count(b"\r\n") == (
        plain.count(b"\n") if kind == "split_crlf" else odd.count(b"\r\n")
    )
    assert normal(odd) == plain


def test_mixed_newlines_are_split_without_changing_what_they_mean(
    emu: Emulator, client: Client
) -> None:
    job_id = emu.create_job(ScriptedEngine(steps=4))
    plain = client.open(job_id).content
    emu.faults.add(Fault("split_crlf"), Fault("mixed_newlines"))
    assert normal(client.open(job_id).content) == plain


def normal(body: bytes) -> bytes:
    return body.replace(b"\xef\xbb\xbf", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@given(st.lists(st.sampled_from([b"", b"data: x", b"id: 1"]), max_size=12))
def test_mixed_newlines_mean_the_same(lines: List[bytes]) -> None:
    data = b"\n".join(lines)
    assert normal(mix_newlines(data)) == data


def test_a_server_may_have_forgotten_the_beginning(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    emu.wait_for(lambda: emu.jobs[job_id].terminal)
    emu.faults.add(trim := Fault("trim", route="stream", size=2, count=None))
    assert ids(client.read(job_id)) == ["3", None]
    assert ids(client.read(job_id, "1")) == ["3", None]
    assert ids(client.read(job_id, "2")) == ["3", None]
    assert ids(client.read(job_id, "3")) == [None]
    emu.faults.add(Fault("replay_all", count=None))
    assert ids(client.read(job_id, "3")) == ["3", None]
    assert emu.faults.fired(trim) == 5
    emu.faults.clear()
    emu.faults.add(Fault("trim", size=100))
    assert ids(client.read(job_id)) == [None]
    assert ids(client.read(job_id)) == ["1", "2", "3", None]


def test_what_has_not_happened_yet_is_not_forgotten(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(steps=1, manual=True))
    emu.step(job_id)
    emu.faults.add(Fault("trim", size=2))
    with client.open(job_id) as response:
        emu.step(job_id, 2)
        assert ids([*live(response)]) == ["2", "3", None]


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_drip_cuts_anywhere(emu: Emulator, client: Client, framing: str) -> None:
    emu.settings.framing = framing
    texts = [{"type": "training.log", "note": "größer 世界 🎲"} for _ in range(20)]
    job_id = emu.create_job(ScriptedEngine(events=texts))
    emu.wait_for(lambda: len(emu.jobs[job_id].log) == 20)
    emu.finish(job_id)
    plain = client.open(job_id).content
    emu.faults.add(Fault("drip", size=5, seconds=0.0001), Fault("mixed_newlines"))
    body = client.open(job_id).content
    assert normal(body) == plain
    assert emu.faults.fired() == 2


def test_the_pieces_of_a_drip_are_chunks_of_their_own(emu: Emulator, client: Client) -> None:
    emu.faults.add(Fault("drip", size=3, seconds=0, count=None), Fault("split_crlf", count=None))
    texts = [{"type": "training.log", "note": "世界"} for _ in range(20)]
    job_id = emu.create_job(ScriptedEngine(events=texts))
    emu.wait_for(lambda: len(emu.jobs[job_id].log) == 20)
    emu.finish(job_id)

    def pieces() -> List[bytes]:
        return list(client.open(job_id).raw.read_chunked())

    first, second = pieces(), pieces()
    assert {len(piece) for piece in first} == {1, 2, 3}
    assert any(piece.endswith(b"\r") for piece in first)
    assert any(0x80 <= piece[0] < 0xC0 for piece in first)  # inside a character
    assert b"".join(first) == b"".join(second)
    assert first != second  # each connection is cut elsewhere


def test_pings_with_ids_can_be_resumed_from() -> None:
    with Emulator(ping_interval=10, speed=0) as emu, Client(emu) as client:
        job_id = emu.create_job(ScriptedEngine(events=[{"type": "training.started"}]))
        emu.faults.add(Fault("ids_on_ping"))
        with client.open(job_id) as response:
            events = live(response)
            assert next(events).id == "1"
            emu.advance(11)
            ping = next(events)
            assert (ping.name, ping.id) == ("ping", "ping-1-1")
        emu.finish(job_id, "completed")
        assert ids(client.read(job_id, "ping-1-1")) == ["2", None]


def test_hold_close_keeps_the_connection_after_end(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    emu.faults.add(Fault("hold_close"))
    with client.open(job_id) as response:
        events = live(response)
        assert [next(events).name for _ in range(4)][-1] == "end"
        assert emu.open_streams
    emu.wait_for(lambda: not emu.open_streams)


def test_a_slow_consumer_is_kicked(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(events=[]))
    emu.faults.add(Fault("slow_consumer_kick", seconds=0.05))
    with client.open(job_id) as response:
        for _ in range(30):
            emu.publish_raw(job_id, b"x" * 1_000_000)
        emu.wait_for(lambda: emu.connections() and not emu.open_streams)
        assert len(partial(response)) < 30_000_000


# -- inside an event, or after it -----------------------------------------------------------------


@pytest.mark.parametrize(("byte", "last"), [(0, b""), (5, b"id: 2"), (None, None), (10_000, None)])
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_cut_mid_event(
    emu: Emulator, client: Client, byte: Optional[int], last: Optional[bytes], framing: str
) -> None:
    emu.settings.framing = framing
    job_id = emu.create_job()
    emu.faults.add(Fault("cut_mid_event", event="2", byte=byte))
    response = client.open(job_id)
    body = partial(response) if framing == "chunked" else response.content
    first, _, rest = body.partition(b"\n\n")
    assert first.startswith(b"id: 1")
    if last is None:
        assert rest.startswith(b"id: 2")
        assert rest.endswith(b"\n\n") == (byte == 10_000)
    else:
        assert rest == last
    assert emu.connections()[0].sent == ["1"]
    assert ids(client.read(job_id, "1")) == ["2", "3", None]


@pytest.mark.parametrize(("index", "expected"), [(0, []), (1, ["1"]), (2, ["1", "2"])])
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_cut_clean(
    emu: Emulator, client: Client, index: int, expected: List[str], framing: str
) -> None:
    emu.settings.framing = framing
    job_id = emu.create_job()
    emu.faults.add(Fault("cut_clean", index=index, route="stream"))
    assert ids(client.read(job_id)) == expected
    assert client.get("/v1/me").ok


def test_reset_peer(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    emu.faults.add(Fault("reset_peer", event="training.log"))
    assert ids(parse_sse(partial(client.open(job_id)))) == ["1", "2"]


def test_a_black_hole_is_silent_and_then_drops(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    emu.faults.add(Fault("blackhole", event="1", seconds=0.05), Fault("blackhole", event="2"))
    assert ids(parse_sse(partial(client.open(job_id)))) == ["1"]
    with client.open(job_id, "1") as response:
        assert next(live(response)).id == "2"
        assert emu.open_streams
    emu.wait_for(lambda: not emu.open_streams)


# -- what becomes of an event ---------------------------------------------------------------------


def changed(emu: Emulator, client: Client, *faults: Fault) -> List[SseEvent]:
    """Return the events of a stream that some faults touched."""
    emu.faults.add(*faults)
    return client.read(emu.create_job())


def test_duplicate_skip_reorder_and_repeat_id(emu: Emulator, client: Client) -> None:
    assert ids(changed(emu, client, Fault("duplicate", event="2"))) == ["1", "2", "2", "3", None]
    assert ids(changed(emu, client, Fault("duplicate", times=3, index=1))) == [*"11112", "3", None]
    assert ids(changed(emu, client, Fault("skip", event="2"))) == ["1", "3", None]
    assert emu.connections()[-1].sent == ["1", "3"]
    assert ids(changed(emu, client, Fault("reorder", event="1"))) == ["2", "1", "3", None]
    assert ids(changed(emu, client, Fault("reorder", event="3"))) == ["1", "2", "3", None]
    assert ids(changed(emu, client, Fault("repeat_id", event="2"))) == ["1", "1", "3", None]
    assert ids(changed(emu, client, Fault("repeat_id", event="1"))) == ["1", "2", "3", None]


def test_the_end_can_be_lost(emu: Emulator, client: Client) -> None:
    events = changed(emu, client, Fault("skip", event="end"))
    assert [event.name for event in events][-1] == "training.completed"
    events = changed(emu, client, Fault("skip", event="training.completed"))
    assert [event.name for event in events][-1] == "end"


def test_a_missing_field_and_a_huge_event(emu: Emulator, client: Client) -> None:
    events = changed(
        emu, client, Fault("missing_field", event="2"), Fault("huge_event", event="3", size=70_000)
    )
    assert "type" not in events[1].json
    assert events[1].name == "training.log"
    assert len(events[2].json["padding"]) == 70_000
    assert (
        "step" not in changed(emu, client, Fault("missing_field", value="step", event="2"))[1].json
    )


def test_bad_utf8_spoils_a_text_and_not_the_json(emu: Emulator, client: Client) -> None:
    emu.faults.add(Fault("bad_utf8", event="2"))
    body = client.open(emu.create_job()).content
    with pytest.raises(UnicodeDecodeError):
        body.decode()
    lenient = parse_sse(body.decode("utf-8", "replace").encode())
    assert ids(lenient) == ["1", "2", "3", None]
    assert lenient[1].json["note"] == "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("malformed", '{"type": "training.log", "step": '),
        ("null", "null"),
        ("scalar", "42"),
        ("nan", '{"type": "training.log", "step": 1, "loss": NaN}'),
        ("<html>", "<html>"),
    ],
)
def test_garbage_before_an_event_or_in_its_place(
    emu: Emulator, client: Client, value: str, data: str
) -> None:
    events = changed(emu, client, Fault("garbage", value=value, event="2"))
    assert [(event.id, event.data) for event in events[1:2]] == [(None, data)]
    assert ids(events) == ["1", None, "2", "3", None]
    events = changed(emu, client, Fault("garbage", value=value, event="2", replace=True))
    assert (events[1].id, events[1].data) == ("2", data)
    assert ids(events) == ["1", "2", "3", None]


def test_an_unknown_event_comes_before(emu: Emulator, client: Client) -> None:
    events = changed(emu, client, Fault("unknown_event", event="2"))
    assert (events[1].id, events[1].name) == (None, "training.progress")
    assert events[1].json == {"type": "training.progress"}


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, '{"type": "keepalive"}'),
        ("malformed", '{"type": "training.log", "step": '),
        ('{"type": "training.log", "step": 9}', '{"type": "training.log", "step": 9}'),
    ],
)
def test_frames_that_are_in_no_log(
    emu: Emulator, client: Client, value: Optional[str], data: str
) -> None:
    events = changed(emu, client, Fault("extra_frame", value=value, times=2, event="2"))
    assert [(e.id, e.name, e.data) for e in events[1:3]] == [(None, None, data)] * 2
    assert ids(events) == ["1", None, None, "2", "3", None]
    assert emu.connections()[-1].sent == ["1", "2", "3"]
    # As a greeting, at the end, and before pings.
    events = changed(emu, client, Fault("extra_frame", value=value, index=0))
    assert [event.data for event in events][:1] == [data]
    assert ids(events) == [None, "1", "2", "3", None]
    events = changed(emu, client, Fault("extra_frame", value=value, event="end"))
    assert [event.data for event in events][-2:] == [data, "{}"]


def test_frames_that_only_some_connections_get(emu: Emulator, client: Client) -> None:
    emu.faults.add(
        Fault("extra_frame", route="stream", nth=1, index=0, times=3),
        Fault("unknown_event", route="stream", nth=2, index=0),
        Fault("garbage", route="stream", nth=2, index=0, value="x"),
        Fault("extra_frame", route="stream", nth=3, index=2, value="y"),
    )
    job_id = emu.create_job()
    assert ids(client.read(job_id)) == [None, None, None, "1", "2", "3", None]
    second = client.read(job_id)
    assert [event.data for event in second[:2]] == ['{"type": "training.progress"}', "x"]
    assert ids(second[2:]) == ["1", "2", "3", None]
    assert ids(client.read(job_id)) == ["1", None, "2", "3", None]
    assert ids(client.read(job_id)) == ["1", "2", "3", None]


def test_faults_of_one_event_add_up(emu: Emulator, client: Client) -> None:
    events = changed(
        emu,
        client,
        Fault("garbage", value="a", event="2"),
        Fault("unknown_event", value="b", event="2"),
        Fault("duplicate", event="2"),
    )
    assert [event.data for event in events[1:3]] == ["a", '{"type": "b"}']
    assert ids(events) == ["1", None, None, "2", "2", "3", None]


def test_faults_leave_hand_made_frames_alone_where_they_cannot_help(
    emu: Emulator, client: Client
) -> None:
    items = [Frame("no json", id="a"), Frame("[]", id="b"), b"data: raw\n\n"]
    job_id = emu.create_job(ScriptedEngine(events=items))
    emu.wait_for(lambda: len(emu.jobs[job_id].log) == 3)
    emu.finish(job_id)
    emu.faults.add(*(Fault(kind, count=None) for kind in ("bad_utf8", "huge_event")))
    assert [event.data for event in client.read(job_id)] == ["no json", "[]", "raw", "{}"]


def test_faults_touch_streamed_answers_of_the_chat(emu: Emulator, client: Client) -> None:
    def ask() -> requests.Response:
        messages = [{"role": "user", "content": "a b c"}]
        body = {"messages": messages, "baseModel": "m", "stream": True}
        return client.post("/v1/inference/chat", body, stream=True)

    whole = parse_sse(ask().content)
    emu.faults.add(Fault("cut_mid_event", route="chat", index=3))
    assert len(parse_sse(partial(ask()))) == 2
    emu.faults.add(Fault("skip", route="chat", index=2))
    assert len(parse_sse(ask().content)) == len(whole) - 1


# -- where and how often --------------------------------------------------------------------------


def test_a_fault_strikes_once_unless_told_otherwise() -> None:
    book = FaultBook(frozenset({"me"}))
    once, thrice, always = Fault("status"), Fault("redirect", count=3), Fault("refuse", count=None)
    book.add(once, thrice, always)
    struck = [fire_faults(book, REQUEST, RequestTarget(1, "me")) for _ in range(5)]
    assert [len(faults) for faults in struck] == [3, 2, 2, 1, 1]
    assert [book.fired(fault) for fault in (once, thrice, always)] == [1, 3, 5]
    assert book.tally() == [(once, 1), (thrice, 3), (always, 5)]
    book.clear()
    assert book.fired() == 0


@pytest.mark.parametrize(
    ("fault", "strikes"),
    [
        (Fault("status"), True),
        (Fault("status", route="me"), True),
        (Fault("status", route="stream"), False),
        (Fault("status", job="j"), True),
        (Fault("status", job="k"), False),
        (Fault("status", nth=2), True),
        (Fault("status", nth=1), False),
        (Fault("status", probability=0), False),
        (Fault("slice"), False),
    ],
)
def test_where_a_fault_strikes(fault: Fault, strikes: bool) -> None:
    book = FaultBook(frozenset({"me", "stream"}))
    book.add(fault)
    assert bool(fire_faults(book, REQUEST, RequestTarget(2, "me", "j"))) == strikes


@pytest.mark.parametrize(
    ("selector", "strikes"),
    [
        ({}, [False, True, True, False, False]),
        ({"event": "a"}, [False, True, False, False, False]),
        ({"event": "ping"}, [False, False, False, True, False]),
        ({"event": "end"}, [False, False, False, False, True]),
        ({"index": 0}, [True, False, False, False, False]),
        ({"index": 2}, [False, False, True, False, False]),
        ({"index": 2, "event": "a"}, [False, False, False, False, False]),
    ],
)
def test_at_which_event_a_fault_strikes(selector: Dict[str, Any], strikes: List[bool]) -> None:
    book = FaultBook(frozenset())
    book.add(Fault("skip", count=None, **selector))
    moments: List[Any] = [(0, ()), (1, ("a", "x")), (2, ("b", "x")), (None, ("ping",))]
    moments.append((None, ("end",)))
    assert [
        bool(fire_faults(book, EVENT, RequestTarget(1), index=index, names=names))
        for index, names in moments
    ] == strikes


def test_the_nth_request_is_counted_by_route_and_job(emu: Emulator, client: Client) -> None:
    first, second = emu.create_job(), emu.create_job()
    emu.faults.add(Fault("status", route="stream", nth=2, count=None))
    statuses = [client.open(job).status_code for job in (first, second, first, second, first)]
    assert statuses == [200, 200, 503, 503, 200]


def test_chance_is_seeded() -> None:
    def draws(seed: int) -> List[bool]:
        book = FaultBook(frozenset(), seed)
        book.add(Fault("skip", probability=0.5, count=None))
        return [bool(fire_faults(book, EVENT, RequestTarget(1), index=n)) for n in range(1, 65)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert 16 < sum(draws(1)) < 48


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Fault("explode"), "unknown fault 'explode'; there are: accept_then_drop"),
        (lambda: Fault("skip", seconds=1), "takes no 'seconds'"),
        (lambda: Fault("skip", probability=2), "from 0 to 1"),
        (lambda: Fault("status", event="1"), "takes no event and no index"),
        (lambda: Fault("skip", count="2"), "count must be a whole number"),  # type: ignore[arg-type]
        (lambda: Fault("skip", nth=True), "nth must be a whole number"),
        (lambda: Fault("skip", event=2), "event must be a text"),  # type: ignore[arg-type]
        (lambda: Fault("slow_drip", seconds="1"), "seconds must be"),  # type: ignore[arg-type]
        (lambda: Fault("bom", index=1), "takes no event and no index"),
        (lambda: Fault.of([]), "must be an object"),
        (lambda: Fault.of({"route": "me"}), "must have a 'kind'"),
        (lambda: Fault.of({"kind": "skip", "when": 1}), "has no field 'when'"),
        (lambda: FaultBook(frozenset({"me"})).add(Fault("skip", route="mee")), "unknown route"),
    ],
)
def test_a_fault_that_makes_no_sense_is_an_error(make: Callable[[], Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        make()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_goes_through_json(kind: str) -> None:
    fault = Fault(kind, route="stream", nth=2, count=None)
    again = Fault.of(json.loads(json.dumps({**fault.wire(), "count": None})))
    assert again == fault
    assert f"`{kind}`" in str(Fault.__doc__)


def test_whoever_resumes_gets_everything_once_whatever_strikes() -> None:
    kinds = ["cut_mid_event", "cut_clean", "reset_peer", "duplicate", "garbage", "bad_utf8"]
    with Emulator(ScriptedEngine(steps=60), fault_seed=7) as emu, Client(emu) as client:
        job_id = client.submit()
        emu.faults.add(
            *(Fault(kind, route="stream", probability=0.05, count=None) for kind in kinds),
            Fault("status", route="stream", probability=0.2, count=None),
            Fault("accept_then_drop", route="stream", probability=0.1, count=None),
            Fault("slice", size=9, probability=0.2, count=None),
        )
        seen: List[str] = []
        ended = False
        while not ended:
            assert len(emu.requests) < 500
            body = b""
            try:
                with client.open(job_id, seen[-1] if seen else None) as response:
                    for piece in response.iter_content(64):
                        body += piece
            except requests.RequestException:
                pass
            events = parse_sse(body.decode("utf-8", "replace").encode())
            seen += [e.id for e in events if e.id and int(e.id) > int(seen[-1] if seen else 0)]
            ended = "end" in [event.name for event in events]
        assert list(dict.fromkeys(seen)) == [str(n) for n in range(1, 63)]
        assert emu.faults.fired() > 10
        assert emu.errors == []


# -- from files and over HTTP ---------------------------------------------------------------------


def test_faults_from_a_json_file(emu: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"faults": [{"kind": "skip", "event": 2, "count": null}]}')
    emu.faults.load(path)
    assert emu.faults.tally() == [(Fault("skip", event="2", count=None), 0)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{}", "no list of faults"),
        ('{"faults": {}}', "no list of faults"),
        ("[]", "top level"),
        ("{", "faults.json: "),
        ('{"faults": [{"kind": "no"}]}', "unknown fault"),
    ],
)
def test_a_file_that_makes_no_sense(emu: Emulator, tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "faults.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=error):
        emu.faults.load(path)


def test_faults_from_a_toml_file(emu: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text('[[faults]]\nkind = "status"\nstatus = 500\nroute = "stream"\n')
    try:
        import tomllib  # noqa: F401 # novermin
    except ImportError:
        with pytest.raises(ValueError, match=r"needs Python 3\.11"):
            emu.faults.load(path)
    else:
        emu.faults.load(path)
        assert emu.faults.tally() == [(Fault("status", status=500, route="stream"), 0)]
        path.write_text("[[faults")
        with pytest.raises(ValueError, match=r"faults\.toml: "):
            emu.faults.load(path)


def test_faults_over_http(emu: Emulator, client: Client) -> None:
    url = emu.url + "/_emulator/faults"
    skip = {"kind": "skip", "event": "2"}
    response = requests.post(url, json=[skip, {"kind": "status", "route": "me"}], timeout=PATIENCE)
    assert response.status_code == 201
    assert client.get("/v1/me").status_code == 503
    listed = requests.get(url, timeout=PATIENCE).json()["faults"]
    assert listed[0] == {**skip, "count": 1, "probability": 1.0, "fired": 0}
    assert listed[1]["fired"] == 1
    assert ids(client.read(emu.create_job())) == ["1", "3", None]
    assert requests.post(url, json={"kind": "no"}, timeout=PATIENCE).status_code == 400
    assert (
        requests.post(url, json={"kind": "skip", "probability": "x"}, timeout=PATIENCE).status_code
        == 400
    )
    assert requests.delete(url, timeout=PATIENCE).status_code == 204
    assert requests.get(url, timeout=PATIENCE).json() == {"faults": []}


def test_health_requests_and_reset_over_http(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(manual=True))
    emu.step(job_id)
    with client.open(job_id) as response:
        events = live(response)
        assert next(events).id == "1"
        health = requests.get(emu.url + "/_emulator/health", timeout=PATIENCE).json()
        assert health == {
            "status": "ok",
            "orgSlug": emu.org_slug,
            "projectSlug": emu.project_slug,
            "projectId": emu.project_id,
            "jobs": {job_id: "running"},
            "openStreams": 1,
        }
        listed = requests.get(emu.url + "/_emulator/requests", timeout=PATIENCE).json()["requests"]
        assert [r["route"] for r in listed] == ["stream"]
        assert emu.token not in json.dumps(listed)
        emu.faults.add(Fault("skip"))
        assert requests.post(emu.url + "/_emulator/reset", timeout=PATIENCE).status_code == 204
        assert next(events).name == "end"
    assert (emu.jobs, emu.requests, emu.connections(), emu.faults.tally()) == ({}, [], [], [])
    assert requests.get(emu.url + "/_emulator/nope", timeout=PATIENCE).status_code == 404
    assert client.get("/v1/projects").json()["projects"][0]["id"] == emu.project_id
