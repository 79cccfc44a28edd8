"""Memory: what a run takes on while a slow callback is behind a fast stream."""

from __future__ import annotations

import time
from typing import Any, Dict, List

from bench_clients import cloud
from bench_report import Figure, Row, Size, fresh, resident, say
from bench_server import Server

from arkor_sync import follow

MOST = 5  # MB
EVERY = 10_000  # events


def measure(size: Size) -> Figure:
    with Server() as server:
        found = fresh(sizes, server.url, f"flood-close-{size.flood}-0")
    growth = (max(found) - found[0]) / 1e6
    ours = f"{growth:+.1f} MB, from {found[0] / 1e6:.1f} MB"
    say(f"memory: {ours}")
    row = Row(
        f"memory, from event {EVERY:,} to event {size.flood:,}",
        ours,
        f"at most {MOST} MB more",
        growth <= MOST,
    )
    return Figure([row], {"bytes": found, "every": EVERY})


def once(base: str, size: Dict[str, Any]) -> Dict[str, float]:
    """Measure it once, for a comparison."""
    found = sizes(base, f"flood-close-{size['flood']}-0")
    return {"memory, the most, MB": max(found) / 1e6}


def sizes(base: str, job: str) -> List[int]:
    """Follow a stream with a slow callback; return the resident bytes, every 10,000 events."""
    found = []
    calls = 0

    def on_log(ctx: Any) -> None:
        nonlocal calls
        calls += 1
        if calls % 100 == 0:
            time.sleep(0.001)
        if calls % EVERY == 0:
            found.append(resident())

    with follow(job, client=cloud(base), callbacks={"on_log": on_log}) as run:
        run.wait()
    return found
