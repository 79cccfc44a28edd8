"""Counts the events that cannot be delivered, and logs some of them. Runs on the worker thread."""

from __future__ import annotations

from arkor_sync._common.log import get_logger
from arkor_sync._common.text import counted
from arkor_sync.stream.events import TrainingEvent

logger = get_logger("arkor_sync.stream.worker")

FEW = 10
"""So many events are logged one by one; after them the hundredth, the thousandth and so on."""


class Skipped:
    """The events of one run that could not be read, or whose type is unknown.

    Each is counted. A server that sends nothing else must not fill the disk with log lines.

    Attributes:
        count: How many there were. Any thread may read it.
    """

    def __init__(self, label: str) -> None:
        self.count = 0
        self._label = label
        self._logged = 0  # the count when one was logged last

    def add(self, event: TrainingEvent) -> None:
        """Count an event; log it, if it is one of the first, or the count is a power of ten."""
        self.count += 1
        if self.count <= FEW:
            logger.warning("skipped event %s: %s", event.id, event.problem)
        elif self.count == 10 ** (len(str(self.count)) - 1):
            what = "skipped %d events of job %s so far; the last is event %s: %s"
            logger.warning(what, self.count, self._label, event.id, event.problem)
        else:
            return
        self._logged = self.count

    def log_total(self) -> None:
        """Log how many there were, if the last ones were not logged."""
        if self.count > self._logged:
            what = "skipped %s of job %s in all"
            logger.warning(what, counted(self.count, "event"), self._label)
