"""Delays that double, from the generator of backoff. Pure.

No other module imports backoff. Its decorators are not used: nothing can end their sleep, and a run
must stop within 100 ms.

backoff has been archived since August 2025. To do without it, `doubling` would yield
`min(cap, first * 2**n)` itself, with a limit for `n`, because a float overflows at 1,024.
"""

from __future__ import annotations

import itertools
from typing import Iterator

_NOTHING = 1e-9  # seconds


def doubling(first: float, cap: float) -> Iterator[float]:
    """Yield `first`, and twice the last delay ever after, up to the cap; all in seconds."""
    if first < _NOTHING:
        return itertools.repeat(0.0)  # doubling it would overflow before it reached the cap
    import backoff  # not with the module: it imports asyncio

    delays = backoff.expo(base=2, factor=first, max_value=cap)
    next(delays)  # a backoff generator is started by hand
    return delays
