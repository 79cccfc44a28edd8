"""A cloud of a few lines over real sockets: each connection to a stream gets the next answer."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from socketserver import StreamRequestHandler
from typing import Any, Dict, List, NamedTuple, Optional

from support.servers import LoopbackServer

JOB = {
    "orgId": "org-1",
    "projectId": "project-1",
    "name": "a run",
    "status": "running",
    "config": {"model": "m"},
    "createdAt": "2026-01-01T00:00:00Z",
}


class Answer(NamedTuple):
    """What one connection to a stream gets.

    Attributes:
        body: Sent as it is, in the chosen framing.
        status: The rest of the status line; empty for no answer at all.
        kind: The content type; None for no such header.
        headers: More headers.
        framing: `chunked`, or `close`: the body ends with the connection.
        end: `clean`; `cut`, which in a chunked body is without the last chunk; or `never`: the
            connection stays until the client goes.
    """

    body: bytes = b""
    status: str = "200 OK"
    kind: Optional[str] = "text/event-stream"
    headers: Dict[str, str] = {}  # noqa: RUF012
    framing: str = "chunked"
    end: str = "clean"


class Cloud(LoopbackServer):
    """Serves any number of jobs; those that it was told nothing of do not exist.

    Attributes:
        heads: For each job, the headers of every request for its stream, by their names in lower
            case.
        targets: What was asked for, in order.
        statuses: What the record of a job says, where that is not `running`.
        gone: Released whenever a client has left an answer that never ends.
    """

    def __init__(self) -> None:
        self.heads: Dict[str, List[Dict[str, str]]] = {}
        self.targets: List[str] = []
        self.gone = threading.Semaphore(0)
        self.statuses: Dict[str, str] = {}
        self._answers: Dict[str, List[Answer]] = {}
        cloud = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):  # the client went first
                    cloud._handle(self)

        super().__init__(Handler)

    def answer(self, job_id: str, *answers: Answer) -> None:
        self.heads[job_id] = []
        self._answers[job_id] = list(answers)

    def _handle(self, handler: StreamRequestHandler) -> None:
        line = handler.rfile.readline().decode("latin-1")
        headers: Dict[str, str] = {}
        while True:
            name, colon, value = handler.rfile.readline().partition(b":")
            if not colon:
                break
            headers[name.decode().lower()] = value.strip().decode()
        handler.rfile.read(int(headers.get("content-length", 0)))
        method, _, rest = line.partition(" ")
        target = rest.partition(" ")[0]
        self.targets.append(target)
        path = target.partition("?")[0].strip("/").split("/")
        job_id = "submitted" if method == "POST" else path[2]
        if path[-1] != "stream":
            status = "200 OK" if job_id in self._answers else "404 Not Found"
            job = {"id": job_id, **JOB, "status": self.statuses.get(job_id, "running")}
            body = json.dumps({"job": job}).encode()
            _send(handler, Answer(body, status, "application/json", framing="close"))
            return
        self.heads[job_id].append(headers)
        left = self._answers[job_id]
        answer = left.pop(0) if left else Answer(end="never")
        if answer.status:
            _send(handler, answer)
        if answer.end == "never":
            try:
                while handler.connection.recv(100):
                    pass
            finally:
                self.gone.release()


def _send(handler: Any, answer: Answer) -> None:
    chunked = answer.framing == "chunked"
    headers = {"Connection": "close", **answer.headers}
    if answer.kind is not None:
        headers["Content-Type"] = answer.kind
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    lines = [f"HTTP/1.1 {answer.status}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    handler.wfile.write("\r\n".join(lines).encode("latin-1"))
    # In two writes, so that no test depends on a body that comes at once.
    half = len(answer.body) // 2
    for piece in (answer.body[:half], answer.body[half:]):
        if piece:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if answer.end == "clean" and chunked:
        handler.wfile.write(b"0\r\n\r\n")
