"""A streamed answer on its way out, faults included. Runs in the connection's thread."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterable, Iterator, List, NoReturn, Optional

from arkor_sync.emulator.faults import ANSWER, EVENT, Fault, FaultBook, Place
from arkor_sync.emulator.http.event_faults import Distorter, mix_newlines
from arkor_sync.emulator.http.messages import head
from arkor_sync.emulator.http.server import ClientGone, Connection
from arkor_sync.emulator.http.sse import PING
from arkor_sync.emulator.models import Frame, LogEntry
from arkor_sync.emulator.store import Store

# How often, in real seconds, an idle connection looks whether its client is still there.
POLL_SECONDS = 0.05


class CutClean(Exception):
    """A fault ended the answer, properly."""


class Wire:
    """A connection as one answer uses it, with the faults that concern the whole answer.

    Args:
        connection: Where it goes.
        store: What the emulator knows.
        book: The faults.
        place: Which request is answered.
        token: The request's bearer token.
    """

    def __init__(
        self,
        connection: Connection,
        store: Store,
        book: FaultBook,
        place: Place,
        token: Optional[str],
    ) -> None:
        self.connection = connection
        self._store = store
        self._book = book
        self._place = place
        self._token = token
        self._shape = {fault.kind: fault for fault in book.strike(ANSWER, place)}
        kick = self._shape.get("slow_consumer_kick")
        if kick is not None:
            # Sockets know no virtual clock.
            real = (kick.seconds or 0) / (store.clock.speed or 1)
            connection.limit_sending(max(real, 0.001), kick.size or 1)

    def has(self, kind: str) -> bool:
        """Tell whether a fault concerns the whole answer."""
        return kind in self._shape

    def at_event(self, index: Optional[int], *names: Optional[str]) -> List[Fault]:
        """Return the faults that strike at an event."""
        return self._book.strike(EVENT, self._place, index=index, names=names)

    def at_answer(self, kinds: Iterable[str]) -> List[Fault]:
        """Return the faults that strike at an answer which is no stream."""
        return self._book.strike(EVENT, self._place, kinds, index=1)

    def send(self, data: bytes) -> None:
        """Send bytes, in slices where a fault wants it so.

        Raises:
            ClientGone: The client left, or read too slowly for a fault's patience.
        """
        drip = self._shape.get("slow_drip") or self._shape.get("slice")
        size = (drip.size if drip else None) or max(1, len(data))
        try:
            for start in range(0, len(data), size):
                if drip is not None:
                    self.wait(drip.seconds or 0)
                self.connection.send(data[start : start + size])
        except ClientGone:
            if self.has("slow_consumer_kick"):
                self.connection.reset()
            raise

    def wait(self, seconds: Optional[float]) -> None:
        """Wait so many virtual seconds, None for ever.

        Raises:
            ClientGone: The client left, or the emulator stops.
        """
        clock = self._store.clock
        deadline = float("inf") if seconds is None else clock.now() + seconds
        while clock.now() < deadline:
            with self._store.changed:
                self._store.wait(lambda: False, deadline, POLL_SECONDS)
                if self._store.stopping:
                    raise ClientGone
            if self.connection.client_has_gone():
                raise ClientGone

    def end(self, fault: Fault) -> NoReturn:
        """End the connection as ``reset_peer`` and ``blackhole`` do, or just close it."""
        if fault.kind == "reset_peer":
            self.connection.reset()
        elif fault.kind == "blackhole":
            self.wait(fault.seconds)
        self.connection.close()
        raise ClientGone

    def expire_token(self) -> None:
        """End the validity of the request's token."""
        if self._token:
            self._store.revoke(self._token)


class Body:
    """A streamed answer's body, chunked or ended by closing the connection.

    Args:
        wire: Where it goes.
        chunked: Use chunked framing.
        headers: Headers beside those of an event stream.
    """

    def __init__(self, wire: Wire, *, chunked: bool, headers: Dict[str, str]) -> None:
        self.wire = wire
        self._chunked = chunked
        self._headers = headers
        self._distorter = Distorter()
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
        self.wire.send(head(200, headers))
        if self.wire.has("bom"):
            self._write(b"\xef\xbb\xbf")
        self._strike(self.wire.at_event(0))

    def write(self, entry: LogEntry) -> bool:
        """Send one event; tell whether anything was sent for it.

        Raises:
            ClientGone: The client left, or a fault ended the connection.
            CutClean: A fault ended the body.
        """
        self._index += 1
        return self._send(entry, self._index)

    def ping(self, event_id: Optional[str]) -> None:
        """Send a ping."""
        self._send(LogEntry(replace(PING, id=event_id)), None)

    def finish(self, last: Optional[Frame] = None) -> None:
        """End the body properly, with one last frame; what is not chunked ends by closing."""
        for data in self._distorter.rest():
            self._write(data)
        if last is not None:
            self._send(LogEntry(last), None)
        if self.wire.has("hold_close"):
            self.wire.wait(None)
        if self._chunked:
            self.wire.send(b"0\r\n\r\n")

    def _send(self, entry: LogEntry, index: Optional[int]) -> bool:
        name = entry.frame.name if entry.frame else None
        faults = self.wire.at_event(index, entry.id, name)
        sent = self._distorter.apply(entry, faults)
        cut = next((fault for fault in faults if fault.kind == "cut_mid_event"), None)
        if cut is not None and sent:
            sent[-1] = sent[-1][: len(sent[-1]) // 2 if cut.byte is None else cut.byte]
        for data in sent:
            self._write(data)
        if cut is not None:
            self.wire.end(cut)
        self._strike(faults)
        return bool(sent)

    def _strike(self, faults: List[Fault]) -> None:
        """Do what comes after an event."""
        for fault in faults:
            if fault.kind == "expire_token":
                self.wire.expire_token()
            if fault.kind in ("cut_clean", "expire_token"):
                if self._chunked:
                    self.wire.send(b"0\r\n\r\n")
                raise CutClean
            if fault.kind in ("reset_peer", "blackhole"):
                self.wire.end(fault)

    def _write(self, data: bytes) -> None:
        for part in self._parts(data):
            if self._chunked:
                part = b"%x\r\n%s\r\n" % (len(part), part)
            self.wire.send(part)

    def _parts(self, data: bytes) -> Iterator[bytes]:
        """Yield what is written at once. An empty part would end a chunked body."""
        split = self.wire.has("split_crlf")
        if self.wire.has("mixed_newlines"):
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
