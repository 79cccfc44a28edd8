"""The metrics of a run, in one row for each step. Pure.

The rows are stored by step, so that an event that is delivered again does not count twice.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from arkor_sync.stream.events import METRICS, number

_LARGEST = 1e100  # larger values cannot be drawn


class Row(NamedTuple):
    """The metrics of one step. None means not sent; a loss of NaN was sent and is no number."""

    loss: Optional[float] = None
    eval_loss: Optional[float] = None
    learning_rate: Optional[float] = None
    epoch: Optional[float] = None
    samples_per_second: Optional[float] = None


Rows = Dict[int, Row]


def add_log(rows: Rows, data: Mapping[str, Any]) -> None:
    """Add the fields of a log event. If its step has a row already, the new values replace it."""
    row = Row(*(_finite(data.get(METRICS[name])) for name in Row._fields))
    if row.loss is None and row.eval_loss is None and "loss" in data:
        row = row._replace(loss=math.nan)
    old = rows.get(data["step"])
    if old is not None:
        kept = (a if b is None or math.isnan(b) else b for a, b in zip(old, row))
        row = Row(*kept)
    rows[data["step"]] = row


def collect_rows(logs: Iterable[Mapping[str, Any]], known: Optional[Rows] = None) -> Rows:
    """Return the rows of many log events, added to a copy of the rows that are known already."""
    rows = dict(known or {})
    for data in logs:
        add_log(rows, data)
    return rows


def rows_of(values: Iterable[Tuple[int, float]]) -> Rows:
    """Return rows that have one metric of any name, in the place of the loss.

    Args:
        values: The metric, with its steps. What cannot be drawn leaves a gap.
    """
    drawable = ((step, _finite(value)) for step, value in values)
    return {step: Row(math.nan if value is None else value) for step, value in drawable}


def downsample(rows: Rows, limit: int) -> Rows:
    """Return at most `limit` rows, evenly over the steps, that keep each peak and each low.

    Args:
        rows: The rows, in any order.
        limit: At least 12. If there are fewer rows, all are returned, sorted.
    """
    steps = sorted(rows)
    if len(steps) <= limit:
        return {step: rows[step] for step in steps}
    first, width = steps[0], (steps[-1] - steps[0]) // (limit // 4) + 1
    groups: Dict[int, List[int]] = {}
    for step in steps:
        groups.setdefault((step - first) // width, []).append(step)
    kept = {steps[0], steps[-1]}
    for group in groups.values():
        with_loss = [step for step in group if rows[step].loss is not None]
        if with_loss:
            kept |= {
                min(with_loss, key=lambda s: _height(rows[s])),
                max(with_loss, key=lambda s: _height(rows[s])),
            }
        kept.update([step for step in group if rows[step].eval_loss is not None][-1:])
    return {step: rows[step] for step in sorted(kept)}


def _finite(value: Any) -> Optional[float]:
    parsed = number(value)
    return None if parsed is None or not abs(parsed) < _LARGEST else float(parsed)


def _height(row: Row) -> float:
    assert row.loss is not None
    return math.inf if math.isnan(row.loss) else row.loss
