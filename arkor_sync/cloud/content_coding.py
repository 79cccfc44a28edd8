"""A decoder of gzip, the one content coding that is asked for (RFC 9110, section 8.4.1.3). Pure.

It returns at most a piece of what the bytes stand for, so that whoever reads can stop at a limit.
urllib3 before 2.6 decompresses at once all that has arrived: 1 MB may stand for 1 GB.
"""

from __future__ import annotations

import zlib

ACCEPT_ENCODING = "gzip"

_PIECE = 256 << 10  # bytes
_GZIP = 31  # zlib's number for the gzip format


def check_coding(coding: str) -> bool:
    """Whether a body is compressed, by its `Content-Encoding`.

    Raises:
        ValueError: It has a coding that was not asked for, or more than one.
    """
    name = coding.strip().lower()
    if name not in ("", "identity", "gzip", "x-gzip"):
        raise ValueError(f"the content coding {coding[:40]!r}, which was not asked for")
    return name.endswith("gzip")


class GzipDecoder:
    """Turns the bytes of a gzip body into the bytes that it stands for.

    Attributes:
        pending: Bytes that were taken, and are not decoded yet.
    """

    def __init__(self) -> None:
        self.pending = b""
        self._member = zlib.decompressobj(_GZIP)
        self._is_first = True
        self._has_begun = False

    def decode(self, data: bytes) -> bytes:
        """Take the next bytes of the body.

        Args:
            data: Any number of bytes; none while some are pending.

        Returns:
            The next piece of the decoded bytes; empty if none can be decoded yet.

        Raises:
            zlib.error: They are not gzip. What follows a whole member, and is none, is dropped.
        """
        data = self.pending + data
        self._has_begun = self._has_begun or bool(data)
        decoded = b""
        while data and not decoded:
            ended = self._member
            if ended.eof:
                self._member = zlib.decompressobj(_GZIP)
                self._is_first = False
            try:
                decoded = self._member.decompress(data, _PIECE)
            except zlib.error:
                if self._is_first:
                    raise
                self._member, data = ended, b""
                break
            data = self._member.unconsumed_tail or self._member.unused_data
        self.pending = data
        return decoded

    def check_end(self) -> None:
        """Check that the body may end here.

        Raises:
            ValueError: It ends in the middle of what was compressed.
        """
        if self._has_begun and not self._member.eof:
            raise ValueError("the compressed body is cut")
