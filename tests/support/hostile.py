"""Answers that never end, or that are far larger than they look. For `support.loopback.Server`."""

from __future__ import annotations

import functools
import itertools
import json
import threading
import tracemalloc
import zlib
from typing import Any, Callable, Dict, Iterator, Tuple

from support.loopback import Connection

Handler = Callable[[Connection, str], None]

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"Content-Length: 1000000000000\r\n\r\n"
MIB = 1 << 20
BOMB = 128 * MIB  # bytes, decoded


def answer_json(value: Any, status: str = "200 OK") -> Handler:
    """Answer as a healthy cloud does."""
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"

    def handler(connection: Connection, _: str) -> None:
        connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    return handler


def drip(start: bytes, again: bytes) -> Handler:
    """Send a start, and then other bytes again and again, one by one: silence is always short."""

    def handler(connection: Connection, _: str) -> None:
        connection.send(start)
        pause = threading.Event()
        for byte in itertools.cycle(again):
            pause.wait(0.02)
            connection.send(bytes([byte]))

    return handler


def flood(start: bytes, again: bytes) -> Handler:
    """Send a start, and then other bytes again and again, as fast as they are taken."""

    def handler(connection: Connection, _: str) -> None:
        connection.send(start)
        block = again * (65536 // len(again) + 1)
        while True:
            connection.send(block)

    return handler


DRIPS: Dict[str, Handler] = {
    "100 Continue": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "102 Processing": drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a flood of 100 Continue": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the status line": drip(b"HTTP/1.1 200 ", b"OK"),
    "a header": drip(OK + b"X-Long: ", b"a"),
}
"""Answers whose headers never end."""

BODIES: Dict[str, Handler] = {
    "a body by its length": drip(OK + JSON + LONG, b" "),
    "a body by its end": drip(OK + JSON + b"Connection: close\r\n\r\n", b" "),
    "chunks": drip(OK + JSON + CHUNKED, b"1\r\n \r\n"),
    "the size of a chunk": drip(OK + JSON + CHUNKED, b"0"),
    "an extension of a chunk": drip(OK + JSON + CHUNKED + b"5;", b"a"),
}
"""Answers whose bodies never end."""


@functools.cache
def bomb(prefix: bytes = b"", layers: int = 1) -> bytes:
    """Return a few hundred kilobytes of gzip that stand for a prefix and `BOMB` spaces."""
    squeezer = zlib.compressobj(9, wbits=31)
    parts = [squeezer.compress(prefix)]
    parts += [squeezer.compress(b" " * MIB) for _ in range(BOMB // MIB)]
    packed = b"".join(parts) + squeezer.flush()
    for _ in range(layers - 1):
        outer = zlib.compressobj(9, wbits=31)
        packed = outer.compress(packed) + outer.flush()
    return packed


def send_bomb(status: str = "200 OK", kind: str = "application/json", **more: Any) -> Handler:
    """Answer with a small gzip body that stands for a large one."""
    coding = more.pop("coding", "gzip")

    def handler(connection: Connection, _: str) -> None:
        body = bomb(**more)
        connection.send(
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Encoding: {coding}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    return handler


FLOODS: Dict[str, Handler] = {
    "gzip": send_bomb(),
    "chunks": flood(OK + JSON + CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n"),
    "a length": flood(OK + JSON + LONG, b" "),
    "a negative length": flood(OK + JSON + b"Content-Length: -1\r\n\r\n", b" "),
    "the connection's end": flood(OK + JSON + b"Connection: close\r\n\r\n", b" "),
}
"""Answers whose bodies are larger than any limit."""


def route(**handlers: Any) -> Handler:
    """Answer by the last part of the path; of a list, the first, and its last for ever."""
    scripts: Dict[str, Iterator[Handler]] = {}
    for name, given in handlers.items():
        steps = given if isinstance(given, list) else [given]
        scripts[name] = itertools.chain(steps, itertools.repeat(steps[-1]))

    def handler(connection: Connection, request: str) -> None:
        path = request.split(" ", 2)[1].partition("?")[0]
        next(scripts[path.rpartition("/")[2].replace("-", "_")])(connection, request)

    return handler


def peak_of(call: Callable[[], Any]) -> Tuple[Any, int]:
    """Return what a call returned, and the most bytes that Python held meanwhile."""
    bomb()  # made once, and not while it is measured
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
