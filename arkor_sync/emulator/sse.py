"""Server-sent events: frames as bytes, and the body that carries them. A connection's thread."""

from __future__ import annotations

from typing import Dict

from arkor_sync.emulator.records import Frame
from arkor_sync.emulator.server import Connection
from arkor_sync.emulator.wire import head

PING = Frame("{}", name="ping")
END = Frame("{}", name="end")


def encode(frame: Frame) -> bytes:
    """Return the bytes of one frame, blank line included."""
    lines = [f"id: {frame.id}"] if frame.id is not None else []
    lines += [f"event: {frame.name}"] if frame.name else []
    lines += [f"data: {line}" for line in frame.data.split("\n")]
    # "surrogatepass" lets a scripted text carry what JSON may carry.
    return ("\n".join(lines) + "\n\n").encode("utf-8", "surrogatepass")


class Body:
    """A streamed answer's body, chunked or ended by closing the connection.

    Args:
        connection: Where it goes.
        chunked: Use chunked framing.
        headers: Headers beside those of an event stream.
    """

    def __init__(self, connection: Connection, *, chunked: bool, headers: Dict[str, str]) -> None:
        self.connection = connection
        self._chunked = chunked
        self._headers = headers

    def begin(self) -> None:
        """Send the status line and the headers."""
        framing = {"Transfer-Encoding": "chunked"} if self._chunked else {"Connection": "close"}
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-cache, no-transform",
            **framing,
            **self._headers,
        }
        self.connection.send(head(200, headers))

    def write_frame(self, frame: Frame) -> None:
        """Send one frame."""
        self.write(encode(frame))

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if not data:
            return
        if self._chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        self.connection.send(data)

    def finish(self) -> None:
        """End the body properly; what is not chunked ends when the connection closes."""
        if self._chunked:
            self.connection.send(b"0\r\n\r\n")
