"""How often, and after which delay, a lost stream is opened again. Pure."""

from __future__ import annotations

import dataclasses
from typing import FrozenSet, Iterable, Iterator, Optional

from arkor_sync._common.arguments import MAX_SECONDS, check, is_number, is_seconds
from arkor_sync._common.doubling import doubling


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
        max_retry_after: Seconds. A `Retry-After` header that asks for more is taken for this.

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
    max_retry_after: float = 900.0

    def __post_init__(self) -> None:
        wanted = "a set of HTTP statuses, such as {401, 403}"
        check("permanent", self.permanent, isinstance(self.permanent, Iterable), wanted)
        object.__setattr__(self, "permanent", frozenset(self.permanent))
        for status in self.permanent:
            check("permanent", status, isinstance(status, int), wanted)
        for name in ("base", "cap", "max_retry_after"):
            value = getattr(self, name)
            check(name, value, is_seconds(value), f"seconds from 0 to {MAX_SECONDS:,}")
        for name in ("idle_timeout", "connect_timeout"):
            value = getattr(self, name)
            fits = is_seconds(value) and value > 0
            check(name, value, fits, f"seconds above 0, at most {MAX_SECONDS:,}")
        fits = isinstance(self.jitter, (int, float)) and is_number(self.jitter)
        check("jitter", self.jitter, fits and 0 <= self.jitter <= 1, "a number from 0 to 1")
        attempts = self.max_attempts
        fits = attempts is None or (isinstance(attempts, int) and attempts >= 0)
        check("max_attempts", attempts, fits, "a whole number, 0 or more, or None")

    def delays(self, base: Optional[float] = None) -> Iterator[float]:
        """Yield the delays of consecutive failures in seconds, without jitter, for ever.

        Args:
            base: Seconds, in place of the policy's own: what the stream's `retry:` asked for.
        """
        return doubling(self.base if base is None else base, self.cap)

    def retry_after(self, error: Exception) -> float:
        """Return the least delay that an error asks for, in seconds; 0 if it asks for none."""
        return min(self.max_retry_after, getattr(error, "retry_after", None) or 0.0)

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
