"""Sends a request again after a failure that may pass. Runs on the caller's thread.

A request that is safe to repeat has the same effect however often it is sent: one that reads
(GET), one that sets fields to given values (PATCH), and one that removes something (DELETE). What
creates something (POST) is sent once, unless the client was made with `retry="all"`.

All requests are repeated here, and nowhere else. A safe request whose caller gave a transport is
not repeated: a run has its own reconnects, and must stop at once.
"""

from __future__ import annotations

import ssl
from itertools import count
from typing import Callable, Literal, Optional, TypeVar

from arkor_sync._common.clock import Clock
from arkor_sync._common.doubling import doubling
from arkor_sync._common.locks import SLICE
from arkor_sync._common.log import get_logger
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError, ArkorError, CloudApiError, NotFoundError

Retry = Literal["safe", "all", "none"]
"""Which requests are repeated."""

ATTEMPTS = 3
PERIOD = 30.0
"""Seconds. No attempt begins later than this after the first one began."""

SAFE_METHODS = frozenset({"GET", "PATCH", "DELETE"})
_PASSING = frozenset({408, 429, 502, 503, 504})
_FIRST, _CAP = 0.5, 8.0  # seconds between two attempts

_logger = get_logger("arkor_sync.http")

T = TypeVar("T")


def repeat(
    send: Callable[[Transport], T], transport: Transport, clock: Clock, gone: Optional[T] = None
) -> T:
    """Call a function that sends a request, and call it again after a failure that may pass.

    The delays double and have a jitter. A `Retry-After` header is waited for if its time ends
    within `PERIOD`; else the error is raised at once.

    Args:
        send: Sends the request over the transport.
        transport: Interrupting it ends the wait.
        clock: Measures the time, and waits.
        gone: What is returned if a later attempt is answered with 404: an earlier one may have
            removed the thing. None for a request that removes nothing.

    Raises:
        ArkorError: What the last attempt raised.
    """
    begin, acted, delays = clock.now(), False, None
    for attempt in count(1):
        try:
            return send(transport)
        except (ArkorConnectionError, CloudApiError) as error:
            if acted and gone is not None and isinstance(error, NotFoundError):
                return gone
            acted = acted or _may_have_acted(error)
            if isinstance(error, ArkorConnectionError):
                error.sent = acted
            delays = delays or doubling(_FIRST, _CAP)
            delay = next(delays) * (1 + clock.random()) / 2
            delay = max(delay, getattr(error, "retry_after", None) or 0.0)
            ends = clock.now() + delay > begin + PERIOD
            if ends or attempt == ATTEMPTS or transport.interrupted or not _may_pass(error):
                raise
            _logger.warning("%s; trying again in %.1f s", str(error), delay)
            if _wait(clock, transport, delay):
                raise
        transport.close_connections()
    raise AssertionError("the loop has no end")  # pragma: no cover


def _wait(clock: Clock, transport: Transport, seconds: float) -> bool:
    """Wait in slices, as every thread of the program does; return whether it was interrupted."""
    end = clock.now() + seconds
    while clock.now() < end:
        if clock.wait(transport.interruption, min(SLICE, end - clock.now())):
            return True
    return transport.interrupted


def _may_pass(error: ArkorError) -> bool:
    if isinstance(error, CloudApiError):
        return error.status in _PASSING
    return not isinstance(error.__cause__, ssl.SSLCertVerificationError)


def _may_have_acted(error: ArkorError) -> bool:
    """Whether the cloud may have acted on a request that failed."""
    if isinstance(error, CloudApiError):
        return error.status != 429
    return bool(getattr(error, "sent", True))
