"""Servers on the loopback: what all of them share, and ports that do nothing of use."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Iterator, List, Type, TypeVar

_TLS = Path(__file__).parent / "tls"
CERTIFICATE, KEY = str(_TLS / "cert.pem"), str(_TLS / "key.pem")

Server = TypeVar("Server", bound="LoopbackServer")


def server_context() -> ssl.SSLContext:
    """Return what a server needs to speak TLS with the tests' certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


class QuietHandler(BaseHTTPRequestHandler):
    """Handles one connection, and prints nothing."""

    def log_message(self, *_: Any) -> None:
        pass

    def body(self) -> bytes:
        """Read the body of the request."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer; an underscore in a header's name becomes a hyphen."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False  # a handler that hangs is let go of by its own test
    request_queue_size = 50  # with the usual 5, a burst of clients waits for whole seconds

    def handle_error(self, *details: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that goes first is usual here
            super().handle_error(*details)


class LoopbackServer:
    """Gives each connection to a handler on a thread of its own, until it is stopped."""

    def __init__(
        self, handler: Type[socketserver.BaseRequestHandler], *, tls: bool = False
    ) -> None:
        self._server = _Server(("127.0.0.1", 0), handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http{'s' if tls else ''}://{self.host}"
        if tls:
            self._server.socket = server_context().wrap_socket(
                self._server.socket, server_side=True
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self: Server) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Webhook(LoopbackServer):
    """Takes every JSON document, and keeps it.

    Attributes:
        posted: The documents, in the order in which they came.
    """

    def __init__(self, status: int = 200, answer: bytes = b"") -> None:
        self.posted: List[Any] = []
        webhook = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:
                webhook.posted.append(json.loads(self.body()))
                self.answer(status, answer)

        super().__init__(Handler)


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """Listen on a port that answers no attempt to connect, because its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def mute() -> Iterator[int]:
    """Listen on a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
