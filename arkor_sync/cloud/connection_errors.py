"""Our connection errors, made of what `requests` and the libraries below it raise. Any thread.

The message has the fact that its reader would have to look up: the host, the port and the proxy
that were tried, where their addresses were found, and which certificates were used.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import traceback
from typing import Any, List, NamedTuple, Optional, Tuple

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError

from arkor_sync._common.text import safe_line
from arkor_sync.cloud.request_facts import not_listening
from arkor_sync.errors import ArkorConnectionError, ArkorTimeoutError

# What OpenSSL says of an answer that is not TLS; the words differ between its versions.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
_CLOSED = frozenset({ssl.SSLSocket, http.client.HTTPResponse})
_TLS_ALERT = "\x15\x03"  # how the answer begins with which a TLS server ends a handshake


class Route(NamedTuple):
    """How a request was to reach its server, in words for the text of an error.

    Attributes:
        server: Its host and port.
        proxy: The proxy's host and port, and where it was found; empty without a proxy.
        address: Where the server's address was found; empty if that is not known.
        certificates: Which certificates the server's own was checked with.
        timeout: Seconds to connect, and seconds for the answer.
    """

    server: str
    proxy: str = ""
    address: str = ""
    certificates: str = ""
    timeout: Tuple[Optional[float], Optional[float]] = (None, None)


def connection_error(
    error: Exception,
    action: str,
    handled: Optional[BaseException] = None,
    route: Optional[Route] = None,
) -> Tuple[ArkorConnectionError, BaseException]:
    """Make one of our two connection errors of what `requests` and the libraries below it raised.

    `requests` raises a plain `ConnectionError` for a read timeout inside a body, so all errors that
    it was raised from are searched. The message is that of the innermost error: the outer ones
    repeat it with object addresses, and hold the request with its credentials.

    Args:
        error: What was raised.
        action: What was being done, for the message.
        handled: The error that the caller was handling before. It is not part of this one.
        route: How the server was to be reached, for the message.

    Returns:
        The error to raise, and its cause.
    """
    root = _innermost(error, handled)
    links = _chain(error, handled)
    connecting = any(getattr(link, "while_connecting", False) for link in links)
    timed_out = isinstance(root, (socket.timeout, TimeoutError, ReadTimeoutError))
    text = "timed out" if timed_out else safe_line(root) or type(root).__name__
    no_tls = isinstance(root, http.client.BadStatusLine) and str(root).startswith(_TLS_ALERT)
    if no_tls:
        text = "the server speaks TLS, and was asked without it; use https:// in the address"
    if route is not None:
        text += _details(route, root, links, connecting, timed_out)
    failure = (ArkorTimeoutError if timed_out else ArkorConnectionError)(f"{action}: {text}")
    failure.sent = not connecting and not no_tls
    for link in links:
        # The functions below `requests` have the headers and the body, with their secrets, in
        # their variables, and a report of the error may show these.
        link.__traceback__ = None
    return failure, root


def mark_connecting(error: Exception) -> None:
    """Note in an error that it was raised before anything of the request was sent."""
    error.while_connecting = True  # type: ignore[attr-defined]


def _details(
    route: Route, root: BaseException, links: List[BaseException], connecting: bool, timed_out: bool
) -> str:
    """Say what was tried, and what may be wrong with it."""
    seconds = route.timeout[0 if connecting else 1]
    details = f" after {seconds:g} s" if timed_out and seconds is not None else ""
    if isinstance(root, ssl.SSLError) and root.reason in _NOT_TLS:
        details += "; what answered does not speak TLS: if that is right, use http:// there"
    said = str(root).lower()
    if "certificate" in said and "alert" not in said and "mismatch" not in said:
        details += f"; {route.certificates}"
    if not connecting:
        return details
    unreached = any(isinstance(link, (NewConnectionError, ConnectTimeoutError)) for link in links)
    tried = route.server
    if route.proxy and unreached:
        tried = f"the proxy {route.proxy}, on the way to {route.server}"
    elif route.proxy:
        tried = f"{route.server} through the proxy {route.proxy}"
    details += f"; tried {tried}{route.address and f' (the address is {route.address})'}"
    remedy = "" if route.proxy else not_listening(route.server, route.address)
    refused = isinstance(root, ConnectionRefusedError)
    return f"{details}; {remedy}" if refused and remedy else details


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


def _innermost(error: BaseException, handled: Optional[BaseException]) -> BaseException:
    """Find the innermost system or protocol error: it holds no request, so no credentials."""
    chain = _chain(error, handled)
    found = [
        link
        for link in chain
        if isinstance(link, (OSError, http.client.HTTPException, ReadTimeoutError))
        and not isinstance(link, requests.RequestException)
    ]
    return found[-1] if found else chain[-1]


def close_sockets(error: BaseException) -> None:
    """Close the sockets that a failed request leaves open until they are garbage collected.

    These are the TLS socket of a connection that was reset before the handshake (Python before
    3.13), and the answer of a proxy that is incomplete or refuses (older versions of Python).
    """
    for link in _chain(error, None):
        for frame, _ in traceback.walk_tb(link.__traceback__):
            variables = frame.f_locals
            for name in ("self", "response"):
                owner: Any = variables.get(name)
                # `isinstance` would ask an abstract class, which is slow.
                if not _CLOSED.isdisjoint(type(owner).__mro__):
                    owner.close()
