"""The connections of a transport: urllib3's, with sockets that somebody else opens.

They belong to the thread that owns the transport. TLS contexts are shared by the whole process.
"""

from __future__ import annotations

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

Connect = Callable[[Tuple[str, int], Any, Optional[Tuple[str, int]], Any], socket.socket]


class Adapter(HTTPAdapter):
    """An adapter whose sockets are opened by a function, which can then shut them down.

    Args:
        connect: Called with the address, the timeout, the source address and the socket's options.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        super().__init__(pool_connections=2, pool_maxsize=2)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections ours."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools()

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools of connections through a proxy ours."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # those have pools of their own kind
            manager.pool_classes_by_scheme = self._pools()
        return manager

    def close(self) -> None:
        """Close every connection."""
        # urllib3 leaves it to the garbage collector, but a kept response or error keeps its pool.
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
        kwargs["enforce_content_length"] = True  # urllib3 1.26 takes a cut body for whole
        return super().urlopen(*args, **kwargs)


class _HTTPSPool(HTTPSConnectionPool):
    def __init__(self, *args: Any, connect: Connect, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ConnectionCls = partial(_HTTPSConnection, connect=connect)  # type: ignore[assignment]

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["enforce_content_length"] = True  # urllib3 1.26 takes a cut body for whole
        return super().urlopen(*args, **kwargs)


class _HTTPConnection(HTTPConnection):
    def __init__(self, *args: Any, connect: Connect, **kwargs: Any) -> None:
        self._open = connect
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        return _open(self, self._open)


class _HTTPSConnection(HTTPSConnection):
    def __init__(self, *args: Any, connect: Connect, **kwargs: Any) -> None:
        self._open = connect
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        return _open(self, self._open)

    def connect(self) -> None:
        # A context that holds a client's certificate cannot be shared, and a connection through a
        # proxy may need two.
        if self.ssl_context is None and not self.cert_file and self.proxy is None:
            self.ssl_context = _context(self.cert_reqs, self.ca_certs, self.ca_cert_dir)
            self.ca_certs = self.ca_cert_dir = self.ca_cert_data = None  # it has them already
        super().connect()


_contexts: Dict[Tuple[Any, ...], ssl.SSLContext] = {}


def _context(requirement: Any, file: Optional[str], directory: Optional[str]) -> ssl.SSLContext:
    """Return the TLS context that all connections with these certificates share.

    urllib3 makes one for each connection, and the usual certificates take 600 kB and 20 ms. Where
    two threads make the first one at the same time, both are good.
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


def _open(connection: Any, connect: Connect) -> socket.socket:
    """Open a connection's socket, with urllib3's own errors."""
    try:
        return connect(
            (connection._dns_host, connection.port),
            connection.timeout,
            connection.source_address,
            connection.socket_options,
        )
    except socket.timeout as error:
        raise ConnectTimeoutError(connection, "connect timeout") from error
    except OSError as error:
        raise NewConnectionError(connection, f"cannot connect: {error}") from error
