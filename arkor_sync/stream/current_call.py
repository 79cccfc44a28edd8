"""Which callback is running, since when, and where its thread is. Any thread."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Union

from arkor_sync._common.clock import Clock
from arkor_sync._common.log import Lines, get_logger
from arkor_sync._common.threads import OwnThread
from arkor_sync.stream.events import RunEvent, TrainingEvent

logger = get_logger("arkor_sync.stream.worker")

STUCK_AFTER = 60.0
"""Seconds after which a running callback is warned of; again after twice as long."""


class Call(NamedTuple):
    """The callback that is running: its name, its event, and when it began on the clock."""

    callback: str
    event: Union[TrainingEvent, RunEvent]
    since: float


class CurrentCall:
    """What the worker thread calls at this moment. The worker alone sets the attributes.

    Attributes:
        name: The callback that is running or awaited, or None.
        ctx: Its argument; where none is running, that of the last one.
        since: When the event at hand was taken up, on the clock.
    """

    def __init__(self, clock: Clock, thread: OwnThread) -> None:
        self.name: Optional[str] = None
        self.ctx: Any = None
        self.since = 0.0
        self._clock = clock
        self._thread = thread
        self._watched: Any = None
        self._warn_after = STUCK_AFTER

    def get(self) -> Optional[Call]:
        """Return the callback that is running or awaited, or None."""
        name, ctx = self.name, self.ctx
        return None if name is None or ctx is None else Call(name, ctx.event, self.since)

    def stack(self) -> str:
        """Format what the worker thread is doing at this moment."""
        return self._thread.stack()

    def warn_if_stuck(self) -> None:
        """Log a callback that has been running for long, with its stack."""
        name, ctx, since = self.name, self.ctx, self.since
        if name is None:
            return
        if ctx is not self._watched:
            self._watched, self._warn_after = ctx, STUCK_AFTER
        age = self._clock.now() - since
        if age >= self._warn_after:
            self._warn_after = 2 * age
            what = "%s has been running for %.0f s, for event %s:\n%s"
            logger.warning(what, name, age, ctx.event.id, Lines(self.stack()))
