"""The bodies of answers, decoded, within limits of time and memory. Any thread.

Every body is read here, whether it is kept whole or used as it arrives. A limit holds for what the
bytes stand for: 1 MB of gzip may stand for 1 GB. urllib3 and http.client read none of them: what
they bound differs from version to version, and http.client takes -1 for the size of a chunk.
"""

from __future__ import annotations

import http.client
import math
import socket
import sys
import zlib
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Iterator, Optional

import requests

from arkor_sync._common.clock import Clock
from arkor_sync.cloud.chunked import ChunkedDecoder
from arkor_sync.cloud.connection_errors import connection_error
from arkor_sync.cloud.connections import AnswerSocket
from arkor_sync.cloud.content_coding import GzipDecoder, check_coding
from arkor_sync.cloud.transport import Transport
from arkor_sync.cloud.urls import without_query
from arkor_sync.errors import ArkorConnectionError, ResponseError

MAX_ANSWER_BYTES = 16 << 20
MAX_ERROR_BYTES = 64 << 10
MAX_CHAT_BYTES = 64 << 20

_CHUNK = 120 << 10  # bytes; an allocation of 128 KiB or more is a system call


class ByteStream:
    """The body of one response, piece by piece, as the bytes arrive and decoded.

    No more is held than one piece. A body that is `timed` must arrive within the read timeout, with
    its headers; another may last for ever, if only the next piece arrives within the read timeout.

    Threads: only the owner of the transport reads and closes it.
    """

    def __init__(
        self,
        response: requests.Response,
        transport: Optional[Transport] = None,
        *,
        timed: bool = False,
        limit: Optional[int] = None,
    ) -> None:
        """Read a response.

        Args:
            response: Made with `stream=True`.
            transport: The one that made it; closing the body then closes its connections.
            timed: Whether the time for the whole answer is limited.
            limit: The largest body in bytes, after decoding; None for no limit.
        """
        self.response = response
        self._transport = transport
        self._timed = timed
        self._limit = math.inf if limit is None else limit
        self._size = 0
        raw: Any = response.raw
        http_response = raw._fp
        self._next: Callable[[], Optional[bytes]] = _nothing
        if http_response.fp is None:
            return
        self._answer: AnswerSocket = http_response.fp.raw
        if not timed:
            self._answer.lift_deadline()
        received = _receive(http_response.fp, timed)
        if http_response.chunked:
            self._next = partial(_next_of_chunks, received, ChunkedDecoder())
        else:
            self._next = partial(next, _pieces(received, http_response.length), None)
        try:
            if check_coding(response.headers.get("Content-Encoding", "")):
                self._next = partial(_next_of_gzip, self._next, GzipDecoder(), timed)
        except ValueError as error:
            self._next = partial(_fail, error)

    def read(self) -> bytes:
        """Wait for bytes.

        Returns:
            At least one byte, or `b""` at the end of the body.

        Raises:
            ArkorTimeoutError: Nothing was sent for longer than the read timeout, or nothing but
                bytes that stand for nothing, or the time for the whole answer is over.
            ArkorConnectionError: The connection broke, or the bytes cannot be decoded.
            ResponseError: The body is larger than the limit.
        """
        handled = sys.exc_info()[1]
        try:
            piece = self._next()
            if not piece:
                piece = self._wait(piece)
        except (OSError, http.client.HTTPException, ValueError, zlib.error) as error:
            # ValueError: what a decoder says of the bytes, and http.client of a closed file.
            self._next = partial(_fail, error)  # what comes later would seem to be a clean end
            request, action = self.response.request, "reading the stream"
            if self._timed:
                url = without_query(request.url or "")
                action = f"{request.method} {url}: reading the answer"
            if self._transport is not None and self._transport.interrupted:
                failure, root = ArkorConnectionError(f"{action}: interrupted"), None
            else:
                failure, root = connection_error(error, action, handled)
        else:
            self._size += len(piece)
            if self._size <= self._limit:
                return piece
            raise ResponseError(
                f"the answer is larger than {self._limit:,} bytes; if that is expected, raise the "
                "client's limit (max_answer_bytes, max_chat_bytes)"
            )
        raise failure from root

    def _wait(self, piece: Optional[bytes]) -> bytes:
        """Wait for bytes that stand for something: the size of a chunk, for instance, does not."""
        begin = Clock.now()
        while piece is not None and not piece:
            patience = self._answer._sock.gettimeout()
            if patience is not None and Clock.now() - begin > patience:
                raise socket.timeout("timed out")
            piece = self._next()
        return piece or b""

    def set_timeout(self, seconds: float) -> None:
        """Set the read timeout of the next `read`, in seconds."""
        with suppress(OSError, AttributeError):  # the body has ended, and the next read says so
            self._answer._sock.settimeout(seconds)

    def close(self) -> None:
        """Close the connection."""
        self.response.close()
        if self._transport is not None:
            self._transport.close_connections()


def read_body(response: requests.Response, limit: int, *, cut: bool = False) -> bytes:
    """Read the body of a response, within the time and the memory that it may take.

    Args:
        response: Its body is unread.
        limit: The largest body in bytes, after decoding.
        cut: Whether to return the start of a larger body, and not to raise.

    Raises:
        ArkorConnectionError: The connection broke, or the time for the whole answer is over.
        ResponseError: The body is larger than the limit.
    """
    stream = ByteStream(response, timed=True, limit=None if cut else limit)
    body = bytearray()
    while len(body) < limit or not cut:
        piece = stream.read()
        if not piece:
            break
        body += piece
    return bytes(body[:limit])


def _receive(file: Any, timed: bool = False) -> Iterator[bytes]:
    """Wait for bytes, again and again: first those that came with the headers, then the socket's.

    Reading the socket is faster than reading the file. Nothing is lost: the first `read1` returns
    all that the file has buffered.
    """
    yield file.read1()
    receive = file.raw.recv if timed else file.raw._sock.recv
    while True:
        yield receive(_CHUNK)


def _next_of_chunks(received: Iterator[bytes], decoder: ChunkedDecoder) -> Optional[bytes]:
    """Read what has arrived of a chunked body; `None` at its end."""
    if decoder.finished:
        return None
    data = next(received, b"")
    if not data:
        raise http.client.IncompleteRead(b"")
    return decoder.feed(data)


def _next_of_gzip(
    read: Callable[[], Optional[bytes]], decoder: GzipDecoder, whole: bool
) -> Optional[bytes]:
    """Read the next piece of a compressed body, which may have to be whole; `None` at its end."""
    data = b"" if decoder.pending else read()
    if data is None:
        if whole:
            decoder.check_end()
        return None
    return decoder.decode(data)


def _pieces(received: Iterator[bytes], length: Optional[int]) -> Iterator[bytes]:
    """Yield what arrives of a body that is so long, or that ends with the connection."""
    left = math.inf if length is None else length
    while left > 0:
        data = next(received, b"")
        if data:
            yield data if length is None else data[: int(left)]
        elif length is not None:
            raise http.client.IncompleteRead(b"", int(left))
        else:
            return
        left -= len(data)


def _nothing() -> None:
    return None


def _fail(error: Exception) -> Optional[bytes]:
    raise error
