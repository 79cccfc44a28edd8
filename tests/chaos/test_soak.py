"""Very many events through a small queue, over a connection that is cut every few thousand.

20,000 events by default; a million with `ARKOR_SLOW=1`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import json
import os
import re
import socket
import threading
import tracemalloc
from typing import Any, Dict, Iterator

import pytest
from chaos_driver import until

from arkor_sync import CloudApiClient, ProjectState, ReconnectPolicy, TokenCredentials, follow

COUNT = 1_000_000 if os.environ.get("ARKOR_SLOW") else 20_000
WARM_UP = 10_000
ALLOWED = 5 << 20  # bytes
CUT_AFTER = 3_000
OVERLAP = 5  # events that come again after each cut
QUEUE = 100
PATIENCE = 30.0 + COUNT / 2000

RECORD = {
    "id": "job-1",
    "orgId": "org-1",
    "projectId": "project-1",
    "name": "soak",
    "status": "running",
    "config": {"model": "m"},
    "createdAt": "2026-01-01T00:00:00Z",
}
EVENT = (
    b'id: %d\nevent: training.log\ndata: {"type":"training.log","jobId":"job-1",'
    b'"timestamp":"2026-01-01T00:00:00.000Z","step":%d,"loss":0.5}\n\n'
)
COMPLETED = b'id: end\ndata: {"type":"training.completed","artifacts":[]}\n\n'


class Cloud:
    """Sends the events after `Last-Event-ID`, and hangs up in the middle of one. It keeps none."""

    def __init__(self) -> None:
        self.streams = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection, contextlib.suppress(OSError):
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += connection.recv(65536)
        if b"/events/stream" not in request:
            body = json.dumps({"job": RECORD}).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
            connection.sendall(head % len(body) + body)
            return
        self.streams += 1
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        resumed = re.search(rb"last-event-id: *(\d+)", request, re.IGNORECASE)
        first = max(0, int(resumed[1]) - OVERLAP if resumed else 0) + 1
        last = min(COUNT, first + CUT_AFTER)
        for begin in range(first, last + 1, 100):
            numbers = range(begin, min(begin + 100, last + 1))
            connection.sendall(b"".join(EVENT % (number, number) for number in numbers))
        connection.sendall(COMPLETED if last == COUNT else EVENT[:40])


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.close()


def test_many_events_come_once_each_in_order_and_leave_nothing_behind(
    arkor_no_leaks: None, cloud: Cloud
) -> None:
    expected = iter(range(1, COUNT + 1))
    memory: Dict[int, int] = {}
    full = 0

    def on_log(ctx: Any) -> Any:
        nonlocal full
        assert ctx.step == next(expected)
        if ctx.step in (WARM_UP, COUNT):
            gc.collect()
            memory[ctx.step] = tracemalloc.get_traced_memory()[0]
        if ctx.step % 1000 == 500:
            # The reader goes on reading when half of the queue is free.
            until(lambda: ctx.run.health().queue_depth > QUEUE // 2, PATIENCE)
            full += ctx.run.health().queue_depth > QUEUE // 2
        return pool.submit(int) if ctx.step % 50 == 0 else None

    client = CloudApiClient(cloud.url, TokenCredentials("t"), scope=ProjectState("o", "p", "q"))
    tracemalloc.start(1)
    try:
        with (
            concurrent.futures.ThreadPoolExecutor(1) as pool,
            follow(
                "job-1",
                client=client,
                callbacks={"on_log": on_log},
                reconnect=ReconnectPolicy(base=0.001),
                max_buffered_events=QUEUE,
            ) as run,
        ):
            assert run.wait(PATIENCE).status == "completed"
            health = run.health()
    finally:
        tracemalloc.stop()
    assert next(expected, None) is None
    assert health.delivered == COUNT + 1
    assert health.queue_high_water <= QUEUE
    assert full == COUNT // 1000
    assert cloud.streams > COUNT // (CUT_AFTER + OVERLAP)
    assert health.duplicates >= OVERLAP * (cloud.streams - 1)
    assert memory[COUNT] - memory[WARM_UP] < ALLOWED
