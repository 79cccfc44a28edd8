"""Our connection errors, made of what `requests` and the libraries below it raise. Any thread."""

from __future__ import annotations

import http.client
import socket
import ssl
import traceback
from typing import Any, List, Optional, Tuple

import requests
from urllib3.exceptions import ConnectTimeoutError, ProxyError, ReadTimeoutError

from arkor_sync._common.text import safe_line
from arkor_sync.errors import ArkorConnectionError, ArkorTimeoutError

# After one of these the server cannot have received the request.
_BEFORE_SENDING = (ConnectTimeoutError, ProxyError, ssl.SSLCertVerificationError)


def connection_error(
    error: Exception, action: str, handled: Optional[BaseException] = None
) -> Tuple[ArkorConnectionError, BaseException]:
    """Make one of our two connection errors of what `requests` and the libraries below it raised.

    `requests` raises a plain `ConnectionError` for a read timeout inside a body, so all errors that
    it was raised from are searched. The message is that of the innermost error: the outer ones
    repeat it with object addresses, and hold the request with its credentials.

    Args:
        error: What was raised.
        action: What was being done, for the message.
        handled: The error that the caller was handling before. It is not part of this one.

    Returns:
        The error to raise, and its cause.
    """
    root = _innermost(error, handled)
    failure: ArkorConnectionError
    if isinstance(root, (socket.timeout, TimeoutError, ReadTimeoutError)):
        failure = ArkorTimeoutError(f"{action}: timed out")
    else:
        failure = ArkorConnectionError(f"{action}: {safe_line(root) or type(root).__name__}")
    links = _chain(error, handled)
    failure.sent = not any(isinstance(link, _BEFORE_SENDING) for link in links)
    for link in links:
        # The functions below `requests` have the headers and the body, with their secrets, in
        # their variables, and a report of the error may show these.
        link.__traceback__ = None
    return failure, root


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
            for name in ("self", "response"):
                owner = frame.f_locals.get(name)
                if isinstance(owner, (ssl.SSLSocket, http.client.HTTPResponse)):
                    owner.close()
