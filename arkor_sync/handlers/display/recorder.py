"""Records metrics and checkpoints, for handlers that draw them. Runs on the worker thread."""

from __future__ import annotations

import json
from typing import Any, Dict, NamedTuple

from arkor_sync._common.log import get_logger
from arkor_sync.callbacks import Callback
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import CheckpointContext, LogContext
from arkor_sync.handlers._shared.exceptions import log_exceptions
from arkor_sync.handlers._shared.state_per_run import StatePerRun
from arkor_sync.render.rows import Row, Rows, add_log, downsample

logger = get_logger("arkor_sync.handlers")
MAX_ROWS = 500  # few enough to be saved after every event


class Recording(NamedTuple):
    """The metrics and checkpoints of one job."""

    rows: Rows
    checkpoints: Dict[int, None]  # used as an ordered set of steps


class Recorder(Callback):
    """Base class that records the metrics and checkpoints of runs, also across a restart."""

    def __init__(self) -> None:
        self._recordings = StatePerRun(_from_json, _to_json)

    @log_exceptions
    def on_log(self, ctx: LogContext) -> None:
        """Record the metrics of a step."""
        rows = self._recordings.get_or_create(ctx).rows
        add_log(rows, ctx.event.data)
        if len(rows) > MAX_ROWS:
            fewer = downsample(rows, MAX_ROWS)
            rows.clear()
            rows.update(fewer)

    @log_exceptions
    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Record the step of a checkpoint."""
        checkpoints = self._recordings.get_or_create(ctx).checkpoints
        checkpoints[ctx.step] = None
        if len(checkpoints) > MAX_ROWS:
            del checkpoints[min(checkpoints)]

    def state_dict(self) -> Dict[str, Any]:
        """Return the recording of the run whose worker thread asks."""
        return self._recordings.state_dict()

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore the recording of an earlier process."""
        self._recordings.load_state_dict(state)


def _from_json(_: TrainingJob, saved: Any) -> Recording:
    rows, checkpoints = json.loads(saved or "[[], []]")
    known = {int(step): Row(*values) for step, values in rows}
    return Recording(known, dict.fromkeys(map(int, checkpoints)))


def _to_json(recording: Recording) -> str:
    # One text instead of nested lists: it is saved after every event, and a text is saved faster.
    return json.dumps([list(recording.rows.items()), list(recording.checkpoints)])
