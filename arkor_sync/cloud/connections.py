"""urllib3's connections, with sockets that a function of the transport opens. Any thread.

A connection is used by the thread that owns its transport. All threads share the TLS contexts.
"""

from __future__ import annotations

import io
import os
import socket
import ssl
from functools import partial
from typing import Any, Callable, Dict, Optional, Tuple

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

from arkor_sync._common.clock import Clock
from arkor_sync.cloud.connection_errors import mark_connecting
from arkor_sync.cloud.final_answer import FinalAnswer
from arkor_sync.cloud.socks_proxy import through_socks

Connect = Callable[[Tuple[str, int], Any, Optional[Tuple[str, int]], Any], socket.socket]


class Adapter(HTTPAdapter):
    """A `requests` adapter whose sockets are opened by a function, not by urllib3.

    Args:
        connect: Opens a socket, given the address, the timeout in seconds, the source address and
            the socket's options.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        super().__init__(pool_connections=2, pool_maxsize=2)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use our pools for direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools()

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Use our pools for connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools()
        return manager

    def close(self) -> None:
        """Close every connection."""
        # urllib3 leaves this to the garbage collector, but a kept error may keep its pool alive.
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for pool in map(manager.pools.__getitem__, manager.pools.keys()):
                pool.close()
        super().close()

    def _pools(self) -> Dict[str, Any]:
        return {
            "http": partial(_HTTPPool, connect=self._connect),
            "https": partial(_HTTPSPool, connect=self._connect),
        }


class _HTTPPool(HTTPConnectionPool):
    def __init__(self, *args: Any, connect: Connect, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ConnectionCls = partial(_HTTPConnection, connect=connect)  # type: ignore[assignment]

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["enforce_content_length"] = True  # urllib3 1.26 does not notice a body that is cut
        return super().urlopen(*args, **kwargs)


class _HTTPSPool(HTTPSConnectionPool):
    def __init__(self, *args: Any, connect: Connect, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ConnectionCls = partial(_HTTPSConnection, connect=connect)  # type: ignore[assignment]

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["enforce_content_length"] = True  # urllib3 1.26 does not notice a body that is cut
        return super().urlopen(*args, **kwargs)


class AnswerSocket(io.RawIOBase):
    """What arrives on the socket of one answer, until the time for the whole answer is over.

    A timeout of a socket limits silence: a byte now and then satisfies it for ever. This limits the
    time of headers and body together, informational answers before them included.
    """

    def __init__(self, raw: Any, sock: Any) -> None:
        self._sock = sock
        self._raw = raw
        self._seconds: Optional[float] = sock.gettimeout()
        self._deadline = None if self._seconds is None else Clock.now() + self._seconds

    def lift_deadline(self) -> None:
        """Limit nothing but silence from now on: an event stream has no end in time."""
        self._deadline = None
        self._sock.settimeout(self._seconds)

    def recv(self, size: int) -> bytes:
        """Wait for bytes of the body."""
        self._check_time()
        data: bytes = self._sock.recv(size)
        return data

    def readable(self) -> bool:
        """Return True; `io` asks."""
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        """Wait for bytes; http.client calls this for the headers."""
        self._check_time()
        size: Optional[int] = self._raw.readinto(buffer)
        return size

    def close(self) -> None:
        """Give up the socket's file."""
        self._raw.close()
        super().close()

    def _check_time(self) -> None:
        if self._deadline is not None:
            seconds = self._deadline - Clock.now()
            if seconds <= 0:
                raise socket.timeout("timed out")
            self._sock.settimeout(seconds)


class _Answer(FinalAnswer):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(AnswerSocket(self.fp.detach(), sock))


class _HTTPConnection(HTTPConnection):
    response_class = _Answer

    def __init__(
        self, *args: Any, connect: Connect, _socks_options: Any = None, **kwargs: Any
    ) -> None:
        self._open = partial(_open_socket, self, connect, _socks_options)
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        return self._open()

    def connect(self) -> None:
        try:
            super().connect()
        except Exception as error:
            mark_connecting(error)
            raise


class _HTTPSConnection(HTTPSConnection):
    response_class = _Answer

    def __init__(
        self, *args: Any, connect: Connect, _socks_options: Any = None, **kwargs: Any
    ) -> None:
        self._open = partial(_open_socket, self, connect, _socks_options)
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        return self._open()

    def connect(self) -> None:
        try:
            self._connect_with_tls()
        except Exception as error:
            mark_connecting(error)  # also one of the handshake, or of a proxy that refuses
            raise

    def _connect_with_tls(self) -> None:
        # A context that holds a client's certificate must not be shared, and a connection through
        # a proxy may need two contexts.
        if self.ssl_context is None and not self.cert_file and self.proxy is None:
            self.ssl_context = _context(self.cert_reqs, self.ca_certs, self.ca_cert_dir)
            self.ca_certs = self.ca_cert_dir = self.ca_cert_data = None  # it has loaded them
        super().connect()


_contexts: Dict[Tuple[Any, ...], ssl.SSLContext] = {}


def _context(requirement: Any, file: Optional[str], directory: Optional[str]) -> ssl.SSLContext:
    """Return the TLS context that all connections with these certificates share.

    urllib3 makes one for each connection, and the usual certificates take 600 kB and 20 ms. If two
    threads make the first one at the same time, each uses its own and one of them is kept.
    """
    trusted = (requirement, file, directory)
    key = (*trusted, *(os.stat(path).st_mtime_ns for path in (file, directory) if path))
    context = _contexts.get(key)
    if context is None:
        context = create_urllib3_context(cert_reqs=resolve_cert_reqs(requirement))
        if file or directory:
            context.load_verify_locations(file, directory)
        else:
            context.load_default_certs()
        for other in list(_contexts):
            if other[: len(trusted)] == trusted:
                _contexts.pop(other, None)  # the certificates were replaced
        _contexts[key] = context
    return context


def _open_socket(connection: Any, connect: Connect, proxy: Any) -> socket.socket:
    """Open the socket of a connection. The errors are those that urllib3 raises itself."""
    host, port = connection._dns_host, connection.port
    address = (proxy["proxy_host"], int(proxy["proxy_port"] or 1080)) if proxy else (host, port)
    try:
        sock = connect(
            address, connection.timeout, connection.source_address, connection.socket_options
        )
        return through_socks(sock, proxy, host, port) if proxy else sock
    except socket.timeout as error:
        raise ConnectTimeoutError(connection, "connect timeout") from error
    except OSError as error:
        raise NewConnectionError(connection, f"cannot connect: {error}") from error
