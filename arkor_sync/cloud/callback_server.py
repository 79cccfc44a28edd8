"""Waits for the browser that comes back from a sign-in. Runs on the caller's thread.

Any program of this machine can connect to the port, and any page that the user looks at can send a
GET there. So only a request that knows the `state` of this sign-in ends the waiting. All others get
an answer, and change nothing: a foreign page can neither sign the user in as somebody else, nor end
the sign-in (RFC 6749, section 10.12; RFC 8252, section 8.10).

One thread serves all connections, so that one which sends nothing delays no other.
"""

from __future__ import annotations

import hmac
import os
import re
import selectors
import socket
from contextlib import suppress
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import parse_qs

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import SLICE
from arkor_sync._common.secret import Secret
from arkor_sync._common.text import safe_line
from arkor_sync.errors import CredentialsError

PATH = "/callback"

_HOST = "127.0.0.1"
_MAX_HEAD = 64 * 1024  # bytes; a browser sends the cookies of all ports of the loopback
_PATIENCE = 10.0  # seconds that a connection is kept
_MAX_CONNECTIONS = 32

_REQUEST_LINE = re.compile(r"([A-Z]{1,20}) (/[\x21-\x7e]*) HTTP/1\.[0-9]")
_PARAMETERS = ("state", "code", "error", "error_description")

