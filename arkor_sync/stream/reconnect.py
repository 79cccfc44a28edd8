"""How often and after what delay a lost stream is opened again. Pure: the reader thread waits.

The delays are backoff's generators. Its decorators are not used: they sleep where nothing can wake
them, and a run must stop within 100 ms.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import FrozenSet, Iterable, Iterator, Optional

from arkor_sync.errors import ArkorUsageError

_NOTHING = 1e-9  # seconds
_MAX = 1_000_000_000  # seconds: what a thread can be asked to wait


@dataclasses.dataclass(frozen=True)
class ReconnectPolicy:
    """When to open a lost event stream again.

    Failures are counted while they are consecutive; a new event, and nothing less, sets the count
    back to zero. A stream that ends cleanly after it brought an event is no failure: it is opened
    again after exactly the base delay.

    Args:
        base: Seconds before the first reconnect; doubled with each further failure. The stream's
            own `retry:` field, in milliseconds, takes its place.
        cap: Seconds. The longest delay, jitter included. Only a `Retry-After` header may exceed it.
        jitter: The delay varies by this share in both directions: 0.25 is a quarter.
        max_attempts: Consecutive failures that are allowed; one more raises `ReconnectExhausted`.
            None for no bound.
        idle_timeout: Seconds without a byte, pings included, after which a connection is dead.
        connect_timeout: Seconds to connect.
        permanent: HTTP statuses that are not tried again; `wait()` raises `CloudApiError`.

    Raises:
        ArkorUsageError: A value that cannot work. It is also a `ValueError`.
    """

    base: float = 1.0
    cap: float = 60.0
    jitter: float = 0.25
    max_attempts: Optional[int] = None
    idle_timeout: float = 45.0
    connect_timeout: float = 10.0
    permanent: FrozenSet[int] = frozenset({401, 403, 410, 426})

    def __post_init__(self) -> None:
        if not isinstance(self.permanent, Iterable):
            raise ArkorUsageError(f"permanent must be a set of statuses, not {self.permanent!r}")
        object.__setattr__(self, "permanent", frozenset(self.permanent))
        if not all(isinstance(status, int) for status in self.permanent):
            raise ArkorUsageError(f"permanent must hold statuses as numbers: {self.permanent!r}")
        for name in ("base", "cap"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= _MAX:
                raise ArkorUsageError(f"{name} must be seconds from 0 to {_MAX:,}, not {value!r}")
        for name in ("idle_timeout", "connect_timeout"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value <= _MAX:
                raise ArkorUsageError(f"{name} must be seconds above 0, not {value!r}")
        if not _is_number(self.jitter) or not 0 <= self.jitter <= 1:
            raise ArkorUsageError(f"jitter must be between 0 and 1, not {self.jitter!r}")
        attempts = self.max_attempts
        if attempts is not None and (not isinstance(attempts, int) or attempts < 0):
            raise ArkorUsageError(
                f"max_attempts must be a whole number from 0, or None: {attempts!r}"
            )

    def delays(self, base: Optional[float] = None) -> Iterator[float]:
        """Yield the delays of consecutive failures in seconds, without jitter, for ever.

        Args:
            base: Seconds, in place of the policy's own: what the stream's `retry:` asked for.
        """
        factor = self.base if base is None else base
        if factor < _NOTHING:
            return itertools.repeat(0.0)  # doubling it would overflow before it reached the cap
        import backoff  # not with the module: it imports asyncio

        delays = backoff.expo(base=2, factor=factor, max_value=self.cap)
        next(delays)  # a backoff generator is started by hand
        return delays

    def jittered(self, delay: float, draw: float) -> float:
        """Vary a delay.

        Args:
            delay: Seconds.
            draw: A random number between 0 and 1.

        Returns:
            Seconds, never below 0 and never above the cap.
        """
        spread = 1 + self.jitter * (2 * draw - 1)
        return min(self.cap, max(0.0, delay * spread))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
