"""A look at what follows one run: states, ages and counts, and the same in words. Any thread."""

from __future__ import annotations

from typing import Iterator, Optional

from arkor_sync._common.text import counted
from arkor_sync.result import RunHealth
from arkor_sync.stream.channel import Channel
from arkor_sync.stream.reader import Reader, State
from arkor_sync.stream.worker import Worker

_LONG = 1.0  # seconds; a callback that takes less is not worth a word


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
    state = reader.state
    return RunHealth(
        state=ending or state.value,
        last_byte_age=age(reader.last_byte),
        last_event_age=age(reader.last_event),
        last_acknowledged_age=age(worker.progress.last_acknowledged),
        queue_depth=len(channel),
        queue_high_water=channel.high_water,
        delivered=worker.progress.delivered,
        duplicates=channel.duplicates,
        skipped=worker.skipped.count,
        given_up=worker.failures.given_up,
        failures=reader.failures,
        reconnects=reader.reconnects,
        callback=call and call.callback,
        callback_age=call and age(call.since),
        acknowledged_id=worker.progress.acknowledged_id,
        retry_in=max(0.0, reader.next_attempt - now) if state is State.BACKING_OFF else None,
        step=getattr(worker.current.ctx, "step", None),
    )


def in_words(health: RunHealth) -> str:
    """Say what a run is doing, for the message of a `WaitTimeout`."""
    return ", ".join(_parts(health))


def _parts(health: RunHealth) -> Iterator[str]:
    failed = f" after {health.failures} failures" if health.failures > 1 else ""
    if health.state == State.STREAMING.value:
        yield "the stream is connected"
    elif health.state == State.BACKING_OFF.value:
        yield f"the stream is lost{failed}, the next attempt is in {health.retry_in or 0:.0f} s"
    elif health.state == State.CONNECTING.value:
        again = " again" if health.reconnects else ""
        yield f"the stream is being opened{again}{failed}"
    elif health.state == State.ENDED.value:
        yield "the stream has ended"
    else:
        yield f"the run is {health.state}"
    step = "" if health.step is None else f" (step {health.step})"
    if health.last_event_age is None:
        yield "no event has come yet"
    else:
        yield f"the last event came {health.last_event_age:.1f} s ago{step}"
    if health.queue_depth:
        verb = "waits" if health.queue_depth == 1 else "wait"
        yield f"{counted(health.queue_depth, 'event')} {verb} for the callbacks"
    if health.callback is not None and (health.callback_age or 0) >= _LONG:
        yield f"{health.callback} has been running for {health.callback_age:.0f} s"
