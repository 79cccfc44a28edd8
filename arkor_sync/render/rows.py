"""The metrics of a run by step. Pure.

Rows by step cannot count an event twice, however often it comes.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional

from arkor_sync.stream.events import METRICS, number

_LARGEST = 1e100  # beyond it nothing can be drawn


class Row(NamedTuple):
    """The metrics of one step. None: not sent; NaN: sent, and no number."""

    loss: Optional[float] = None
    eval_loss: Optional[float] = None
    learning_rate: Optional[float] = None
    epoch: Optional[float] = None
    samples_per_second: Optional[float] = None


Rows = Dict[int, Row]


def add(rows: Rows, data: Mapping[str, Any]) -> None:
    """Take in a log's fields. Where a step has been told of before, what is new counts."""
    row = Row(*(_finite(data.get(METRICS[name])) for name in Row._fields))
    if row.loss is None and row.eval_loss is None and "loss" in data:
        row = row._replace(loss=math.nan)
    old = rows.get(data["step"])
    if old is not None:
        kept = (a if b is None or math.isnan(b) else b for a, b in zip(old, row))
        row = Row(*kept)
    rows[data["step"]] = row


def rows_of(logs: Iterable[Mapping[str, Any]], known: Optional[Rows] = None) -> Rows:
    """Collect the rows of many logs, and those that are known already."""
    rows = dict(known or {})
    for data in logs:
        add(rows, data)
    return rows


def thinned(rows: Rows, limit: int) -> Rows:
    """Keep at most so many rows, evenly over the steps, with every peak and every dip.

    Args:
        rows: In any order.
        limit: From 12; fewer rows are returned as they are, sorted.
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
        told = [step for step in group if rows[step].loss is not None]
        if told:
            kept |= {
                min(told, key=lambda s: _height(rows[s])),
                max(told, key=lambda s: _height(rows[s])),
            }
        kept.update([step for step in group if rows[step].eval_loss is not None][-1:])
    return {step: rows[step] for step in sorted(kept)}


def _finite(value: Any) -> Optional[float]:
    given = number(value)
    return None if given is None or not abs(given) < _LARGEST else float(given)


def _height(row: Row) -> float:
    assert row.loss is not None
    return math.inf if math.isnan(row.loss) else row.loss
