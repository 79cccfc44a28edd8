"""The logs of a job as columns, and what a chart shows of them. Pure.

A chart has a few hundred pixels, and a job may have a million logs. Of each part of a curve its
lowest and its highest value are kept, so that every spike is seen; a part that has few enough
values has them all. The extremes of every `BLOCK` values are found when these come, so that a look
at the whole curve reads one number of hundreds.

One thread extends the columns; others may read them under the same lock.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from contextlib import suppress
from math import inf, isfinite, nan
from operator import itemgetter, le
from typing import Any, Dict, Iterable, List, Optional, Tuple

from arkor_sync.render.text import parse_timestamp
from arkor_sync.stream.events import METRICS, number
from arkor_sync.studio.spread import Spread

BLOCK = 256
CHARTED = ("loss", "eval_loss", "learning_rate", "samples_per_second")
AXES = ("step", "epoch", "time")

_NUMBERS = frozenset({int, float})
_DIGITS = 6  # of a value of a curve that is not shown with all its values
_MINUTES = 4096  # of a training, that are remembered


class Series:
    """One metric, with the extremes of its blocks.

    Attributes:
        values: The value of each log; NaN where a log has none, or one that is not finite.
        count: How many there are, without those.
    """

    def __init__(self) -> None:
        self.values = array("d")
        self.count = 0
        self._rows: Optional[array[int]] = None  # of the values, where some logs have none
        self._lows: array[int] = array("q")  # the rows of the lowest value of each block
        self._highs: array[int] = array("q")

    def extend(self, values: List[Any]) -> None:
        """Append what so many logs have in this field, whatever it is."""
        before = len(self.values)
        numbers, whole = _numbers(values)
        self.values.extend(numbers)
        if not whole and self._rows is None:
            self._rows = array("q", range(before))
        if self._rows is None:
            self.count += len(numbers)
        else:
            there = [row for row, value in enumerate(numbers, before) if value == value]
            self._rows.extend(there)
            self.count = len(self._rows)
        for start in range(len(self._lows) * BLOCK, self.count - BLOCK + 1, BLOCK):
            low, high = self._look_through(start, start + BLOCK)
            self._lows.append(low)
            self._highs.append(high)

    def row(self, position: int) -> int:
        """Return the number of the log that has the value at a position."""
        return position if self._rows is None else self._rows[position]

    def part(self, start: int, stop: int) -> array[float]:
        """Return the values from one position to another."""
        if self._rows is None:
            return self.values[start:stop]
        return array("d", map(self.values.__getitem__, self._rows[start:stop]))

    def extremes(self, start: int, stop: int) -> Tuple[int, int]:
        """Return the rows of the lowest and of the highest value between two positions.

        Of several that are equal it is the first. There has to be one.
        """
        first, last = -(-start // BLOCK), min(stop // BLOCK, len(self._lows))
        if first >= last:
            return self._look_through(start, stop)
        lows, highs = self._lows[first:last], self._highs[first:last]
        for begin, end in ((start, first * BLOCK), (last * BLOCK, stop)):
            if begin < end:
                low, high = self._look_through(begin, end)
                at = 0 if begin == start else len(lows)
                lows.insert(at, low)
                highs.insert(at, high)
        value = self.values.__getitem__
        return min(lows, key=value), max(highs, key=value)

    def reduced(self, start: int, stop: int, count: int) -> Tuple[List[int], bool]:
        """Choose the rows that are shown of those from one to another, and their neighbours.

        Args:
            start: The first row.
            stop: The row after the last.
            count: About how many are shown at most; at least 4.

        Returns:
            The rows, in order: all that have a value, if they are few enough. Else the first and
            the last, and of each of as many parts as fit the lowest and the highest. And whether
            it is all.
        """
        first = max(0, self._position(start) - 1)
        last = min(self.count, self._position(stop) + 1)
        if last - first <= count:
            return [self.row(position) for position in range(first, last)], True
        parts = max(1, (count - 2) // 2)
        edges = [first + (last - first) * part // parts for part in range(parts + 1)]
        if last - first >= parts * BLOCK:  # each part then has whole blocks, whose extremes we have
            edges[1:-1] = [edge // BLOCK * BLOCK for edge in edges[1:-1]]
        chosen = {self.row(first), self.row(last - 1)}
        for begin, end in zip(edges, edges[1:]):
            chosen.update(self.extremes(begin, end))
        return sorted(chosen), False

    def _position(self, row: int) -> int:
        return min(row, self.count) if self._rows is None else bisect_left(self._rows, row)

    def _look_through(self, start: int, stop: int) -> Tuple[int, int]:
        part = self.part(start, stop)
        low, high = part.index(min(part)), part.index(max(part))
        return self.row(start + low), self.row(start + high)


class Columns:
    """The logs of one job, column by column.

    Attributes:
        series: The metrics that are charted, by name.
        steps: The step of each log.
        epochs: The epoch of each log; NaN where it has none.
        started: When the first log was made, in seconds since 1970; None if it does not say.
        spreads: The statistics of some metrics, by name.
    """

    def __init__(self) -> None:
        self.series = {name: Series() for name in CHARTED}
        self.steps = array("d")
        self.epochs = array("d")
        self.started: Optional[float] = None
        self.spreads = {
            "loss": Spread(self.series["loss"]),
            "eval_loss": Spread(self.series["eval_loss"]),
            "samples_per_second": Spread(self.series["samples_per_second"], highest_is_best=True),
        }
        self._axes = {"epoch": array("d"), "time": array("d")}  # these never fall
        self._rises = True  # whether the steps do neither
        self._ordered: Optional[Columns] = None  # the same logs in the order of their steps
        self._minutes: Dict[str, Optional[float]] = {}

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def bytes(self) -> int:
        """About how much memory they take: eight columns, and three that are sorted."""
        return 11 * 8 * len(self)

    def extend(self, logs: List[Dict[str, Any]]) -> None:
        """Append logs, given by their fields on the wire."""
        last = self.steps[-1] if self.steps else 0.0
        steps, whole = _numbers(_field(logs, METRICS["step"]))
        if not whole:  # one is too large for a float
            for at, step in enumerate(steps):
                if step != step:
                    steps[at] = steps[at - 1] if at else last
        self._rises = self._rises and all(map(le, [last if self.steps else -inf, *steps], steps))
        self.steps.extend(steps)
        for name, series in self.series.items():
            series.extend(_field(logs, METRICS[name]))
        epochs = _numbers(_field(logs, METRICS["epoch"]))[0]
        self.epochs.extend(epochs)
        _extend_rising(self._axes["epoch"], epochs)
        self._extend_times(_field(logs, "timestamp"))
        for spread in self.spreads.values():
            spread.update()

    def axis(self, name: str) -> array[float]:
        """Return what is to be on the x axis, for each log: `step`, `epoch` or `time`.

        Time is in seconds since the first log. Where a log has no epoch or no time, or one that is
        below that of the log before it, it has that of the log before it.
        """
        return self.steps if name == "step" else self._axes[name]

    def along(self, axis: str) -> Columns:
        """Return the logs in the order of an axis. Only steps may fall: a job began again."""
        if axis != "step" or self._rises:
            return self
        if self._ordered is None or len(self._ordered) != len(self):
            self._ordered = self._in_order()
        return self._ordered

    def moment(self, row: int) -> Optional[float]:
        """Return when a log was made, in seconds since 1970; None if nothing says it."""
        return None if self.started is None else self.started + self._axes["time"][row]

    def rows(self, start: int, stop: int) -> List[List[Optional[float]]]:
        """Return logs as they are sent: step, losses, learning rate, epoch, speed, seconds."""
        series = [self.series[name].values for name in ("loss", "eval_loss", "learning_rate")]
        columns = [*series, self.epochs, self.series["samples_per_second"].values]
        parts = [column[start:stop] for column in columns]
        times = [place(value, "time") for value in self._axes["time"][start:stop]]
        values = [[None if value != value else value for value in part] for part in parts]
        return [list(row) for row in zip(map(int, self.steps[start:stop]), *values, times)]

    def place(self, row: int) -> Tuple[float, float]:
        """Return where a log is: its epoch and its time. Before the first log it is the start."""
        if row < 0:
            return 0.0, 0.0
        return self._axes["epoch"][row], place(self._axes["time"][row], "time")

    def _extend_times(self, texts: List[Any]) -> None:
        try:
            moments = self._all_seconds(texts)
        except (TypeError, ValueError):
            moments = [nan if type(text) is not str else _seconds(text) for text in texts]
        if self.started is None:
            self.started = next((moment for moment in moments if isfinite(moment)), None)
        begin = self.started or 0.0
        _extend_rising(self._axes["time"], [moment - begin for moment in moments])

    def _all_seconds(self, texts: List[Any]) -> List[float]:
        """Return the seconds since 1970 of times that all end with `Z`, as nearly all do.

        Raises:
            TypeError: One is no such time, or no text.
            ValueError: Likewise.
        """
        if set(map(itemgetter(slice(-1, None)), texts)) != {"Z"}:
            raise ValueError("another form of a time")
        heads = [text[:17] for text in texts]
        if len(self._minutes) >= _MINUTES:
            self._minutes.clear()
        for head in set(heads).difference(self._minutes):
            self._minutes[head] = parse_timestamp(f"{head}00Z")
        minutes: Dict[str, Any] = self._minutes
        return [minutes[head] + float(text[17:-1]) for head, text in zip(heads, texts)]

    def _in_order(self) -> Columns:
        order = sorted(range(len(self)), key=self.steps.__getitem__)
        ordered = Columns()
        ordered.steps = _permuted(self.steps, order)
        for name, series in self.series.items():
            ordered.series[name].extend(list(_permuted(series.values, order)))
        return ordered


def curves(
    columns: Columns,
    axis: str = "step",
    begin: float = -inf,
    end: float = inf,
    count: int = 1000,
) -> Dict[str, Any]:
    """Return what a chart shows of a job's curves.

    Args:
        columns: The logs.
        axis: One of `AXES`.
        begin: Where the chart begins, on this axis.
        end: Where it ends.
        count: About how many points the losses have at most. The other curves have a quarter.

    Returns:
        `x_range`, where the logs begin and end, None without logs; and `series`: of each metric a
        list of places on the axis and a list of values.
    """
    columns = columns.along(axis)
    places = columns.axis(axis)
    start, stop = bisect_left(places, begin), bisect_right(places, end)
    series = {}
    for name, each in columns.series.items():
        most = count if name in ("loss", "eval_loss") else count // 4
        rows, exact = each.reduced(start, max(start, stop), max(4, most))
        values: Iterable[float] = map(each.values.__getitem__, rows)
        if not exact:
            values = (float(f"{value:.{_DIGITS}g}") for value in values)
        series[name] = [[place(places[row], axis) for row in rows], list(values)]
    x_range = [place(places[0], axis), place(places[-1], axis)] if places else None
    return {"x_range": x_range, "series": series}


def place(value: float, axis: str) -> float:
    """Return a place on an axis as it is sent: a step is whole, a time has microseconds."""
    if axis == "step":
        return int(value)
    return round(value, 6) if axis == "time" else value


def _field(logs: List[Dict[str, Any]], name: str) -> List[Any]:
    try:
        return list(map(itemgetter(name), logs))
    except KeyError:
        return [log.get(name) for log in logs]


def _numbers(values: List[Any]) -> Tuple[List[float], bool]:
    """Return numbers, NaN for what is no finite one; and whether all were."""
    kinds = set(map(type, values))
    with suppress(OverflowError):  # an integer that no float can hold
        if kinds <= _NUMBERS and all(map(isfinite, values)):
            return values, True
    if kinds == {type(None)}:
        return [nan] * len(values), False
    return [nan if value is None else _finite(value) for value in values], False


def _seconds(text: str) -> float:
    moment = parse_timestamp(text)
    return nan if moment is None else moment


def _finite(value: Any) -> float:
    found = number(value)
    try:
        return nan if found is None or not isfinite(found) else found
    except OverflowError:
        return nan


def _extend_rising(axis: array[float], values: List[float]) -> None:
    """Append values; one that is below the last, or not finite, becomes the last."""
    last = axis[-1] if axis else -inf
    if all(map(le, [last, *values], values)) and values[-1] < inf:
        axis.extend(values)
        return
    for value in values:
        if last <= value < inf:
            last = value
        axis.append(last if last > -inf else 0.0)


def _permuted(values: array[float], order: List[int]) -> array[float]:
    return array("d", map(values.__getitem__, order))
