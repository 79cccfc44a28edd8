"""A `requests` session whose open sockets can be shut down from another thread.

One thread owns a transport and makes its requests; any thread may interrupt it.

A thread that is blocked in `connect`, in a TLS handshake, waiting for headers or reading a body
cannot be woken by closing the response: `close()` waits for the very lock that a blocked reader
holds. Shutting the socket down wakes it in every one of those phases. It is done on a duplicate of
the descriptor, taken before the connection is made, so that no TLS state is touched and no
descriptor can have been reused meanwhile.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
import sys
import threading
import traceback
from functools import partial
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

import requests
from requests.auth import AuthBase
from urllib3.exceptions import ConnectTimeoutError, HTTPError, ProxyError, ReadTimeoutError
from urllib3.util.wait import wait_for_write

from arkor_sync.cloud.chunked import ChunkedDecoder
from arkor_sync.cloud.connections import Adapter
from arkor_sync.errors import ArkorConnectionError, ArkorTimeoutError

_CHUNK = 120 << 10  # bytes; from 128 KiB on each allocation is a system call


class Transport:
    """A session for one thread, with an emergency stop for all the others.

    Threads: `request` and `arm` belong to the owner; `interrupt` and `close` may be called from any
    thread, return at once, and make whatever the owner is blocked in fail.

    Attributes:
        interruption: Set from an interrupt until the owner arms the transport. Where the owner
            waits for anything but the network, it waits for this.
    """

    def __init__(self, template: Optional[requests.Session] = None) -> None:
        """Make a session.

        Args:
            template: A session whose proxies, certificates, headers and `trust_env` are taken over.
        """
        self._lock = threading.Lock()
        self._handles: Dict[socket.socket, socket.socket] = {}
        self.interruption = threading.Event()
        self._closed = False
        self._session = _Session()
        if template is not None:
            for name in ("headers", "proxies", "verify", "cert", "trust_env"):
                setattr(self._session, name, getattr(template, name))
        adapter = Adapter(self._connect)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` or `close` was called since the owner last armed the transport."""
        return self.interruption.is_set()

    def arm(self) -> bool:
        """Drop every connection and start afresh, as the owner.

        The owner arms the transport before it looks at what it is going to ask for. An interrupt
        that comes after that look is then never lost, whatever the owner was doing.

        Returns:
            False once the transport is closed.
        """
        self.hang_up()
        with self._lock:
            if not self._closed:
                self.interruption.clear()
        return not self._closed

    def hang_up(self) -> None:
        """Close every connection, as the owner."""
        self._session.close()
        with self._lock:
            for handle in self._handles.values():
                handle.close()
            self._handles.clear()

    def interrupt(self) -> None:
        """Make the owner's blocking call fail, and its next ones, until it arms the transport."""
        with self._lock:
            self.interruption.set()
            for handle in self._handles.values():
                try:
                    handle.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # not connected, or the peer was first

    def close(self) -> None:
        """Interrupt for good."""
        self._closed = True
        self.interrupt()

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.arm()

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
            auth: Sets the authorisation header. Where it is None none is sent, not even from a
                `.netrc` file.
            params: Query parameters, not encoded.
            headers: More request headers.
            json: The body, where there is one.
            stream: Return after the headers; read the body with `ByteStream`.

        Returns:
            The response, whatever its status.

        Raises:
            ArkorTimeoutError: A timeout ran out.
            ArkorConnectionError: The request did not get its answer.
        """
        handled = sys.exc_info()[1]  # what the caller is dealing with is no cause of ours
        root: Optional[BaseException] = None
        try:
            response = self._session.request(
                method,
                url,
                params=params,
                headers=dict(headers or {}),
                json=json,
                auth=auth or _no_auth,
                timeout=timeout,
                allow_redirects=False,
                stream=stream,
            )
        except (HTTPError, OSError, http.client.HTTPException, ValueError) as error:
            # RequestException is an OSError; a host that is no name is a bare UnicodeError.
            _close_sockets(error)
            failure, root = connection_error(error, f"{method} {_without_query(url)}", handled)
        else:
            if not self.interrupted:
                return response
            # http.client takes headers that were cut short for whole ones.
            response.close()
            failure = ArkorConnectionError(f"{method} {_without_query(url)}: aborted")
        # Raised out here: the requests exception, which holds the bearer, is not its context.
        raise failure from root

    def _connect(
        self,
        address: Tuple[str, int],
        timeout: Optional[float],
        source_address: Optional[Tuple[str, int]],
        options: Any,
    ) -> socket.socket:
        """Connect to the first address that answers, each attempt open to interruption."""
        failure: OSError = OSError(f"{address[0]} has no address")
        for family, kind, proto, _, target in socket.getaddrinfo(*address, 0, socket.SOCK_STREAM):
            try:
                sock = socket.socket(family, kind, proto)
            except OSError as error:
                failure = error  # this machine does not speak that family
                continue
            try:
                for option in options or ():
                    sock.setsockopt(*option)
                if source_address:
                    sock.bind(source_address)
                sock.setblocking(False)
                self._begin(sock, target)
                if not wait_for_write(sock, timeout):
                    raise socket.timeout("timed out")
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                sock.settimeout(timeout)
            except OSError as error:
                self._forget(sock)
                failure = error
                if self.interrupted:
                    break
            else:
                return sock
        raise failure

    def _begin(self, sock: socket.socket, target: Any) -> None:
        """Register a socket and begin to connect it, as one: no interrupt can fall in between."""
        with self._lock:
            if self.interrupted:
                raise InterruptedError("the transport was interrupted")
            self._handles[sock] = sock.dup()
            code = sock.connect_ex(target)
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            raise OSError(code, os.strerror(code))

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            handle = self._handles.pop(sock, None)
        sock.close()
        if handle is not None:
            handle.close()


class ByteStream:
    """The body of one streamed response, chunk by chunk, as the bytes arrive.

    Threads: it belongs to the owner of the transport, which alone closes it.
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
        # http.client's read1 alone hands over what has arrived without waiting for more;
        # urllib3's own is as prompt but decodes. Older urllib3 has neither for gzip.
        if plain and getattr(raw._fp, "chunked", False) and raw._fp.fp is not None:
            self._read = partial(_read_chunks, _arriving(raw._fp.fp), ChunkedDecoder())
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
            ArkorTimeoutError: The server stayed silent for longer than the read timeout.
            ArkorConnectionError: The connection broke.
        """
        handled = sys.exc_info()[1]
        try:
            chunk: bytes = self._read()
            return chunk
        except (HTTPError, OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # ValueError and AttributeError: http.client's file was closed by its own error path.
            failure, root = connection_error(error, "reading the stream", handled)
        raise failure from root

    def set_timeout(self, seconds: float) -> None:
        """Set the read timeout of the next `read`, in seconds."""
        try:
            raw: Any = self.response.raw
            raw._fp.fp.raw._sock.settimeout(seconds)
        except AttributeError:
            return  # the body is at its end, and the next read says so

    def close(self) -> None:
        """Close the connection."""
        self.response.close()
        if self._transport is not None:
            self._transport.hang_up()


def _arriving(file: Any) -> Iterator[bytes]:
    """Wait for bytes, again and again: those that came with the headers, then from the socket.

    That is quicker than through the file, which has nothing left after a `read1` of its own size.
    """
    yield file.read1()
    receive = file.raw._sock.recv
    while True:
        yield receive(_CHUNK)


def _read_chunks(arriving: Iterator[bytes], decoder: ChunkedDecoder) -> bytes:
    """Read what has arrived of a chunked body; `b""` at its end."""
    while not decoder.finished:
        data = next(arriving, b"")
        if not data:
            raise http.client.IncompleteRead(b"")
        body = decoder.feed(data)
        if body:
            return body
    return b""


def connection_error(
    error: Exception, doing: str, handled: Optional[BaseException] = None
) -> Tuple[ArkorConnectionError, BaseException]:
    """Turn whatever the HTTP stack raised into one of our two connection errors.

    A read timeout inside a body comes as a plain `ConnectionError`, so the chain is searched.
    The text is that of the innermost error: the outer ones repeat it with object addresses, and
    hold the request with its credentials.

    Args:
        error: What was raised.
        doing: What was being done, for the message.
        handled: The error that the caller was handling before, which is not part of this.

    Returns:
        The error to raise, and its cause.
    """
    root = _root(error, handled)
    failure: ArkorConnectionError
    if isinstance(root, (socket.timeout, TimeoutError, ReadTimeoutError)):
        failure = ArkorTimeoutError(f"{doing}: timed out")
    else:
        failure = ArkorConnectionError(f"{doing}: {str(root) or type(root).__name__}")
    failure.sent = not any(isinstance(link, _BEFORE_SENDING) for link in _chain(error, handled))
    return failure, root


_BEFORE_SENDING = (ConnectTimeoutError, ProxyError, ssl.SSLCertVerificationError)


def _chain(error: BaseException, handled: Optional[BaseException]) -> List[BaseException]:
    """List the error and everything below it: causes, contexts and wrapped arguments."""
    found: List[BaseException] = []
    queue: List[Any] = [error]
    while queue:
        link = queue.pop(0)
        known = link is handled or any(link is seen for seen in found)
        if isinstance(link, BaseException) and not known:
            found.append(link)
            reason = getattr(link, "reason", None)
            queue += [link.__cause__, link.__context__, reason, *link.args]
    return found


def _root(error: BaseException, handled: Optional[BaseException]) -> BaseException:
    """Find the innermost system or protocol error: it holds no request, so no credentials."""
    chain = _chain(error, handled)
    below = [
        link
        for link in chain
        if isinstance(link, (OSError, http.client.HTTPException, ReadTimeoutError))
        and not isinstance(link, requests.RequestException)
    ]
    return below[-1] if below else chain[-1]


def _close_sockets(error: BaseException) -> None:
    """Close what a failed request would leave to the garbage collector.

    That is the TLS socket of a reset before the handshake (Python before 3.13), and the answer of a
    proxy that broke off (urllib3 1.26).
    """
    for link in _chain(error, None):
        for frame, _ in traceback.walk_tb(link.__traceback__):
            owner = frame.f_locals.get("self")
            if isinstance(owner, (ssl.SSLSocket, http.client.HTTPResponse)):
                owner.close()


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Stand in for absent credentials, because requests would look into `.netrc` for None."""
    return request


class _Session(requests.Session):
    """A session that sees no redirects: even unfollowed, requests would read their whole body."""

    def get_redirect_target(self, *_: object, **__: object) -> None:
        return None
