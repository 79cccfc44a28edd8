"""A look at what follows one run: states, ages and counts. Any thread."""

from __future__ import annotations

from typing import Optional

from arkor_sync.result import RunHealth
from arkor_sync.stream.channel import Channel
from arkor_sync.stream.reader import Reader
from arkor_sync.stream.worker import Worker


def run_health(
    ending: Optional[str], reader: Reader, channel: Channel, worker: Worker, now: float
) -> RunHealth:
    """Collect the health of a run. It never blocks.

    Args:
        ending: The state of a run that has ended or is about to; None for that of the reader.
        reader: The run's reader.
        channel: The run's channel.
        worker: The run's worker.
        now: The time, on the run's clock.
    """

    def age(moment: Optional[float]) -> Optional[float]:
        return None if moment is None else max(0.0, now - moment)

    call = worker.current.get()
    return RunHealth(
        state=ending or reader.state.value,
        last_byte_age=age(reader.last_byte),
        last_event_age=age(reader.last_event),
        last_acknowledged_age=age(worker.last_acknowledged),
        queue_depth=len(channel),
        queue_high_water=channel.high_water,
        delivered=worker.delivered,
        duplicates=channel.duplicates,
        skipped=worker.skipped.count,
        given_up=worker.failures.given_up,
        failures=reader.failures,
        reconnects=reader.reconnects,
        callback=call and call.callback,
        callback_age=call and age(call.since),
        acknowledged_id=worker.acknowledged_id,
    )
