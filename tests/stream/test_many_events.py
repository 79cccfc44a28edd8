"""Many events through a small queue, cut every few thousand: nothing lost, and memory flat.

20,000 events by default; a million with `ARKOR_SLOW=1`.
"""

from __future__ import annotations

import gc
import os
import tracemalloc
from types import SimpleNamespace
from typing import Any, List, Optional, Tuple

from engine_fakes import FakeClock, completed, job, logs

from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError
from arkor_sync.options import RunOptions
from arkor_sync.run import Run

EVENTS = 1_000_000 if os.environ.get("ARKOR_SLOW") else 20_000
WARM_UP = EVENTS // 2 if EVENTS < 100_000 else 20_000  # two generations of remembered events
CUT_EVERY = 3_000
MARGIN = 5 << 20  # bytes


class Stream:
    """Sends what comes after an event, a hundred at a time, and breaks in the middle of one."""

    def __init__(self, after: int) -> None:
        self._next = after + 1
        self._left = CUT_EVERY

    def read(self) -> bytes:
        if self._next > EVENTS:
            return completed()
        if self._left <= 0:
            raise ArkorConnectionError("reset by peer")
        last = min(self._next + 99, EVENTS)
        body = logs(self._next, last)
        self._next, self._left = last + 1, self._left - 100
        return body if self._left > 0 else body[:-30]

    def set_timeout(self, seconds: float) -> None:
        raise AssertionError("nothing here is silent")

    def close(self) -> None:
        self._left = 0


class Jobs:
    def events(
        self,
        job_id: str,
        *,
        transport: Any,
        last_event_id: Optional[str] = None,
        timeout: Tuple[float, float],
    ) -> Stream:
        return Stream(int(last_event_id or 0))

    def get(self, job_id: str, *, transport: Any = None) -> Any:
        return job("running")


def test_many_events_through_a_small_queue_lose_nothing_and_keep_the_memory_flat() -> None:
    expected = 1
    sizes: List[int] = []

    def on_log(ctx: Any) -> None:
        nonlocal expected
        assert ctx.step == expected
        expected += 1
        if ctx.step in (WARM_UP, EVENTS):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])

    client: Any = SimpleNamespace(jobs=Jobs(), transport=Transport)
    options = RunOptions(
        callbacks={"on_log": on_log},
        clock=FakeClock(),
        max_buffered_events=64,
        max_buffered_bytes=1 << 20,
    )
    tracemalloc.start()
    try:
        with Run(client, job(), options).start() as run:
            assert run.wait().status == "completed"
    finally:
        tracemalloc.stop()
    assert expected == EVENTS + 1
    health = run.health()
    assert health.delivered == EVENTS + 1
    assert health.reconnects >= EVENTS // CUT_EVERY - 1
    assert health.queue_high_water <= 64
    assert sizes[1] - sizes[0] < MARGIN
