"""A `requests` session whose open sockets another thread can shut down. Any thread.

One thread owns a transport and makes its requests; any thread may interrupt it.

Closing the response does not wake a thread that is blocked in `connect`, in a TLS handshake, while
it waits for headers or while it reads a body: `close()` waits for the lock that the blocked reader
holds. Shutting the socket down does wake it, in each of these phases. The shutdown is made on a
duplicate of the socket's descriptor, taken before the connection is made: so it touches no TLS
state, and the number of the descriptor cannot belong to another file by then.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
import sys
import threading
from functools import partial
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple, Union

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.util.wait import wait_for_write

from arkor_sync.cloud.chunked import ChunkedDecoder
from arkor_sync.cloud.connection_errors import close_sockets, connection_error
from arkor_sync.cloud.plain_session import PlainSession
from arkor_sync.errors import ArkorConnectionError, ArkorUsageError

_CHUNK = 120 << 10  # bytes; an allocation of 128 KiB or more is a system call


class Transport:
    """A session for one thread, whose requests any other thread can interrupt.

    Threads: `request` and `reset` are for the owner. `interrupt` and `close` are for any thread;
    they return at once, and the call that the owner is blocked in fails.

    Attributes:
        interruption: Set from an interrupt until the owner resets the transport. When the owner
            waits for something that is not the network, it waits for this.
    """

    def __init__(self, template: Optional[requests.Session] = None) -> None:
        """Make a session.

        Args:
            template: A session whose proxies, certificates, headers and `trust_env` are taken over.
        """
        self._lock = threading.Lock()
        self._duplicates: Dict[socket.socket, socket.socket] = {}  # for the shutdown, by socket
        self.interruption = threading.Event()
        self._closed = False
        self._session = PlainSession(template, self._connect)

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` or `close` was called since the owner last reset the transport."""
        return self.interruption.is_set()

    def reset(self) -> bool:
        """Close every connection and end the interruption, on the owner's thread.

        The owner resets the transport first, and decides after that what to request. So an
        interrupt that comes after the decision is not lost, whatever the owner does meanwhile.

        Returns:
            False once the transport is closed.
        """
        self.close_connections()
        with self._lock:
            if not self._closed:
                self.interruption.clear()
        return not self._closed

    def close_connections(self) -> None:
        """Close every connection, on the owner's thread."""
        self._session.close()
        with self._lock:
            for duplicate in self._duplicates.values():
                duplicate.close()
            self._duplicates.clear()

    def interrupt(self) -> None:
        """Make the owner's blocked call fail, and its next calls, until it resets the transport."""
        with self._lock:
            self.interruption.set()
            for duplicate in self._duplicates.values():
                try:
                    duplicate.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # it is not connected, or the server has closed the connection

    def close(self) -> None:
        """Interrupt, and refuse all later requests."""
        self._closed = True
        self.interrupt()

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.reset()

    def request(
        self,
        method: str,
        url: str,
        *,
        timeout: Tuple[float, Optional[float]],
        auth: Optional[AuthBase] = None,
        params: Optional[Mapping[str, str]] = None,
        headers: Optional[Mapping[str, Union[str, bytes]]] = None,
        json: Any = None,
        stream: bool = False,
    ) -> requests.Response:
        """Send one request, on the owner's thread. Redirects are never followed.

        Args:
            method: The HTTP method.
            url: The whole URL, without secrets.
            timeout: Seconds to connect, and seconds of silence between two reads.
            auth: Sets the authorisation header; None for none.
            params: Query parameters, not encoded.
            headers: More request headers.
            json: The body; None for no body.
            stream: Return after the headers; read the body with `ByteStream`.

        Returns:
            The response, whatever its status.

        Raises:
            ArkorTimeoutError: A timeout has passed.
            ArkorConnectionError: The request got no answer.
            ArkorUsageError: The proxy or a header of the session cannot work.
        """
        handled = sys.exc_info()[1]  # an error that the caller handles now is not our cause
        root: Optional[BaseException] = None
        try:
            response = self._session.request(
                method,
                url,
                params=params,
                headers=dict(headers or {}),
                json=json,
                auth=auth,
                timeout=timeout,
                allow_redirects=False,
                stream=stream,
            )
        except ArkorUsageError:
            raise  # of a proxy or a header: trying again would not help
        except (HTTPError, OSError, http.client.HTTPException, ValueError) as error:
            # A RequestException is an OSError; an invalid host name raises a bare UnicodeError.
            close_sockets(error)
            failure, root = connection_error(error, f"{method} {_without_query(url)}", handled)
        else:
            if not self.interrupted:
                return response
            # http.client does not notice that the headers are incomplete.
            response.close()
            failure = ArkorConnectionError(f"{method} {_without_query(url)}: aborted")
        # Raised outside of the except block, so that its context is not the exception of requests:
        # that one holds the bearer.
        raise failure from root

    def _connect(
        self,
        address: Tuple[str, int],
        timeout: Optional[float],
        source_address: Optional[Tuple[str, int]],
        options: Any,
    ) -> socket.socket:
        """Connect to the first address that answers. An interrupt ends each attempt."""
        failure: OSError = OSError(f"{address[0]} has no address")
        for family, kind, proto, _, target in socket.getaddrinfo(*address, 0, socket.SOCK_STREAM):
            try:
                sock = socket.socket(family, kind, proto)
            except OSError as error:
                failure = error  # this machine does not support the address family
                continue
            try:
                for option in options or ():
                    sock.setsockopt(*option)
                if source_address:
                    sock.bind(source_address)
                sock.setblocking(False)
                self._start_connecting(sock, target)
                if not wait_for_write(sock, timeout):
                    raise socket.timeout("timed out")
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                sock.settimeout(timeout)
            except OSError as error:
                self._discard(sock)
                failure = error
                if self.interrupted:
                    break
            else:
                return sock
        raise failure

    def _start_connecting(self, sock: socket.socket, target: Any) -> None:
        """Register a socket and start to connect it, in one step: an interrupt waits for both."""
        with self._lock:
            if self.interrupted:
                raise InterruptedError("the transport was interrupted")
            self._duplicates[sock] = sock.dup()
            code = sock.connect_ex(target)
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            raise OSError(code, os.strerror(code))

    def _discard(self, sock: socket.socket) -> None:
        with self._lock:
            duplicate = self._duplicates.pop(sock, None)
        sock.close()
        if duplicate is not None:
            duplicate.close()


