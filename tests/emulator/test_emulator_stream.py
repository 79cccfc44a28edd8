from __future__ import annotations

import http.client
import threading
import time
from typing import List, Optional

import pytest
import urllib3

from arkor_sync.emulator import Emulator, Frame, ScriptedEngine
from support.emulator_client import Client, live, parse_sse
from support.waiting import PATIENCE, shortest


def names(events: List) -> List[Optional[str]]:
    return [event.name for event in events]


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_stream_carries_the_log_and_then_end(framing: str) -> None:
    with Emulator(ScriptedEngine(steps=2), framing=framing) as emu, Client(emu) as client:
        job_id = client.submit()
        events = client.read(job_id)
        assert names(events) == [
            "training.started",
            "training.log",
            "training.log",
            "training.completed",
            "end",
        ]
        assert [event.id for event in events] == ["1", "2", "3", "4", None]
        for event in events[:-1]:
            assert event.json["type"] == event.name
            assert event.json["jobId"] == job_id
            assert event.json["timestamp"].endswith("Z")
        assert events[-1].data == "{}"


def test_a_stream_has_the_headers_of_an_event_stream(emu: Emulator, client: Client) -> None:
    with client.open(emu.create_job()) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-cache, no-transform"


def test_a_finished_stream_leaves_the_connection_usable(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    query = f"orgSlug={emu.org_slug}&projectSlug={emu.project_slug}"
    connection = http.client.HTTPConnection("127.0.0.1", emu.port, timeout=PATIENCE)
    sockets = set()
    for path in (f"/v1/jobs/{job_id}/events/stream?{query}", "/v1/me"):
        connection.request("GET", path, headers=client.headers)
        assert connection.getresponse().read()
        sockets.add(connection.sock)
    assert len(sockets) == 1
    connection.close()


def test_events_arrive_as_they_are_published(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(manual=True))
    with client.open(job_id) as response:
        events = live(response)
        assert emu.step(job_id) == 1
        assert next(events).name == "training.started"
        assert emu.step(job_id, 2) == 2
        assert [next(events).id, next(events).id] == ["2", "3"]
        assert emu.jobs[job_id].status == "running"
        emu.wait_for(lambda: emu.open_streams[0].sent == ["1", "2", "3"])


@pytest.mark.parametrize(
    ("last_event_id", "expected"),
    [
        (None, ["1", "2", "3", "4", "5", "6", None]),
        ("", ["1", "2", "3", "4", "5", "6", None]),
        ("3", ["4", "5", "6", None]),
        ("5", ["6", None]),
        ("6", [None]),
        ("unknown", ["1", "2", "3", "4", "5", "6", None]),
    ],
)
def test_a_stream_resumes_strictly_after_the_last_event_id(
    emu: Emulator, client: Client, last_event_id: Optional[str], expected: List[Optional[str]]
) -> None:
    job_id = emu.create_job()
    emu.wait_for(lambda: emu.jobs[job_id].terminal)
    events = client.read(job_id, last_event_id)
    assert [event.id for event in events] == expected
    assert events[-1].name == "end"
    emu.assert_resumed_from(last_event_id)
    with pytest.raises(AssertionError, match="resumed from '77'"):
        emu.assert_resumed_from("77")


def test_an_id_need_not_be_ascii(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(events=[]))
    emu.publish(job_id, {"type": "training.started"}, id="é✓")
    emu.finish(job_id, "completed")
    for sent in ("é✓".encode(), b"\xe9"):
        events = client.get(
            f"/v1/jobs/{job_id}/events/stream", headers={"Last-Event-ID": sent}
        ).content
        assert (b"training.started" in events) == (sent == b"\xe9")


def test_a_resume_goes_on_with_what_comes_later(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(steps=2, manual=True))
    emu.step(job_id, 2)
    with client.open(job_id, "2") as response:
        events = live(response)
        emu.wait_for(lambda: emu.open_streams)
        emu.step(job_id, 2)
        assert [next(events).id for _ in range(2)] == ["3", "4"]
        assert next(events).name == "end"
    assert [(c.number, c.last_event_id) for c in emu.connections(job_id)] == [(1, "2")]


def test_pings_keep_a_silent_stream_alive() -> None:
    with Emulator(ping_interval=15, speed=0) as emu, Client(emu) as client:
        job_id = emu.create_job(ScriptedEngine(events=[]))
        with client.open(job_id) as response:
            events = live(response)
            for _ in range(2):
                emu.wait_for(lambda: emu.open_streams)
                emu.advance(15.1)
                ping = next(events)
                assert (ping.id, ping.name, ping.data) == (None, "ping", "{}")
            emu.publish(job_id, {"type": "training.started"})
            assert next(events).name == "training.started"


def test_the_clock_can_run_faster() -> None:
    with Emulator(ping_interval=3600, speed=100_000) as emu, Client(emu) as client:
        job_id = emu.create_job(ScriptedEngine(events=[]))
        with client.open(job_id) as response:
            assert next(live(response)).name == "ping"


def test_a_client_that_leaves_is_noticed(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(events=[]))
    response = client.open(job_id)
    other = client.open(job_id)
    assert len(emu.wait_for(lambda: emu.open_streams)) == 2
    response.close()
    emu.wait_for(lambda: len(emu.open_streams) == 1)
    other.close()
    emu.wait_for(lambda: not emu.open_streams)
    assert emu.max_concurrent_streams == 2
    assert [c.number for c in emu.connections(job_id)] == [1, 2]
    assert emu.connections("other") == []


def test_hand_made_events_ids_frames_and_bytes(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(events=[]))
    emu.publish(job_id, {"type": "training.log", "step": 1}, id="evt-a")
    emu.publish(job_id, {"type": "training.log", "step": 2}, id=None)
    emu.publish_raw(job_id, b": a comment\n\nevent: odd\ndata: 1\n\n")
    emu.publish_raw(job_id, b"")
    emu.publish(job_id, {"status": "running"})
    emu.publish(job_id, {"type": "training.log", "step": 3}, id="41")
    emu.finish(job_id, "completed")
    with client.open(job_id) as response:
        body = response.content
    assert b": a comment\n\nevent: odd\n" in body
    events = [event for event in parse_sse(body) if event.data]
    assert [(e.id, e.name) for e in events] == [
        ("evt-a", "training.log"),
        (None, "training.log"),
        (None, "odd"),
        ("1", None),
        ("41", "training.log"),
        ("42", "training.completed"),
        (None, "end"),
    ]
    assert [event.id for event in client.read(job_id, "evt-a")][-3:] == ["41", "42", None]


def test_a_script_may_hold_events_pairs_frames_and_bytes(emu: Emulator, client: Client) -> None:
    items = [
        {"type": "training.started"},
        ({"type": "training.log", "step": 1}, "x"),
        Frame("{not json", id="y", name="training.log"),
        Frame("two\nlines"),
        b"event: raw\ndata: {}\n\n",
        {"type": "training.failed", "error": "enough"},
    ]
    job_id = emu.create_job(ScriptedEngine(events=items))
    with client.open(job_id) as response:
        body = response.content
    assert b"data: two\ndata: lines\n\n" in body
    assert [event.id for event in parse_sse(body)] == ["1", "x", "y", None, None, "2", None]
    assert emu.jobs[job_id].error == "enough"
    events = client.get(f"/v1/jobs/{job_id}").json()["events"]
    assert [event["type"] for event in events][1:] == ["training.log", "training.failed"]


def test_end_without_a_terminal_event(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(events=[{"type": "training.started"}]))
    emu.wait_for(lambda: emu.jobs[job_id].status == "running")
    emu.finish(job_id)
    assert names(client.read(job_id)) == ["training.started", "end"]
    assert client.get(f"/v1/jobs/{job_id}").json()["job"]["status"] == "running"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_job_may_end_in_the_record_alone(emu: Emulator, client: Client, status: str) -> None:
    job_id = emu.create_job(ScriptedEngine(events=[]))
    with client.open(job_id) as response:
        events = live(response)
        emu.wait_for(lambda: emu.open_streams)
        emu.finish(job_id, status, error="lost", silent=True)
        job = client.get(f"/v1/jobs/{job_id}").json()["job"]
        assert job["status"] == status
        assert job["error"] == ("lost" if status == "failed" else None)
        assert emu.jobs[job_id].log == []
        emu.finish(job_id)
        assert next(events).name == "end"
    with pytest.raises(ValueError, match="terminal"):
        emu.finish(job_id, "running")


def test_stop_ends_open_streams_in_milliseconds() -> None:
    def seconds_to_stop() -> float:
        emu = Emulator(ScriptedEngine(events=[])).start()
        client = Client(emu)
        job_id = emu.create_job()
        streams = [client.open(job_id) for _ in range(5)]
        emu.wait_for(lambda: len(emu.open_streams) == 5)
        before = time.monotonic()
        emu.stop()
        seconds = time.monotonic() - before
        assert not [t for t in threading.enumerate() if t.name.startswith("arkor-emulator")]
        for stream in streams:
            with pytest.raises(urllib3.exceptions.ProtocolError):
                stream.raw.read(1)
            stream.close()
        client.session.close()
        return seconds

    assert shortest(seconds_to_stop, 1.0) < 1.0


def test_stop_waits_for_a_thread_that_is_done_and_not_yet_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow: List[threading.Thread] = []
    done, joined = threading.Event(), threading.Event()

    class Thread(threading.Thread):
        def run(self) -> None:
            super().run()
            if self.name == "arkor-emulator-connection":
                slow.append(self)
                done.set()
                assert joined.wait(PATIENCE)

        def join(self, timeout: Optional[float] = None) -> None:
            if self in slow:
                joined.set()
            super().join(timeout)

    monkeypatch.setattr("arkor_sync.emulator.http.server.threading.Thread", Thread)
    with Emulator(ScriptedEngine(events=[])) as emu:
        with Client(emu) as client:
            assert client.get("/v1/me").ok
        assert done.wait(PATIENCE)
        try:
            emu.stop()
            assert not slow[0].is_alive()
        finally:
            joined.set()


def test_stop_ends_a_stream_whose_client_does_not_read() -> None:
    with Emulator(ScriptedEngine(events=[])) as emu, Client(emu) as client:
        job_id = emu.create_job()
        with client.open(job_id):
            for _ in range(40):
                emu.publish_raw(job_id, b"x" * 1_000_000)
            emu.wait_for(lambda: emu.connections(job_id)[0].sent)
            emu.stop()


def test_wait_for_gives_up() -> None:
    with Emulator() as emu, pytest.raises(TimeoutError, match="not true within"):
        emu.wait_for(lambda: False, timeout=0.01)


def test_only_manual_jobs_are_stepped(emu: Emulator) -> None:
    with pytest.raises(ValueError, match="not manual"):
        emu.step(emu.create_job())


def test_stepping_past_the_end_releases_nothing(emu: Emulator) -> None:
    job_id = emu.create_job(ScriptedEngine(steps=1, manual=True))
    assert emu.step(job_id, 100) == 3
    assert emu.step(job_id) == 0
