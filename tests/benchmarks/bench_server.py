"""The benchmarks' server: a process of its own that sends bytes which were encoded beforehand.

The job id in the path says what is sent: `KIND-FRAMING-COUNT-MILLISECONDS`. It parses no more of a
request than that and `Last-Event-ID`, so that the client is the bottleneck.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
import ssl
import threading
import time
from typing import Any, Dict, Iterator, List, Optional

_REQUEST = re.compile(rb"GET /v1/jobs/(\w+)-(\w+)-(\d+)-(\d+)(/events/stream)?")
_LAST_ID = re.compile(rb"last-event-id: *(\d+)", re.IGNORECASE)
_BIG = 16384


def event(step: int) -> bytes:
    """Encode a `training.log` of about 180 bytes, as the cloud sends it."""
    data = {
        "type": "training.log",
        "jobId": "0f5d3c1e-8a41-4c2b-9a52",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "step": step,
        "loss": 1.2345,
        "learningRate": 0.0002,
    }
    text = json.dumps(data, separators=(",", ":"))
    return f"id: {step}\nevent: training.log\ndata: {text}\n\n".encode()


COMPLETED = (
    b'id: end\nevent: training.completed\ndata: {"type":"training.completed",'
    b'"jobId":"0f5d3c1e","timestamp":"2026-01-01T00:00:00.000Z","artifacts":[]}\n\n'
)


class Server:
    """Runs the server in another process; `with Server() as server: server.url`."""

    def __init__(self, tls: Optional[Any] = None, nodelay: bool = True) -> None:
        self._tls = tls
        self._ready, child = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(child, tls), daemon=True
        )
        self.url = ""

    def __enter__(self) -> Server:
        self._process.start()
        port = self._ready.recv()
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Any, tls: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    pipe.send(listener.getsockname()[1])
    bodies: Dict[Any, List[bytes]] = {}
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_answer, args=(sock, context, bodies), daemon=True).start()


def _answer(sock: socket.socket, context: Optional[ssl.SSLContext], bodies: Any) -> None:
    try:
        if context:
            sock = context.wrap_socket(sock, server_side=True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                data = sock.recv(65536)
                if not data:
                    return
                head += data
            match = _REQUEST.match(head)
            if match and match[5]:
                _stream(sock, head, match, bodies)
                return
            _record(sock, match)
    except (OSError, ssl.SSLError):
        return
    finally:
        sock.close()


def _record(sock: socket.socket, match: Any) -> None:
    job = {
        "id": b"-".join(match.groups()[:4]).decode() if match else "bench",
        "orgId": "o",
        "projectId": "p",
        "name": "bench",
        "status": "running",
        "config": {"model": "m"},
        "createdAt": "2026-01-01T00:00:00.000Z",
    }
    body = json.dumps({"job": job}).encode()
    sock.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (len(body), body)
    )


def _stream(sock: socket.socket, head: bytes, match: Any, bodies: Any) -> None:
    kind, framing, count, pause = match[1], match[2], int(match[3]), int(match[4]) / 1000
    chunked = framing != b"close"
    framing_header = b"Transfer-Encoding: chunked" if chunked else b"Connection: close"
    sock.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing_header + b"\r\n\r\n"
    )
    resumed = _LAST_ID.search(head)
    first = int(resumed[1]) + 1 if resumed else 1

    def send(data: bytes) -> None:
        sock.sendall(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)

    if kind == b"replay":
        key = (framing, count, first)
        if key not in bodies:
            bodies[key] = list(_pieces(framing, count, first))
        for piece in bodies[key]:
            sock.sendall(piece)
    elif kind == b"paced":
        for step in range(first, count + 1):
            due = time.perf_counter() + pause
            while (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            stamp = b"%d" % time.perf_counter_ns()
            send(event(step).replace(b"2026-01-01T00:00:00.000Z", stamp))
    elif kind == b"cut":  # so many events, then the connection breaks, until they are all there
        last = min(first + count - 1, 3 * count)
        send(b"".join(event(step) for step in range(first, last + 1)))
        if last < 3 * count:
            sock.shutdown(socket.SHUT_RDWR)
            return
    elif kind == b"idle":
        send(b"".join(event(step) for step in range(first, count + 1)))
        while True:
            send(b"event: ping\ndata:\n\n")
            time.sleep(max(pause, 0.01))
    send(COMPLETED + b"event: end\ndata:\n\n")
    if chunked:
        sock.sendall(b"0\r\n\r\n")


def _pieces(framing: bytes, count: int, first: int) -> Iterator[bytes]:
    """Encode a whole replay: `each` puts every event in a chunk of its own."""
    events = [event(step) for step in range(first, count + 1)]
    if framing == b"each":
        chunks = [b"%x\r\n%s\r\n" % (len(e), e) for e in events]
        for start in range(0, len(chunks), 64):
            yield b"".join(chunks[start : start + 64])
        return
    whole = b"".join(events)
    for start in range(0, len(whole), _BIG):
        piece = whole[start : start + _BIG]
        yield piece if framing == b"close" else b"%x\r\n%s\r\n" % (len(piece), piece)


if __name__ == "__main__":
    with Server() as running:
        print(running.url, os.getpid())
        threading.Event().wait()
