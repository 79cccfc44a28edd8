"""Very many events through a small queue, over a connection that is cut every few thousand.

20,000 events in a plain run; 200,000 with the tests marked `slow`. tests/stream has a million.
"""

from __future__ import annotations

import concurrent.futures
import gc
import json
import re
import tracemalloc
from typing import Any, Dict

import pytest

from arkor_sync import CloudApiClient, ProjectState, ReconnectPolicy, TokenCredentials, follow
from support.loopback import Connection, Server, hang_up
from support.waiting import PATIENCE, until

WARM_UP = 10_000
ALLOWED = 5 << 20  # bytes
CUT_AFTER = 3_000
OVERLAP = 5  # events that come again after each cut
QUEUE = 100

SCOPE = ProjectState("o", "p", "q")
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

    def __init__(self, count: int) -> None:
        self.streams = 0
        self._count = count

    def answer(self, connection: Connection, head: str) -> None:
        if "/events/stream" not in head:
            body = json.dumps({"job": RECORD}).encode()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        self.streams += 1
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        resumed = re.search(r"last-event-id: *(\d+)", head, re.IGNORECASE)
        first = max(0, int(resumed[1]) - OVERLAP if resumed else 0) + 1
        last = min(self._count, first + CUT_AFTER)
        for begin in range(first, last + 1, 100):
            numbers = range(begin, min(begin + 100, last + 1))
            connection.send(b"".join(EVENT % (number, number) for number in numbers))
        connection.send(COMPLETED if last == self._count else EVENT[:40])
        hang_up(connection, head)


@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_many_events_come_once_each_in_order_and_leave_nothing_behind(
    arkor_no_leaks: None, count: int
) -> None:
    cloud, patience = Cloud(count), PATIENCE + count / 2000
    expected = iter(range(1, count + 1))
    memory: Dict[int, int] = {}
    full = 0

    def on_log(ctx: Any) -> Any:
        nonlocal full
        assert ctx.step == next(expected)
        if ctx.step in (WARM_UP, count):
            gc.collect()
            memory[ctx.step] = tracemalloc.get_traced_memory()[0]
        if ctx.step % 1000 == 500:
            # The reader goes on reading when half of the queue is free.
            until(lambda: ctx.run.health().queue_depth > QUEUE // 2, patience)
            full += ctx.run.health().queue_depth > QUEUE // 2
        return pool.submit(int) if ctx.step % 50 == 0 else None

    tracemalloc.start(1)
    try:
        with (
            Server(cloud.answer) as server,
            concurrent.futures.ThreadPoolExecutor(1) as pool,
            follow(
                "job-1",
                client=CloudApiClient(server.url, TokenCredentials("t"), scope=SCOPE),
                callbacks={"on_log": on_log},
                reconnect=ReconnectPolicy(base=0.001),
                max_buffered_events=QUEUE,
            ) as run,
        ):
            assert run.wait(patience).status == "completed"
            health = run.health()
    finally:
        tracemalloc.stop()
    assert next(expected, None) is None
    assert health.delivered == count + 1
    assert health.queue_high_water <= QUEUE
    assert full == count // 1000
    assert cloud.streams > count // (CUT_AFTER + OVERLAP)
    assert health.duplicates >= OVERLAP * (cloud.streams - 1)
    assert memory[count] - memory[WARM_UP] < ALLOWED
