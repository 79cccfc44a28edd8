"""The metrics of runs by step, bounded, for what is drawn of them. Worker thread.

Rows by step cannot count an event twice, however often it comes.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional

from arkor_sync.callbacks import Callback
from arkor_sync.contexts import METRICS, CheckpointContext, LogContext
from arkor_sync.events import number
from arkor_sync.handlers._harmless import harmless, said
from arkor_sync.handlers._per_run import PerRun
from arkor_sync.models import TrainingJob

logger = logging.getLogger(__name__)

LIMIT = 500  # rows that are kept for a restart: they are saved after every event
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


class Memory(NamedTuple):
    """What is remembered of one job."""

    rows: Rows
    checkpoints: Dict[int, None]  # a set that keeps its order


class Recorder(Callback):
    """Remembers the metrics and checkpoints of the runs that it serves, also across a restart."""

    def __init__(self) -> None:
        self._memories = PerRun(_remember, _saved)

    @harmless
    def on_log(self, ctx: LogContext) -> None:
        """Remember the metrics of a step."""
        rows = self._memories.of(ctx).rows
        add(rows, ctx.event.data)
        if len(rows) > LIMIT:
            few = thinned(rows, LIMIT)
            rows.clear()
            rows.update(few)

    @harmless
    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Remember the step of a checkpoint."""
        checkpoints = self._memories.of(ctx).checkpoints
        checkpoints[ctx.step] = None
        if len(checkpoints) > LIMIT:
            del checkpoints[min(checkpoints)]

    def state_dict(self) -> Dict[str, Any]:
        """Return what is remembered of the run whose worker asks. Each run saves its own."""
        return self._memories.state_dict()

    @harmless
    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take over what an earlier process remembered."""
        self._memories.load_state_dict(state)


def _remember(job: TrainingJob, saved: Any) -> Memory:
    try:
        rows, checkpoints = json.loads(saved or "[[], []]")
        known = {int(step): Row(*values) for step, values in rows}
        return Memory(known, dict.fromkeys(checkpoints))
    except Exception as error:
        logger.warning("what was kept of job %s cannot be read: %s", job.id, said(error))
        return Memory({}, {})


def _saved(memory: Memory) -> str:
    # One text: it is written after every event, and quicker so.
    return json.dumps([list(memory.rows.items()), list(memory.checkpoints)])


def _finite(value: Any) -> Optional[float]:
    given = number(value)
    return None if given is None or not abs(given) < _LARGEST else float(given)


def _height(row: Row) -> float:
    assert row.loss is not None
    return math.inf if math.isnan(row.loss) else row.loss
