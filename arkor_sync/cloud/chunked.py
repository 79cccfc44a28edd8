"""The chunked transfer coding, undone. Pure: bytes in, bytes out; `ByteStream` feeds it.

`http.client` undoes one chunk a call, and a server that flushes every event makes a chunk of each.
Here all that have arrived are undone together.
"""

from __future__ import annotations

import re
from typing import List

_FIRST = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_NEXT = re.compile(rb"\r?\n" + _FIRST.pattern)
_LONGEST_SIZE_LINE = 4096  # bytes, extensions included


class ChunkedDecoder:
    """Turns the bytes of a chunked body into the bytes that it carries.

    Attributes:
        finished: Whether the last chunk has come. What follows it is dropped.
    """

    def __init__(self) -> None:
        self.finished = False
        self._size_line = _FIRST
        self._left = 0  # bytes of the chunk at hand that have not come
        self._pending = b""  # an unfinished size line

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body.

        Args:
            data: Any number of bytes.

        Returns:
            What they carry; it may be nothing.

        Raises:
            ValueError: A chunk does not begin with its size.
        """
        if self._size_line is _FIRST and not self._pending:
            # One whole chunk is what comes where events are few.
            begin, end = data.find(b"\r\n") + 2, len(data) - 2
            size_line = b"%x\r\n" % (end - begin)
            if begin < end and data.startswith(size_line) and data.endswith(b"\r\n"):
                return data[begin:end]
        if self._pending:
            data, self._pending = self._pending + data, b""
        end = self._left
        carried: List[bytes] = [data[:end]]
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
            carried.append(data[begin:end])
        self._left = max(0, end - len(data))
        return b"".join(carried)

    def _hold(self, rest: bytes) -> None:
        """Keep what may yet become a size line; the end of a chunk alone is done with."""
        if rest == b"\r\n" and self._size_line is _NEXT:
            self._size_line = _FIRST  # the chunk's own end has come
            return
        if b"\n" in rest[2:] or len(rest) > _LONGEST_SIZE_LINE:
            raise ValueError(f"not the size of a chunk: {rest[:20]!r}")
        self._pending = rest
