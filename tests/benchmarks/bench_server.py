"""The benchmarks' server: a process of its own that sends bytes which were encoded beforehand.

The job id in the path says what is sent: `KIND-FRAMING-COUNT-MILLISECONDS`. It parses no more of a
request than that and `Last-Event-ID`, so that the client is the bottleneck.

Kinds: `replay` sends all events as fast as they are taken, encoded when the job's record was asked
for; `flood` does the same and encodes as it goes; `paced` sends one at a time; `cut` sends one a
connection and breaks off; `idle` sends all at once and then only pings. Framings: `close`,
`chunked` (in big chunks where there is much to send), `each` (one event a chunk).
"""

from __future__ import annotations

import functools
import json
import re
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
from typing import Any, Dict, Iterator, List, Match, Optional, Sequence

_REQUEST = re.compile(rb"GET /v1/jobs/(\w+)-(\w+)-(\d+)-(\d+)(/events/stream)?[ ?]")
_LAST_ID = re.compile(rb"last-event-id: *(\d+)", re.IGNORECASE)
_BIG = 16384
LISTED = 10_000  # jobs, in the list of the project
_LOG = (
    b"id: %d\nevent: training.log\n"
    b'data: {"type":"training.log","jobId":"0f5d3c1e-8a41-4c2b-9a52","timestamp":"%s",'
    b'"step":%d,"loss":%.4f,"learningRate":0.0002}\n\n'
)
_COMPLETED = (
    b'id: end\nevent: training.completed\ndata: {"type":"training.completed",'
    b'"jobId":"0f5d3c1e","timestamp":"2026-01-01T00:00:00.000Z","artifacts":[]}\n\n'
    b"event: end\ndata:\n\n"
)
_PING = b"event: ping\ndata:\n\n"


class Server:
    """Runs the server in another process: `with Server() as server: server.url`."""

    def __init__(self, tls: Sequence[str] = ()) -> None:
        """Describe it; `tls` holds the files of a certificate and its key."""
        self._tls = tls
        self.url = ""

    def __enter__(self) -> Server:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *self._tls],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def raise_file_limit() -> int:
    """Allow this process as many open files as it may have, and say how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def log(step: int, timestamp: bytes = b"2026-01-01T00:00:00.000Z") -> bytes:
    """Encode a `training.log` of about 180 bytes, as the cloud sends it."""
    return _LOG % (step, timestamp, step, 2.5 / (1 + step / 1000))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def pieces(framing: bytes, count: int, first: int) -> Iterator[bytes]:
    """Encode a whole replay, in the pieces that are written at once."""
    events = [log(step) for step in range(first, count + 1)]
    if framing == b"each":
        for start in range(0, len(events), 64):
            yield b"".join(map(chunk, events[start : start + 64]))
        return
    whole = b"".join(events)
    for start in range(0, len(whole), _BIG):
        piece = whole[start : start + _BIG]
        yield piece if framing == b"close" else chunk(piece)


@functools.lru_cache(maxsize=3)  # a comparison asks for the three framings in turn
def encoded(framing: bytes, count: int) -> List[bytes]:
    return list(pieces(framing, count, 1))


def serve(tls: Sequence[str]) -> None:
    raise_file_limit()
    threading.stack_size(256 << 10)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    threading.Thread(target=_accept, args=(listener, context), daemon=True).start()
    print(f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    sys.stdin.read()  # it ends with whoever started it, however that ends


def _accept(listener: socket.socket, context: Optional[ssl.SSLContext]) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_answer, args=(sock, context), daemon=True).start()


def _answer(sock: socket.socket, context: Optional[ssl.SSLContext]) -> None:
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
            if head.startswith(b"GET /v1/jobs?"):
                sock.sendall(listed())
                continue
            match = _REQUEST.match(head)
            if match is None:
                return
            if match[5]:
                _stream(sock, head, match)
                return
            _record(sock, match)
    except OSError:
        return
    finally:
        sock.close()


def _record(sock: socket.socket, match: Match[bytes]) -> None:
    if match[1] == b"replay":
        encoded(match[2], int(match[3]))
    sock.sendall(answer({"job": job(b"-".join(match.groups()[:4]).decode())}))


def job(job_id: str, **more: Any) -> Dict[str, Any]:
    return {
        "id": job_id,
        "orgId": "o",
        "projectId": "p",
        "name": "bench",
        "status": "running",
        "config": {"model": "m"},
        "createdAt": "2026-01-01T00:00:00.000Z",
        **more,
    }


def answer(value: Dict[str, Any]) -> bytes:
    body = json.dumps(value).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head.encode() % len(body) + body


@functools.lru_cache
def listed() -> bytes:
    """Encode the list of a project with many jobs, each as large as the cloud's are."""
    config = {
        "model": "unsloth/gemma-4-E4B-it",
        "datasetSource": {"type": "huggingface", "name": "org/support-triage"},
        "maxSteps": 100,
        "learningRate": 0.0002,
        "loraR": 16,
    }
    times = {"startedAt": "2026-01-01T00:01:00.000Z", "completedAt": "2026-01-01T01:00:00.000Z"}
    ended = {"status": "completed", "config": config, **times}
    jobs = [
        job(f"0f5d3c1e-8a41-4c2b-9a52-{number:012}", **{**ended, "name": f"support {number}"})
        for number in range(LISTED)
    ]
    return answer({"jobs": jobs})


def _stream(sock: socket.socket, head: bytes, match: Match[bytes]) -> None:
    kind, framing, count, pause = match[1], match[2], int(match[3]), int(match[4]) / 1000
    framed = bytes if framing == b"close" else chunk
    how = b"Connection: close" if framing == b"close" else b"Transfer-Encoding: chunked"
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%s\r\n\r\n" % how)
    resumed = _LAST_ID.search(head)
    first = int(resumed[1]) + 1 if resumed else 1
    if kind == b"replay":
        for piece in encoded(framing, count):
            sock.sendall(piece)
    elif kind == b"flood":
        for start in range(first, count + 1, 10_000):
            for piece in pieces(framing, min(start + 9_999, count), start):
                sock.sendall(piece)
    elif kind == b"paced":
        for step in range(first, count + 1):
            time.sleep(pause)
            sock.sendall(framed(_stamped(step)))
    elif kind == b"cut" and first <= count:
        sock.sendall(framed(_stamped(first)))
        return
    elif kind == b"idle":
        events = b"".join(log(step) for step in range(first, count + 1))
        if events:  # an empty chunk would end the answer
            sock.sendall(framed(events))
        while True:
            time.sleep(pause)
            sock.sendall(framed(_PING))
    sock.sendall(framed(_COMPLETED))
    if framing != b"close":
        sock.sendall(b"0\r\n\r\n")


def _stamped(step: int) -> bytes:
    """Encode a log whose timestamp is the moment, on the clock that all processes share."""
    return log(step, b"%d" % time.perf_counter_ns())


if __name__ == "__main__":
    serve(sys.argv[1:])
