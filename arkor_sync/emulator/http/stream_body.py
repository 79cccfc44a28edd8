"""The headers and the body of a streamed answer. Runs in the connection's thread."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterator, List, Optional

from arkor_sync.emulator.faults import Fault
from arkor_sync.emulator.http.faulty_connection import FaultyConnection
from arkor_sync.emulator.http.faulty_encoder import FaultyEncoder, frames_before, mix_newlines
from arkor_sync.emulator.http.messages import encode_head
from arkor_sync.emulator.http.sse import PING
from arkor_sync.emulator.models import Frame, LogEntry


class BodyEnded(Exception):
    """A fault has ended the body properly. The connection can be used for another request."""


class StreamBody:
    """An answer that is sent event by event.

    Args:
        faulty: The connection, with the faults of this answer.
        chunked: Use chunked encoding. Otherwise the body ends when the connection is closed.
        headers: Headers beside those of every event stream.
    """

    def __init__(self, faulty: FaultyConnection, *, chunked: bool, headers: Dict[str, str]) -> None:
        self.faulty = faulty
        self._chunked = chunked
        self._headers = headers
        self._encoder = FaultyEncoder()
        self._index = 0

    def begin(self) -> None:
        """Send the status line and the headers."""
        framing = {"Transfer-Encoding": "chunked"} if self._chunked else {"Connection": "close"}
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-cache, no-transform",
            **framing,
            **self._headers,
        }
        self.faulty.send(encode_head(200, headers))
        if self.faulty.has_fault("bom"):
            self._send_data(b"\xef\xbb\xbf")
        faults = self.faulty.faults_at_event(0)
        for data in frames_before(faults):
            self._send_data(data)
        self._act_after_event(faults)

    def write(self, entry: LogEntry) -> bool:
        """Send one event. Return whether anything was sent for it.

        Raises:
            ClientGone: The client has left, or a fault ended the connection.
            BodyEnded: A fault ended the body.
        """
        self._index += 1
        return self._send_event(entry, self._index)

    def ping(self, event_id: Optional[str]) -> None:
        """Send a ping."""
        self._send_event(LogEntry(replace(PING, id=event_id)), None)

    def finish(self, last: Optional[Frame] = None) -> None:
        """Send one last frame and end the body properly."""
        for data in self._encoder.flush():
            self._send_data(data)
        if last is not None:
            self._send_event(LogEntry(last), None)
        if self.faulty.has_fault("hold_close"):
            self.faulty.wait(None)
        if self._chunked:
            self.faulty.send(b"0\r\n\r\n")

    def _send_event(self, entry: LogEntry, index: Optional[int]) -> bool:
        name = entry.frame.name if entry.frame else None
        faults = self.faulty.faults_at_event(index, entry.id, name)
        encoded = self._encoder.encode(entry, faults)
        cut = next((fault for fault in faults if fault.kind == "cut_mid_event"), None)
        if cut is not None and encoded:
            encoded[-1] = encoded[-1][: len(encoded[-1]) // 2 if cut.byte is None else cut.byte]
        for data in encoded:
            self._send_data(data)
        if cut is not None:
            self.faulty.end(cut)
        self._act_after_event(faults)
        return bool(encoded)

    def _act_after_event(self, faults: List[Fault]) -> None:
        """Do what the faults do after an event."""
        for fault in faults:
            if fault.kind == "expire_token":
                self.faulty.expire_token()
            if fault.kind in ("cut_clean", "expire_token"):
                if self._chunked:
                    self.faulty.send(b"0\r\n\r\n")
                raise BodyEnded
            if fault.kind in ("reset_peer", "blackhole"):
                self.faulty.end(fault)

    def _send_data(self, data: bytes) -> None:
        drip = self.faulty.fault("drip")
        for part in self._parts(data) if drip is None else self._drops(data, drip.size or 1):
            if drip is not None:
                self.faulty.wait(drip.seconds)
            if self._chunked:
                part = b"%x\r\n%s\r\n" % (len(part), part)
            self.faulty.send(part)

    def _drops(self, data: bytes, size: int) -> Iterator[bytes]:
        """Yield parts of 1 to `size` bytes."""
        for part in self._parts(data):
            while part:
                cut = self.faulty.rng.randint(1, size)
                yield part[:cut]
                part = part[cut:]

    def _parts(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes that are sent at once. None is empty: that would end a chunked body."""
        split = self.faulty.has_fault("split_crlf")
        if self.faulty.has_fault("mixed_newlines"):
            data = mix_newlines(data)
        elif split:
            data = data.replace(b"\n", b"\r\n")
        if split:
            *lines, data = data.split(b"\r\n")
            for line in lines:
                yield line + b"\r"
                yield b"\n"
        if data:
            yield data
