"""Asks a SOCKS proxy for a connection, on a socket that is connected to the proxy. Any thread.

PySocks does it (`pip install 'requests[socks]'`). It would also open the socket, which no other
thread could shut down then; so it is given one that the transport has opened.
"""

from __future__ import annotations

import functools
import importlib
import socket
from typing import Any, Mapping, Optional

from arkor_sync._common.clock import Clock


def through_socks(
    sock: socket.socket, proxy: Mapping[str, Any], host: str, port: int
) -> socket.socket:
    """Connect to a host through a proxy, within the timeout of the socket.

    Args:
        sock: Connected to the proxy. It is used up.
        proxy: What urllib3 has read in the proxy's URL.
        host: Where to connect.
        port: Its port.

    Returns:
        The socket, connected to the host.

    Raises:
        OSError: The proxy cannot, or does not answer in time.
    """
    timeout = sock.gettimeout()
    asking = _asking_socket()(sock.family, sock.type, sock.proto, sock.detach())
    try:
        asking.settimeout(timeout)
        asking.deadline = None if timeout is None else Clock.now() + timeout
        asking.set_proxy(
            proxy["socks_version"],
            proxy["proxy_host"],
            proxy["proxy_port"],
            proxy["rdns"],
            proxy["username"],
            proxy["password"],
        )
        asking.connect((host, port))
    except OSError as error:
        failure: OSError = getattr(error, "socket_err", None) or error
    else:
        connected = socket.socket(fileno=asking.detach())
        connected.settimeout(timeout)
        return connected
    asking.close()
    raise failure  # outside of the except block: its context would be what PySocks made of it


class _Connected(socket.socket):
    """A socket that is connected already, and waits for answers until a deadline."""

    deadline: Optional[float] = None

    def connect(self, _address: Any) -> None:
        """Do nothing."""

    def recv_into(self, *args: Any) -> int:
        """Wait for bytes."""
        if self.deadline is not None:
            seconds = self.deadline - Clock.now()
            if seconds <= 0:
                raise socket.timeout("timed out")
            socket.socket.settimeout(self, seconds)
        return super().recv_into(*args)


@functools.cache
def _asking_socket() -> Any:
    """Make the class when it is needed: PySocks is optional."""
    socks: Any = importlib.import_module("socks")
    # PySocks asks; where it would connect to the proxy itself, it calls `_Connected`.
    return type("AskingSocket", (socks.socksocket, _Connected), {})
