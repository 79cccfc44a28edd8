"""Mean, spread and percentiles of a metric, as its values come. Pure.

All values count, and nothing is estimated: sums are kept of every `CHUNK` values, and the values of
a chunk are sorted when it is full, so that a percentile is searched in sorted lists.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from math import ceil, isfinite, sqrt
from operator import mul
from typing import Any, Dict, List, Optional, Protocol, Tuple

CHUNK = 4096

# Student's t for a two-sided interval of 95 %, from one degree of freedom on.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL = 1.96


class Values(Protocol):
    """A metric: see `Series`."""

    values: array[float]
    count: int

    def row(self, position: int) -> int:
        """Return the number of the log that has the value at a position."""

    def part(self, start: int, stop: int) -> array[float]:
        """Return the values from one position to another."""

    def extremes(self, start: int, stop: int) -> Tuple[int, int]:
        """Return the rows of the lowest and of the highest value between two positions."""


class Spread:
    """The statistics of one metric.

    Args:
        values: The metric.
        highest_is_best: Whether a high value is a good one.
    """

    def __init__(self, values: Values, *, highest_is_best: bool = False) -> None:
        self._values = values
        self._highest_is_best = highest_is_best
        self._chunks: List[array[float]] = []  # each sorted
        self._sums = (0, 0.0, 0.0)  # of the chunks: see `_joined`
        self._told: Optional[Dict[str, Any]] = None

    def update(self) -> None:
        """Take in the values that are new."""
        while (len(self._chunks) + 1) * CHUNK <= self._values.count:
            start = len(self._chunks) * CHUNK
            chunk = self._values.part(start, start + CHUNK)
            self._sums = _joined(self._sums, _sums(chunk))
            self._chunks.append(array("d", sorted(chunk)))

    def summary(self, steps: array[float]) -> Optional[Dict[str, Any]]:
        """Return the statistics; None without a value.

        Args:
            steps: The step of each log.

        Returns:
            `count`, `mean`, `half_width` of its interval of 95 %, `std` of the sample, `p90` and
            `p95` (the lowest value that so many percent do not exceed), `last`, `best` and
            `best_step`.
        """
        count = self._values.count
        if not count:
            return None
        if self._told is not None and self._told["count"] == count:
            return self._told
        rest = self._values.part(len(self._chunks) * CHUNK, count)
        _, mean, squares = _joined(self._sums, _sums(rest))
        std = sqrt(squares / (count - 1)) if count > 1 else 0.0
        t = _T[count - 2] if 2 <= count <= len(_T) + 1 else _NORMAL
        chunks = [*self._chunks, array("d", sorted(rest))]
        low, high = self._values.extremes(0, count)
        best = high if self._highest_is_best else low
        values = self._values.values
        told = {
            "count": count,
            "mean": mean,
            "half_width": t * std / sqrt(count),
            "std": std,
            "p90": at_rank(chunks, ceil(count * 90 / 100) - 1),
            "p95": at_rank(chunks, ceil(count * 95 / 100) - 1),
            "last": values[self._values.row(count - 1)],
            "best": values[best],
            "best_step": int(steps[best]),
        }
        # Squares of huge values are infinite, which JSON does not know.
        self._told = {name: each if isfinite(each) else None for name, each in told.items()}
        return self._told


def at_rank(chunks: List[array[float]], rank: int) -> float:
    """Return the value with a rank, from 0, of all that are in sorted chunks."""
    begins, ends = [0] * len(chunks), [len(chunk) for chunk in chunks]
    while True:
        sizes = [end - begin for begin, end in zip(begins, ends)]
        if sum(sizes) <= CHUNK:
            left: List[float] = []
            for chunk, begin, end in zip(chunks, begins, ends):
                left += chunk[begin:end]
            return sorted(left)[rank]
        widest = sizes.index(max(sizes))
        pivot = chunks[widest][(begins[widest] + ends[widest]) // 2]
        below = list(map(bisect_left, chunks, [pivot] * len(chunks), begins, ends))
        above = list(map(bisect_right, chunks, [pivot] * len(chunks), below, ends))
        lower, upper = sum(below) - sum(begins), sum(above) - sum(begins)
        if rank < lower:
            ends = below
        elif rank < upper:
            return pivot
        else:
            begins, rank = above, rank - upper


def _sums(values: array[float]) -> Tuple[int, float, float]:
    """Return the count, the mean, and the sum of the squared distances from it."""
    if not values:
        return 0, 0.0, 0.0
    mean = sum(values) / len(values)
    distances = [value - mean for value in values]
    return len(values), mean, sum(map(mul, distances, distances))


def _joined(
    one: Tuple[int, float, float], other: Tuple[int, float, float]
) -> Tuple[int, float, float]:
    """Return what `_sums` would return of both together (Chan, Golub and LeVeque, 1979)."""
    count = one[0] + other[0]
    if not count:
        return one
    distance = other[1] - one[1]
    mean = one[1] + distance * other[0] / count
    return count, mean, one[2] + other[2] + distance * distance * one[0] * other[0] / count
