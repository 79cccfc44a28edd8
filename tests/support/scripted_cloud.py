"""A server that answers as it is told, for answers that no working cloud gives."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Union
from urllib.parse import parse_qsl, urlsplit

from support.servers import LoopbackServer, QuietHandler

JOB = {
    "id": "job-1",
    "orgId": "org-1",
    "projectId": "project-1",
    "name": "support-bot",
    "status": "queued",
    "config": {"model": "unsloth/gemma-4-E4B-it"},
    "createdAt": "2026-01-01T00:00:00.000Z",
}
PROJECT = {"id": "project-1", "slug": "work", "name": "work", "orgId": "org-1"}
ANONYMOUS = {
    "token": "anonymous-token-0123456789",
    "anonymousId": "anonymous-1",
    "kind": "cli",
    "personalOrg": {"id": "org-1", "slug": "personal", "name": "Personal"},
}


@dataclass
class Reply:
    """One scripted answer.

    Attributes:
        headers: Added to, and preferred over, the usual ones.
        content: The body: text, bytes, or what is sent as JSON.
        length: The announced length, where it is not the true one.
        chunks: Sent one by one instead of `content`, with no announced length.
        hold: Waited for after the chunks, before the connection ends.
        silent: Read the request, and close the connection without an answer.
    """

    status: int = 200
    content: Any = ""
    headers: Dict[str, str] = field(default_factory=dict)
    length: Optional[int] = None
    chunks: Optional[List[bytes]] = None
    hold: Optional[threading.Event] = None
    silent: bool = False


@dataclass
class Received:
    method: str
    target: str
    headers: Dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> Dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedCloud(LoopbackServer):
    """Answers requests with the replies it was given, in order; the last one repeats."""

    def __init__(self, *, tls: bool = False) -> None:
        self.received: List[Received] = []
        self.replies: List[Union[Reply, Callable[[Received], Reply]]] = []
        self.open_connections = 0
        self._changed = threading.Condition()
        outer = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                headers = dict(self.headers)
                received = Received(self.command, self.path, headers, self.body())
                outer._answer(self, received)

            def handle(self) -> None:
                outer._count(1)
                try:
                    super().handle()
                except OSError:
                    pass  # the client went first
                finally:
                    outer._count(-1)

        super().__init__(Handler, tls=tls)

    def reply(self, content: Any = "", status: int = 200, **more: Any) -> Reply:
        reply = Reply(status, content, **more)
        self.replies.append(reply)
        return reply

    def stream(self, *chunks: bytes, **more: Any) -> Reply:
        headers = {"Content-Type": "text/event-stream", **more.pop("headers", {})}
        return self.reply(chunks=list(chunks), headers=headers, **more)

    def wait_until_idle(self, timeout: float = 20.0) -> bool:
        """Wait until every connection has ended."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.open_connections, timeout)

    def _count(self, change: int) -> None:
        with self._changed:
            self.open_connections += change
            self._changed.notify_all()

    def _answer(self, handler: QuietHandler, received: Received) -> None:
        with self._changed:
            self.received.append(received)
            chosen = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        reply = chosen if isinstance(chosen, Reply) else chosen(received)
        if reply.silent:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        content = reply.content
        kind = "text/plain"
        if not isinstance(content, (str, bytes)):
            content, kind = json.dumps(content), "application/json"
        body = content.encode() if isinstance(content, str) else content
        headers = {"Content-Type": kind, **reply.headers}
        if reply.chunks is None:
            length = len(body) if reply.length is None else reply.length
            headers["Content-Length"] = str(length)
        else:
            headers["Connection"] = "close"
        handler.close_connection = reply.chunks is not None or reply.length is not None
        handler.send_response(reply.status)
        for name, value in headers.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        for chunk in reply.chunks if reply.chunks is not None else [body]:
            handler.wfile.write(chunk)
        if reply.hold is not None:
            reply.hold.wait(60)
