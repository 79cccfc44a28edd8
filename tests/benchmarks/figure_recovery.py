"""Recovery: from a cut to the first event after it, less the delay that was asked for."""

from __future__ import annotations

import logging
import statistics
import time
from typing import Any, Dict, List, Tuple

from bench_clients import cloud
from bench_report import Figure, Row, Size, fresh, say, spread
from bench_server import Server

from arkor_sync import ReconnectPolicy, follow

BASE = 0.1  # seconds
MOST = 10  # milliseconds
WAYS = {"chunked": "cut in the middle", "close": "ended early"}


def measure(size: Size) -> Figure:
    figure = Figure()
    with Server() as server:
        for framing, name in WAYS.items():
            first, *later = fresh(recoveries, server.url, f"cut-{framing}-{size.cuts + 2}-0")
            say(f"recovery, {name}: {spread(later, 'ms')}, the first of a process {first:.1f} ms")
            figure.data[framing] = {"first of a process": first, "ms": later}
            figure.rows.append(
                Row(
                    f"recovery, {name}",
                    f"{spread(later, 'ms')} over the delay, the first of a process {first:.1f} ms",
                    f"at most {MOST} ms over the delay",
                    max(first, statistics.median(later)) <= MOST,
                )
            )
    return figure


def once(base: str, size: Dict[str, Any]) -> Dict[str, float]:
    """Measure it once, for a comparison."""
    found = {}
    for framing, name in WAYS.items():
        _, *later = recoveries(base, f"cut-{framing}-{size['cuts'] + 2}-0")
        found[f"recovery, {name}, ms over the delay"] = statistics.median(later)
    return found


def recoveries(base: str, job: str) -> List[float]:
    """Follow a stream that is cut after every event; return milliseconds over the delay."""
    logging.disable()
    seen: List[Tuple[int, int]] = []

    def on_log(ctx: Any) -> None:
        seen.append((int(ctx.event.data["timestamp"]), time.perf_counter_ns()))

    policy = ReconnectPolicy(base=BASE, jitter=0)
    with follow(job, client=cloud(base), callbacks={"on_log": on_log}, reconnect=policy) as run:
        run.wait()
    # An event is sent right before the cut that follows it.
    return [(came - cut) / 1e6 - 1000 * BASE for (cut, _), (_, came) in zip(seen, seen[1:])]
