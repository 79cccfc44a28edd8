"""What is measured: arkor_sync as a whole, and the floor that nothing in Python gets below.

Ours is the real thing: reader thread, channel, worker thread, context, callback, acknowledgement.
The floor is a socket, a split and `json.loads`, with as little as it takes to undo the chunks.
"""

from __future__ import annotations

import itertools
import json
import queue
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List

from arkor_sync import CloudApiClient, ProjectState, TokenCredentials, follow

LOG = "training.log"


class Touch:
    """What everybody calls: it looks at the step and the loss, and counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.last: Any = None

    def data(self, data: Dict[str, Any]) -> None:
        """See an event as a bare loop has it."""
        self.last = data["step"], data["loss"]
        self.calls += 1

    def context(self, ctx: Any) -> None:
        """See an event as a callback has it."""
        self.last = ctx.step, ctx.loss
        self.calls += 1


class Stamps(Touch):
    """The same, and notes how many nanoseconds ago each event was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.lags: List[int] = []

    def data(self, data: Dict[str, Any]) -> None:
        now = time.perf_counter_ns()
        super().data(data)
        self.lags.append(now - int(data["timestamp"]))

    def context(self, ctx: Any) -> None:
        now = time.perf_counter_ns()
        super().context(ctx)
        self.lags.append(now - int(ctx.event.data["timestamp"]))


# Takes the server's URL, the job, what to call, and how many bytes to read at most.
Client = Callable[[str, str, Touch, int], None]


def path(job: str) -> str:
    return f"/v1/jobs/{job}/events/stream"


def cloud(base: str) -> CloudApiClient:
    return CloudApiClient(base, TokenCredentials("bench"), scope=ProjectState("o", "p", "id"))


def ours(base: str, job: str, touch: Touch, chunk: int) -> None:
    with follow(job, client=cloud(base), callbacks={"on_log": touch.context}) as run:
        run.wait()


def floor(base: str, job: str, touch: Touch, chunk: int) -> None:
    tail = b""
    for data in _body(base, job):
        *blocks, tail = (tail + data).split(b"\n\n")
        for block in blocks:
            start = block.find(b"data: {")
            if start >= 0:
                event = json.loads(block[start + 6 :].decode())
                if event["type"] != LOG:
                    return
                touch.data(event)


class _HandOver(Touch):
    """Passes each event on to another thread."""

    def __init__(self, touch: Touch) -> None:
        super().__init__()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._touch = touch

    def data(self, data: Dict[str, Any]) -> None:
        self._events.put(data)

    def serve(self) -> None:
        for event in iter(self._events.get, None):
            self._touch.data(event)


def floor_of_two_threads(base: str, job: str, touch: Touch, chunk: int) -> None:
    """Follow as the floor does, and call on another thread: what a thread costs on this machine."""
    hand_over = _HandOver(touch)
    worker = threading.Thread(target=hand_over.serve)
    worker.start()
    floor(base, job, hand_over, chunk)
    hand_over.data(None)  # type: ignore[arg-type]
    worker.join()


def warm_up(base: str, clients: Iterable[Client]) -> None:
    """Let every client do once what it does only once in a process."""
    for client in clients:
        client(base, "flood-chunked-100-0", Touch(), 65536)


def _body(base: str, job: str) -> Iterator[bytes]:
    host, port = base.rpartition("/")[2].split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"GET {path(job)} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(65536)
        head, _, first = head.partition(b"\r\n\r\n")
        received = itertools.chain([first], iter(lambda: sock.recv(65536), b""))
        yield from _without_chunks(received) if b"chunked" in head else received


def _without_chunks(received: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for data in received:
        rest += data
        position = 0
        bodies = []
        while (line := rest.find(b"\r\n", position)) >= 0:
            end = line + 2 + int(rest[position:line], 16)
            if end + 2 > len(rest):
                break
            bodies.append(rest[line + 2 : end])
            position = end + 2
        rest = rest[position:]
        yield b"".join(bodies)
