"""Many events through a small queue, cut every few thousand: nothing lost, and memory flat.

20,000 events in a plain run; a million with the tests marked `slow`.
"""

from __future__ import annotations

import gc
import tracemalloc
from types import SimpleNamespace
from typing import Any, List, Optional, Tuple

import pytest

from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError
from arkor_sync.options import RunOptions
from arkor_sync.run import Run
from support.clocks import FakeClock
from support.fake_cloud import completed, job, logs

CUT_EVERY = 3_000
MARGIN = 5 << 20  # bytes


class Stream:
    """Sends what comes after an event, a hundred at a time, and breaks in the middle of one."""

    def __init__(self, after: int, last: int) -> None:
        self._next = after + 1
        self._last = last
        self._left = CUT_EVERY

    def read(self) -> bytes:
        if self._next > self._last:
            return completed()
        if self._left <= 0:
            raise ArkorConnectionError("reset by peer")
        last = min(self._next + 99, self._last)
        body = logs(self._next, last)
        self._next, self._left = last + 1, self._left - 100
        return body if self._left > 0 else body[:-30]

    def set_timeout(self, seconds: float) -> None:
        raise AssertionError("nothing here is silent")

    def close(self) -> None:
        self._left = 0


class Jobs:
    def __init__(self, events: int) -> None:
        self._events = events

    def events(
        self,
        job_id: str,
        *,
        transport: Any,
        last_event_id: Optional[str] = None,
        timeout: Tuple[float, float],
    ) -> Stream:
        return Stream(int(last_event_id or 0), self._events)

    def get(self, job_id: str, *, transport: Any = None) -> Any:
        return job("running")


@pytest.mark.parametrize("events", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_many_events_through_a_small_queue_lose_nothing_and_keep_the_memory_flat(
    events: int,
) -> None:
    warm_up = min(events // 2, 20_000)  # two generations of remembered events
    expected = 1
    sizes: List[int] = []

    def on_log(ctx: Any) -> None:
        nonlocal expected
        assert ctx.step == expected
        expected += 1
        if ctx.step in (warm_up, events):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])

    client: Any = SimpleNamespace(jobs=Jobs(events), transport=Transport)
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
    assert expected == events + 1
    health = run.health()
    assert health.delivered == events + 1
    assert health.reconnects >= events // CUT_EVERY - 1
    assert health.queue_high_water <= 64
    assert sizes[1] - sizes[0] < MARGIN
