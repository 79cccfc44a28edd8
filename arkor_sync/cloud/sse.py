"""Server-sent event frames from the bytes of a response body. Pure.

sseclient-py is the parser, and no other module imports it. It expects complete, well-formed blocks,
so `FrameParser` prepares them: it unifies the newlines, drops a byte order mark, replaces
invalid UTF-8, keeps a block until its blank line has arrived, and limits the size of a block. So a
block that is cut by a broken connection never becomes a frame. To do without sseclient-py, `parse`
would split blocks into lines itself, by the field rules of the HTML standard, section 9.2.6.
"""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional

from sseclient import SSEClient

from arkor_sync.errors import StreamProtocolError

MAX_EVENT_BYTES = 1 << 20
MAX_EVENT_LINES = 2000  # sseclient-py joins lines in quadratic time: 2,000 take 0.1 s at most

_RETRY_DIGITS = 12  # more would be decades; int() and float refuse thousands of digits

_BOM = b"\xef\xbb\xbf"
_COMMENT = re.compile(rb"^:[^\n]*\n", re.MULTILINE)
_ID_WITH_NUL = re.compile(rb"^id:[^\n]*\0[^\n]*\n", re.MULTILINE)
# A block in the form that the cloud sends.
_BLOCK = re.compile("id: ([^\n\r\0]+)\nevent: ([^\n\r]+)\ndata: ([^\n\r]+)\n\n")
_RETRY = re.compile(rb"^retry: ?([0-9]+)$", re.MULTILINE)


class Frame(NamedTuple):
    """One event of the stream.

    Attributes:
        event: The `event` field; `"message"` if it is absent or empty.
        data: The `data` lines joined by newlines.
        id: The `id` field of this block, or `None`. Unlike in a browser it is not inherited from
            earlier blocks: two events with the same id are taken for one.
    """

    event: str
    data: str
    id: Optional[str]


class FrameParser:
    """Turns the bytes of one response body into frames, wherever the chunks are cut.

    Attributes:
        max_event_bytes: The largest event that is accepted.
        retry_ms: The last valid `retry` field of a complete block, in milliseconds, or `None`.
            Of a very long number only the first digits count.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.retry_ms: Optional[int] = None
        self.max_event_bytes = max_event_bytes
        self._pending = bytearray()  # the incomplete block
        self._without_comments = 0  # so many bytes of it are whole lines, none of them a comment
        self._after_cr = False
        self._start: Optional[bytes] = b""  # the first bytes, until it is clear if they are a BOM

    def feed(self, chunk: bytes) -> List[Frame]:
        """Take the next bytes of the body.

        Args:
            chunk: Any number of bytes.

        Returns:
            The frames that these bytes complete, in order.

        Raises:
            StreamProtocolError: One event is larger than the limit.
        """
        return self.parse(self.complete(chunk))

    def lone(self, chunk: bytes) -> Optional[Frame]:
        """Take the next bytes of the body, if they are exactly one block of the common form.

        When events are rare, each arrives like this, and is parsed in a fraction of the time.

        Returns:
            The frame; None if the bytes are something else: then they were not taken.
        """
        if self._pending or self._after_cr or self._start is not None:
            return None
        if chunk.find(b"\n\n") + 2 != len(chunk) or len(chunk) > self.max_event_bytes:
            return None
        block = _BLOCK.fullmatch(chunk.decode("utf-8", "replace"))
        if block is None:
            return None
        event_id, event, data = block.groups()
        return Frame(event, data, event_id)

    def complete(self, chunk: bytes) -> bytes:
        r"""Take the next bytes of the body, and return the whole blocks that they complete.

        Newlines are `\n`, and there is no byte order mark.

        Raises:
            StreamProtocolError: The incomplete block is larger than the limit.
        """
        if self._start is not None:
            chunk = self._without_bom(self._start + chunk)
        if self._after_cr or b"\r" in chunk:
            chunk = self._unify_newlines(chunk)
        if not chunk:
            return b""
        end = chunk.rfind(b"\n\n") + 2
        if end == len(chunk) > 1 and not self._pending:
            return chunk
        # The two newlines of a blank line may be in two chunks.
        split = chunk[:1] == b"\n" and self._pending.endswith(b"\n")
        if end == 1 and not split:
            self._hold(chunk)
            return b""
        blocks = bytes(self._pending) + chunk[:end]
        self._pending.clear()
        self._without_comments = 0
        if end < len(chunk):
            self._hold(chunk[end:])
        return blocks

    def _without_bom(self, start: bytes) -> bytes:
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._start = start
            return b""
        self._start = None
        return start[len(_BOM) :] if start.startswith(_BOM) else start

    def _unify_newlines(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if chunk:
            self._after_cr = chunk[-1:] == b"\r"
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, chunk: bytes) -> None:
        self._pending += chunk
        if len(self._pending) > self.max_event_bytes:
            # Some servers send comments to keep the connection open, and no blank line after them.
            # What was looked at before is not looked at again, so the time is linear.
            rest = self._pending[self._without_comments :]
            end = rest.rfind(b"\n") + 1
            lines, unfinished = _COMMENT.sub(b"", rest[:end]), rest[end:]
            self._pending[self._without_comments :] = lines
            self._without_comments = len(self._pending)
            # Nobody reads the text of a comment, so none of it is kept.
            self._pending += b":" if unfinished[:1] == b":" else unfinished
            self._check_bytes(len(self._pending))

    def _check_bytes(self, size: int) -> None:
        if size > self.max_event_bytes:
            raise StreamProtocolError(
                f"an event of the stream is larger than {self.max_event_bytes:,} bytes; "
                "if that is expected, raise max_event_bytes"
            )

    def parse(self, blocks: bytes) -> List[Frame]:
        """Parse whole blocks.

        Raises:
            StreamProtocolError: One event is larger than the limit.
        """
        if not blocks:
            return []
        if b"\n:" in blocks or blocks[:1] == b":":
            blocks = _COMMENT.sub(b"", blocks)
        if len(blocks) > self.max_event_bytes or blocks.count(b"\n") > MAX_EVENT_LINES:
            for block in blocks.split(b"\n\n"):
                self._check_bytes(len(block) + 1)
                if block.count(b"\n") >= MAX_EVENT_LINES:
                    raise StreamProtocolError(
                        f"an event of the stream has more than {MAX_EVENT_LINES:,} lines"
                    )
        if b"\0" in blocks:
            blocks = _ID_WITH_NUL.sub(b"", blocks)
        for digits in _RETRY.findall(blocks):
            self.retry_ms = int(digits.lstrip(b"0")[:_RETRY_DIGITS] or b"0")
        if not blocks.isascii():
            blocks = blocks.decode("utf-8", "replace").encode("utf-8")
        events = SSEClient(iter([blocks])).events()
        return [Frame(event.event, event.data, event.id) for event in events]
