"""A decoder of the chunked transfer coding (RFC 9112, section 7.1). Pure.

`http.client` decodes one chunk per call, and a server that flushes each event sends each in a chunk
of its own. This decoder takes all chunks that have arrived in one call.
"""

from __future__ import annotations

import re
from typing import List

# Servers pad the size with zeros or white space. Padding is bounded by the longest size line.
_FIRST = re.compile(rb"[ \t]*0*([1-9a-fA-F][0-9a-fA-F]{0,14}|0)[ \t]*(?:;[^\n]*)?\r?\n")
_NEXT = re.compile(rb"\r?\n" + _FIRST.pattern)
_LONGEST_SIZE_LINE = 4096  # bytes, extensions included


class ChunkedDecoder:
    """Turns the bytes of a chunked body into the bytes that it carries.

    Attributes:
        finished: Whether the last chunk has been decoded. What follows it is dropped.
    """

    def __init__(self) -> None:
        self.finished = False
        self._size_line = _FIRST
        self._left = 0  # bytes of the current chunk that have not arrived
        self._pending = b""  # an unfinished size line

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body.

        Args:
            data: Any number of bytes.

        Returns:
            The decoded bytes; empty if no data of a chunk has arrived.

        Raises:
            ValueError: A chunk does not start with its size.
        """
        if self._size_line is _FIRST and not self._pending:
            # The common case where events are rare: the bytes are exactly one chunk.
            begin, end = data.find(b"\r\n") + 2, len(data) - 2
            size_line = b"%x\r\n" % (end - begin)
            if begin < end and data.startswith(size_line) and data.endswith(b"\r\n"):
                return data[begin:end]
        if self._pending:
            data, self._pending = self._pending + data, b""
        end = self._left
        decoded: List[bytes] = [data[:end]]
        while end < len(data) and not self.finished:
            line = self._size_line.match(data, end)
            if line is None:
                self._hold(data[end:])
                end = len(data)
                break
            self._size_line = _NEXT
            size = int(line[1], 16)
            self.finished = not size
            begin = line.end()
            end = begin + size
            decoded.append(data[begin:end])
        self._left = max(0, end - len(data))
        return b"".join(decoded)

    def _hold(self, rest: bytes) -> None:
        """Keep the start of a size line until the rest of it has arrived."""
        if rest == b"\r\n" and self._size_line is _NEXT:
            self._size_line = _FIRST  # only the end of the chunk has arrived
            return
        if b"\n" in rest[2:] or len(rest) > _LONGEST_SIZE_LINE:
            raise ValueError(f"not the size of a chunk: {rest[:20]!r}")
        self._pending = rest
