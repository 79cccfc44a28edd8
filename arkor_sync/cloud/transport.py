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
from typing import Any, Dict, Mapping, Optional, Tuple, Union

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.util.wait import wait_for_write

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import Flag
from arkor_sync.cloud.connection_errors import close_sockets, connection_error
from arkor_sync.cloud.content_coding import ACCEPT_ENCODING
from arkor_sync.cloud.plain_session import PlainSession
from arkor_sync.cloud.urls import without_query
from arkor_sync.errors import ArkorConnectionError, ArkorUsageError


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
        self._lock = threading.RLock()  # taken twice where a signal handler interrupts
        self._duplicates: Dict[socket.socket, socket.socket] = {}  # for the shutdown, by socket
        self.interruption = Flag()
        self._closed = False
        self._pid = os.getpid()
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
        if not self._duplicates:
            return  # none was opened
        self._session.close()
        with self._lock:
            for duplicate in self._duplicates.values():
                duplicate.close()
            self._duplicates.clear()

    def interrupt(self) -> None:
        """Make the owner's blocked call fail, and its next calls, until it resets the transport."""
        if os.getpid() != self._pid:
            return  # a forked child: the connections are the parent's
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

    def abandon(self) -> None:
        """End in a forked child, whose copies of the sockets must not take the parent's bytes."""
        self._lock, self.interruption, self._closed = threading.RLock(), Flag(), True
        self.interruption.set()
        null = os.open(os.devnull, os.O_RDWR)
        for pair in self._duplicates.items():
            for descriptor in (each.fileno() for each in pair):
                if descriptor >= 0:
                    os.dup2(null, descriptor, inheritable=False)
        os.close(null)

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.reset()

    def proxy_of(self, url: str) -> str:
        """Return the proxy of a URL, in words: host, port and where it was found; else empty."""
        return self._session.route(url).proxy

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
        address: str = "",
    ) -> requests.Response:
        """Send one request, on the owner's thread. Redirects are never followed.

        Args:
            method: The HTTP method.
            url: The whole URL, without secrets.
            timeout: Seconds to connect, and seconds for the whole answer; of a body that is read
                with an untimed `ByteStream`, seconds of silence.
            auth: Sets the authorisation header; None for none.
            params: Query parameters, not encoded.
            headers: More request headers.
            json: The body; None for no body.
            stream: Return after the headers; read the body with `ByteStream`.
            address: Where the server's address was found, in words for an error.

        Returns:
            The response, whatever its status.

        Raises:
            ArkorTimeoutError: A timeout has passed.
            ArkorConnectionError: The request got no answer.
            ArkorUsageError: The proxy or a header of the session cannot work.
        """
        handled = sys.exc_info()[1]  # an error that the caller handles now is not our cause
        root: Optional[BaseException] = None
        action = f"{method} {without_query(url)}"
        try:
            response = self._session.request(
                method,
                url,
                params=params,
                headers={"Accept-Encoding": ACCEPT_ENCODING, **(headers or {})},
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
            if self.interrupted:
                failure = ArkorConnectionError(f"{action}: interrupted")
            else:
                route = self._session.route(url, timeout, address)
                failure, root = connection_error(error, action, handled, route)
            if not self._duplicates:  # no socket was opened
                failure.sent = False
        else:
            if not self.interrupted:
                return response
            # http.client does not notice that the headers are incomplete.
            response.close()
            failure = ArkorConnectionError(f"{action}: interrupted")
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
        """Connect to the first address that answers. An interrupt ends each attempt.

        The addresses share the time: a name may have any number of them.
        """
        begin = Clock.now()
        addresses = socket.getaddrinfo(*address, 0, socket.SOCK_STREAM)
        failure: OSError = OSError(f"{address[0]} has no address")
        for tried, (family, kind, proto, _, target) in enumerate(addresses):
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
                left = None if timeout is None else max(0.0, begin + timeout - Clock.now())
                share = None if left is None else left / (len(addresses) - tried)
                if not wait_for_write(sock, share):
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