class ByteStream:
    """The body of one streamed response, chunk by chunk, as the bytes arrive.

    Threads: only the owner of the transport reads and closes it.
    """

    def __init__(self, response: requests.Response, transport: Optional[Transport] = None) -> None:
        """Read a response.

        Args:
            response: Made with `stream=True`.
            transport: The one that made it; closing the body then closes its connections.
        """
        self.response = response
        self._transport = transport
        raw: Any = response.raw
        plain = not response.headers.get("Content-Encoding")
        # http.client's read1 returns what has arrived, and does not wait for more. urllib3's read1
        # does the same and also decompresses. urllib3 1.26 has none: there gzip is read by bytes.
        if plain and getattr(raw._fp, "chunked", False) and raw._fp.fp is not None:
            self._read = partial(_read_chunks, _receive(raw._fp.fp), ChunkedDecoder())
        elif plain and hasattr(raw._fp, "read1"):
            self._read = partial(raw._fp.read1, _CHUNK)
        elif hasattr(raw, "read1"):
            self._read = partial(raw.read1, _CHUNK, decode_content=True)
        else:
            chunks = response.iter_content(1)
            self._read = partial(next, chunks, b"")

    def read(self) -> bytes:
        """Wait for bytes.

        Returns:
            At least one byte, or `b""` at the end of the body.

        Raises:
            ArkorTimeoutError: The server sent nothing for longer than the read timeout.
            ArkorConnectionError: The connection broke.
        """
        handled = sys.exc_info()[1]
        try:
            chunk: bytes = self._read()
            return chunk
        except (HTTPError, OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # ValueError and AttributeError: http.client has closed its file after an error.
            failure, root = connection_error(error, "reading the stream", handled)
        raise failure from root

    def set_timeout(self, seconds: float) -> None:
        """Set the read timeout of the next `read`, in seconds."""
        try:
            raw: Any = self.response.raw
            raw._fp.fp.raw._sock.settimeout(seconds)
        except AttributeError:
            return  # the body has ended, and the next read says so

    def close(self) -> None:
        """Close the connection."""
        self.response.close()
        if self._transport is not None:
            self._transport.close_connections()


def _receive(file: Any) -> Iterator[bytes]:
    """Wait for bytes, again and again: first those that came with the headers, then the socket's.

    Reading the socket is faster than reading the file. Nothing is lost: the first `read1` returns
    all that the file has buffered.
    """
    yield file.read1()
    receive = file.raw._sock.recv
    while True:
        yield receive(_CHUNK)


def _read_chunks(received: Iterator[bytes], decoder: ChunkedDecoder) -> bytes:
    """Read what has arrived of a chunked body; `b""` at its end."""
    while not decoder.finished:
        data = next(received, b"")
        if not data:
            raise http.client.IncompleteRead(b"")
        body = decoder.feed(data)
        if body:
            return body
    return b""


def _without_query(url: str) -> str:
    return url.partition("?")[0]
