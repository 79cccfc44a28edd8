"""A server on the loopback whose handlers have the bare socket."""

from __future__ import annotations

import socket
import threading
from typing import Callable, List

from support.servers import server_context
from support.waiting import PATIENCE, Background


class Connection:
    """One accepted connection, on a thread of its own."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock

    def read_request(self) -> str:
        """Read up to the blank line that ends the request's head."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.sock.recv(1)
            if not byte:
                return ""
            head += byte
        return head.decode("latin-1")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def wait_until_closed(self) -> None:
        while self.sock.recv(65536):
            pass


class Server:
    """Accepts connections and hands each to a handler, until the test is over.

    Attributes:
        requests: The head of every request, in the order in which they came.
        accepted: Released once for each connection.
    """

    def __init__(
        self,
        handler: Callable[[Connection, str], None],
        *,
        tls: bool = False,
        read_request: bool = True,
    ) -> None:
        self.requests: List[str] = []
        self.accepted = threading.Semaphore(0)
        self._handler = handler
        self._read_request = read_request
        self._context = server_context() if tls else None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._stopping = False
        self._open: List[socket.socket] = []
        self._threads: List[Background] = []
        self._accepting = Background(self._accept)

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stopping:
                sock.close()
                return
            self._open.append(sock)
            self._threads.append(Background(self._serve, sock))
            self.accepted.release()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            connection = Connection(sock)
            if not self._read_request:
                self._handler(connection, "")
                return
            for head in iter(connection.read_request, ""):
                self.requests.append(head)
                self._handler(connection, head)
        except OSError:
            return  # the client is gone, or the test is over
        finally:
            sock.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._accepting.result()
        self._listener.close()
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for each in self._threads:
            each.result()


def hang_up(connection: Connection, _: str) -> None:
    """Close the connection without an answer."""
    connection.sock.shutdown(socket.SHUT_RDWR)


def stay_silent(connection: Connection, _: str) -> None:
    """Never answer."""
    connection.wait_until_closed()


def answer(connection: Connection, _: str) -> None:
    """Answer a plain request, and keep the connection alive."""
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
