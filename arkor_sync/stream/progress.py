"""How many of a run's events are done with, and since when. Runs on the worker thread."""

from __future__ import annotations

from typing import Optional

from arkor_sync._common.clock import Clock
from arkor_sync.stream.batches import Batch, Delivery, EventBatch
from arkor_sync.stream.channel import Channel
from arkor_sync.stream.current_call import CurrentCall


class Progress:
    """Counts what the worker has acknowledged. The worker alone changes it; any thread may read it.

    Attributes:
        delivery: The batch in hand, or the last one.
    """

    def __init__(self, channel: Channel, current: CurrentCall, clock: Clock) -> None:
        self.delivery = Delivery(EventBatch([]))
        self._channel = channel
        self._current = current
        self._clock = clock
        self._acknowledged_at: Optional[float] = None

    @property
    def delivered(self) -> int:
        """How many events were acknowledged."""
        delivery = self.delivery
        return delivery.before + delivery.done

    @property
    def last_acknowledged(self) -> Optional[float]:
        """When the last of them was, on the clock; None before the first."""
        delivery = self.delivery
        if delivery.done > delivery.acknowledged:
            return self._current.since
        return self._acknowledged_at

    @property
    def acknowledged_id(self) -> Optional[str]:
        """Id of the last of them, or None."""
        delivery = self.delivery
        done, known = delivery.done, self._channel.cursor.acknowledged
        if done <= delivery.acknowledged:
            return known
        return next((each for each in delivery.batch.ids[done - 1 :: -1] if each), known)

    def begin(self, batch: Batch) -> Delivery:
        """Take a batch in hand."""
        self.delivery = Delivery(batch, self.delivered)
        return self.delivery

    def moved(self, done: int) -> None:
        """Note that the cursor has moved over so many events of the batch in hand."""
        self._current.since = self._acknowledged_at = self._clock.now()
        self.delivery.acknowledged = done
