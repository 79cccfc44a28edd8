"""All events of one job as the rows of a list, the newest last. Pure.

A log is a row of the columns; its text is made when it is asked for. Other events are few.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional, Sequence, Tuple

from arkor_sync._common.secret import redact
from arkor_sync._common.text import safe_line
from arkor_sync.stream.events import CHECKPOINT, LOG, TrainingEvent
from arkor_sync.studio.points import Columns

_FILTERS = 4  # whose rows are remembered
_WORDS_OF_LOGS = (LOG, "eval", "loss,", "-")  # what is in a log's row, besides numbers


@dataclass(frozen=True)
class Row:
    """An event as it is listed.

    Attributes:
        index: Its number, from 0.
        type: The type of the event.
        step: Its step, or None.
        time: When it happened, as ISO 8601, or None.
        text: What else it tells.
    """

    index: int
    type: str
    step: Optional[int]
    time: Optional[str]
    text: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was saved.

    Attributes:
        index: The number of its event.
        step: Its step.
        logs: How many logs came before it.
    """

    index: int
    step: int
    logs: int


class EventLog:
    """The events of one job.

    Attributes:
        columns: The logs.
        checkpoints: The checkpoints, in order.
    """

    def __init__(self) -> None:
        self.columns = Columns()
        self.checkpoints: List[Checkpoint] = []
        self._others: List[Row] = []
        self._indexes: array[int] = array("q")  # of the others
        self._found: Dict[str, Tuple[int, array[int]]] = {}  # by filter: read so far, and rows

    def __len__(self) -> int:
        return len(self.columns) + len(self._others)

    @property
    def others(self) -> List[Row]:
        """The events that are no logs."""
        return list(self._others)

    @property
    def bytes(self) -> int:
        """About how much memory they take."""
        texts = sum(len(row.text) for row in self._others)
        return self.columns.bytes + texts + 300 * len(self._others)

    def add_logs(self, logs: List[Dict[str, Any]]) -> None:
        """Append logs, given by their fields on the wire."""
        self.columns.extend(logs)

    def add(self, event: TrainingEvent) -> None:
        """Append an event."""
        if event.type == LOG and event.problem is None:
            self.add_logs([event.data])
            return
        index, step = len(self), event.step
        text = "" if event.problem is None else f"it cannot be read: {event.problem}"
        if not text and event.data.get("error") is not None:
            text = str(event.data["error"])
        if event.type == CHECKPOINT and event.problem is None and step is not None:
            self.checkpoints.append(Checkpoint(index, step, len(self.columns)))
        kind, time = safe_line(event.type or "unknown", 80), event.timestamp
        self._indexes.append(index)
        self._others.append(
            Row(index, kind, step, time and safe_line(time, 40), safe_line(redact(text)))
        )

    def logs_before(self, index: int) -> int:
        """Return how many logs are among the first events."""
        return index - bisect_left(self._indexes, index)

    def row(self, index: int) -> Row:
        """Return one event as a row."""
        other = bisect_left(self._indexes, index)
        if other < len(self._indexes) and self._indexes[other] == index:
            return self._others[other]
        log = index - other
        columns = self.columns
        moment = columns.moment(log)
        return Row(index, LOG, int(columns.steps[log]), iso(moment), self._text(log))

    def search(self, text: str, most: int) -> Tuple[array[int], bool]:
        """Return the numbers of the events that have every word of a text in their row.

        It goes on from where the last search for the same text has come to.

        Args:
            text: The words; upper and lower case are the same.
            most: How many events are looked at, at most.

        Returns:
            The numbers; and whether all events were looked at.
        """
        words = text.lower().split()
        key = " ".join(words)
        read, rows = self._found.pop(key, (0, array("q")))
        stop = len(self)
        if not all(map(_may_be_in_logs, words)):
            first, last = (bisect_left(self._indexes, each) for each in (read, stop))
            candidates: Sequence[int] = self._indexes[first:last]
        else:
            stop = min(stop, read + most)
            candidates = range(read, stop)
        for index in candidates:
            told = self._words(index)
            if all(word in told for word in words):
                rows.append(index)
        self._found[key] = (stop, rows)
        while len(self._found) > _FILTERS:
            del self._found[next(iter(self._found))]
        return rows, stop == len(self)

    def _words(self, index: int) -> str:
        """Return what a search looks at."""
        log = self.logs_before(index)
        if log == self.logs_before(index + 1):
            row = self.row(index)
            return f"{row.type} {row.step} {row.text}".lower()
        return f"{LOG} {int(self.columns.steps[log])} {self._text(log)}"

    def _text(self, log: int) -> str:
        pairs = []
        for name, series in self.columns.series.items():
            if name in ("loss", "eval_loss") and series.values[log] == series.values[log]:
                pairs.append(f"{name.replace('_', ' ')} {series.values[log]:.4f}")
        return ", ".join(pairs)


def iso(moment: Optional[float]) -> Optional[str]:
    """Return a time as ISO 8601; None if it is none."""
    if moment is None:
        return None
    try:
        when = datetime.fromtimestamp(moment, timezone.utc)
    except (ValueError, OverflowError, OSError):  # no calendar has it
        return None
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _may_be_in_logs(word: str) -> bool:
    """Whether a word can be in the row of a log, whose words are always the same."""
    return any(map(str.isdigit, word)) or any(word in each for each in _WORDS_OF_LOGS)
