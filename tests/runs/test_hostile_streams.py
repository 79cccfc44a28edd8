"""What a hostile server sends costs little memory and little time: real runs over bare sockets."""

from __future__ import annotations

import json
import logging
import time
import tracemalloc
from typing import Any, Iterable, Iterator, List

import pytest

from arkor_sync import Callbacks, CloudApiClient, ReconnectPolicy, TokenCredentials, follow
from arkor_sync.cloud.project import ProjectState
from arkor_sync.cloud.sse import MAX_EVENT_BYTES
from arkor_sync.run import Run
from support.loopback import Connection, Server
from support.scripted_cloud import JOB
from support.waiting import PATIENCE

END = b'data: {"type": "training.completed", "jobId": "job-1", "artifacts": []}\n\n'
MEBIBYTE = 1 << 20


def serving(chunks: Iterable[bytes]) -> Server:
    """Answer with the job's record, and on the stream's route with these bytes and the end."""

    def answer(connection: Connection, head: str) -> None:
        if "/events/stream" not in head.partition("\r\n")[0]:
            body = json.dumps({"job": {**JOB, "status": "running"}}).encode()
            kind = "Content-Type: application/json"
            fields = f"HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.send(fields.encode() + body)
            return
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for chunk in chunks:
            connection.send(chunk)
        connection.send(END)
        connection.wait_until_closed()

    return Server(answer)


def followed(server: Server, **options: Any) -> Run:
    scope = ProjectState("org", "project", "project-1")
    client = CloudApiClient(server.url, TokenCredentials("t" * 20), scope=scope)
    return follow("job-1", client=client, **options)


def logs_of(count: int, size: int) -> Iterator[bytes]:
    note = "x" * size
    for step in range(count):
        data = {"type": "training.log", "jobId": "job-1", "step": step, "note": note}
        yield f"id: {step}\nevent: training.log\ndata: {json.dumps(data)}\n\n".encode()


@pytest.mark.slow
def test_the_history_of_large_logs_is_bounded_in_bytes() -> None:
    with serving(logs_of(150, 900_000)) as server:
        tracemalloc.start(1)
        try:
            run = followed(server)
            assert run.wait(PATIENCE).status == "completed"
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert held < 48 * MEBIBYTE  # of 129 MiB that were sent
    steps = [each["step"] for each in run.history.logs]
    assert steps == list(range(steps[0], 150))
    assert 30 <= len(steps) <= 40


def test_the_bytes_of_the_history_can_be_set() -> None:
    with serving(logs_of(20, 90_000)) as server:
        run = followed(server, max_history_bytes=500_000)
        run.wait(PATIENCE)
    assert 4 <= len(run.history) <= 7


def test_comments_behind_a_nearly_full_event_cost_little_time() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"data: " + b"x" * (MAX_EVENT_BYTES - 30) + b"\n"
        for _ in range(3_000):
            yield b":\n:\n:\n:\n:\n"
        yield b"\n"

    with serving(chunks()) as server:
        begun = time.process_time()
        run = followed(server)
        run.wait(PATIENCE)
        spent = time.process_time() - begun
    assert run.health().skipped == 1
    assert spent < 3  # the server's own time included


def test_malformed_frames_do_not_fill_the_disk(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bodies = (
        b"".join(b"data: {%d\n\n" % n for n in range(first, first + 500))
        for first in range(0, 20_000, 500)
    )
    with serving(bodies) as server:
        run = followed(server)
        run.wait(PATIENCE)
    assert run.health().skipped == 20_000
    assert len(caplog.records) < 20


def test_an_error_page_is_one_short_line_at_each_reconnect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    page = "<p>\x1b[2J\u202e\r\nERROR forged\n".encode() * 3_000
    failing = [b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n" % len(page) + page] * 3

    def answer(connection: Connection, head: str) -> None:
        if failing and "/events/stream" in head.partition("\r\n")[0]:
            connection.send(failing.pop())
        else:
            server_of_events(connection, head)

    lost: List[str] = []
    with serving([]) as inner:
        server_of_events = inner._handler
        with Server(answer) as server:
            run = followed(
                server,
                callbacks=Callbacks(on_reconnect=lambda ctx: lost.append(ctx.error)),
                reconnect=ReconnectPolicy(base=0.001, cap=0.002),
            )
            run.wait(PATIENCE)
    assert len(caplog.messages) == 3
    for text in [*caplog.messages, *lost]:
        assert "ERROR forged" in text
        assert len(text) < 700
        assert text.isprintable()
    assert lost
