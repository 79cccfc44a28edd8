"""Remembers the metrics and checkpoints of runs, for handlers that draw them. Worker thread."""

from __future__ import annotations

import json
import logging
from typing import Any, Dict, NamedTuple

from arkor_sync.callbacks import Callback
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import CheckpointContext, LogContext
from arkor_sync.handlers._shared.safety import harmless, said
from arkor_sync.handlers._shared.state_per_run import PerRun
from arkor_sync.render.rows import Row, Rows, add, thinned

logger = logging.getLogger("arkor_sync.handlers")

LIMIT = 500  # rows that are kept for a restart: they are saved after every event


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