_TEXT = "text/plain; charset=utf-8"
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Back to the terminal - Arkor</title>
<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 12vh auto; padding: 0 1rem }
</style>
<h1>You may close this page</h1>
<p>The sign-in goes on in your terminal.</p>
</html>
"""


class Callback(NamedTuple):
    """What the identity provider sent back.

    Attributes:
        code: What tokens are given for; empty if there is none.
        error: Why there is none: an error code and its description.
    """

    code: str
    error: str


class _Answer(NamedTuple):
    status: str
    body: str
    kind: str = _TEXT
    callback: Optional[Callback] = None


class _Connection:
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self.received = b""
        self.answered = False


class CallbackServer:
    """Listens on the first free port of a list, until it is closed.

    Args:
        ports: Ports of the loopback; 0 is any free one.
        state: The secret of this sign-in.

    Attributes:
        port: The port that it listens on.
        ignored: How many requests for `/callback` did not belong to this sign-in.

    Raises:
        CredentialsError: None of the ports is free.
    """

    def __init__(self, ports: Sequence[int], state: str) -> None:
        self._state = state.encode()
        self._connections: Dict[socket.socket, _Connection] = {}
        self._listener = _listen(ports)
        self.port: int = self._listener.getsockname()[1]
        self.ignored = 0

    @property
    def redirect_uri(self) -> str:
        """The address that the browser has to come back to."""
        return f"http://{_HOST}:{self.port}{PATH}"

    def __enter__(self) -> CallbackServer:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in list(self._connections):
            self._close(sock)
        self._listener.close()

    def wait(self, timeout: float) -> Optional[Callback]:
        """Answer requests until one of them belongs to this sign-in.

        Returns:
            What it brought; None if the time is over.
        """
        deadline = Clock.now() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while Clock.now() < deadline:
                for key, _ in selector.select(min(SLICE, max(0.0, deadline - Clock.now()))):
                    if key.fileobj is self._listener:
                        self._accept(selector)
                        continue
                    connection: _Connection = key.data
                    if connection.sock not in self._connections:
                        continue  # it was the oldest, and has made room
                    found = self._read(connection)
                    if found is not None:
                        return found
                    if connection.deadline == 0:
                        self._drop(selector, connection.sock)
                for connection in list(self._connections.values()):
                    if Clock.now() >= connection.deadline:
                        self._drop(selector, connection.sock)
        return None

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it has left already, or there are too many open files
        sock.setblocking(False)
        if len(self._connections) >= _MAX_CONNECTIONS:
            self._drop(selector, next(iter(self._connections)))  # the oldest
        connection = _Connection(sock, Clock.now() + _PATIENCE)
        self._connections[sock] = connection
        selector.register(sock, selectors.EVENT_READ, connection)

    def _drop(self, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        selector.unregister(sock)
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        del self._connections[sock]
        sock.close()

    def _read(self, connection: _Connection) -> Optional[Callback]:
        """Take what has come; answer when the head of the request is whole."""
        try:
            data = connection.sock.recv(_MAX_HEAD)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            connection.deadline = 0
            return None
        if connection.answered:
            return None  # the rest of a request that was refused
        connection.received += data
        head, ended, _ = connection.received.partition(b"\r\n\r\n")
        if not ended and len(connection.received) <= _MAX_HEAD:
            return None
        answer = (
            self._answer(head.decode("latin-1"))
            if ended and len(head) <= _MAX_HEAD
            else _Answer("431 Request Header Fields Too Large", "too large")
        )
        connection.answered, connection.received = True, b""
        with suppress(OSError):  # the buffer of a new connection holds all of it
            connection.sock.send(_encode(answer))
            connection.sock.shutdown(socket.SHUT_WR)
        return answer.callback

    def _answer(self, head: str) -> _Answer:
        line, *headers = head.split("\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            return _Answer("400 Bad Request", "this is no request of HTTP/1.1")
        if _values(headers, "host") != [f"{_HOST}:{self.port}"]:
            return _Answer("403 Forbidden", "the request is for another host")
        method, (path, _, query) = match[1], match[2].partition("?")
        if path != PATH:
            return _Answer("404 Not Found", "not found")
        if method != "GET":
            return _Answer("405 Method Not Allowed", "only GET is answered here")
        return self._answer_callback(query.partition("#")[0])

    def _answer_callback(self, query: str) -> _Answer:
        given = _parameters(query)
        state = given.get("state", "").encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(state, self._state):
            self.ignored += 1
            text = "this does not belong to the sign-in that is going on: its state is another one"
            return _Answer("400 Bad Request", _with_error(text, given))
        if given.get("error"):
            error = _with_error("", given) or "without a reason"
            text = f"the sign-in was refused: {error}"
            return _Answer("400 Bad Request", text, callback=Callback("", error))
        if not given.get("code"):
            error = "the identity provider sent neither a code nor an error"
            return _Answer("400 Bad Request", error, callback=Callback("", error))
        kind = "text/html; charset=utf-8"
        return _Answer("200 OK", _PAGE, kind, Callback(Secret(given["code"]), ""))


def _listen(ports: Sequence[int]) -> socket.socket:
    reasons: List[str] = []
    for port in ports:
        if not 0 <= port <= 65535:
            reasons.append(f"{port} (it is no port)")
            continue
        try:
            # On POSIX this reuses the address of closed connections, but not of a listener.
            listener = socket.create_server((_HOST, port), backlog=32)
        except OSError as error:
            # Its text would repeat the address.
            reasons.append(f"{port} ({os.strerror(error.errno) if error.errno else error})")
            continue
        listener.setblocking(False)
        return listener
    if not reasons:
        raise CredentialsError("the cloud names no callbackPorts that the browser may come back to")
    raise CredentialsError(
        f"the browser cannot come back: none of the ports {', '.join(reasons)} of {_HOST} can be "
        "listened on; end the program that uses one of them"
    )


def _parameters(query: str) -> Dict[str, str]:
    """Decode a query. It counts as empty if a parameter comes twice (RFC 6749, section 3.1)."""
    try:
        values = parse_qs(query, keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return {}
    given = {name: values[name] for name in _PARAMETERS if name in values}
    if any(len(each) > 1 for each in given.values()):
        return {}
    return {name: each[0] for name, each in given.items()}


def _with_error(text: str, given: Dict[str, str]) -> str:
    error, description = given.get("error", ""), given.get("error_description", "")
    return ": ".join(filter(None, (text, safe_line(error), safe_line(description))))


def _values(headers: Sequence[str], name: str) -> List[str]:
    """Return every value of a header."""
    pairs = (line.partition(":") for line in headers)
    return [value.strip(" \t") for key, _, value in pairs if key.lower() == name]


def _encode(answer: _Answer) -> bytes:
    body = answer.body.encode("utf-8", "replace")
    headers: Tuple[str, ...] = (
        f"HTTP/1.1 {answer.status}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
        "frame-ancestors 'none'",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "Connection: close",
        *(("Allow: GET",) if answer.status.startswith("405") else ()),
    )
    return "\r\n".join((*headers, "", "")).encode("latin-1") + body
