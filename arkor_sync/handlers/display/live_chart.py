"""Draws the loss chart of a run again and again. Runs on a thread of its own.

The callback methods run on the run's worker thread and only queue the data of a chart.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, Generic, Hashable, List, NamedTuple, TypeVar

from arkor_sync._common.arguments import check, is_seconds
from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger
from arkor_sync.contexts import CheckpointContext, Context, EndContext, LogContext
from arkor_sync.handlers._shared.exceptions import describe_error, log_exceptions
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync.handlers.display.recorder import Recorder
from arkor_sync.history import History
from arkor_sync.render.chart import Chart
from arkor_sync.render.outcome import describe_outcome, shorten_reason
from arkor_sync.render.rows import collect_rows

logger = get_logger("arkor_sync.handlers")

Place = TypeVar("Place", bound=Hashable)
_now = Clock.now


class _Picture(NamedTuple):
    place: Any
    chart: Chart  # the recording until now, downsampled
    history: History  # all events that this process got


class LiveChart(Recorder, Generic[Place]):
    """Base class that draws the chart of each run, at times during the run and once at its end.

    The drawing runs on a thread of its own: the run waits for it only at the end. If a picture
    cannot be drawn, that is logged, and the run goes on.

    Args:
        every: The shortest time between two pictures of a run, in seconds.
        timeout: Seconds that the end of a run waits for its last picture.
    """

    def __init__(self, every: float, timeout: float) -> None:
        for argument, value in (("every", every), ("timeout", timeout)):
            check(argument, value, is_seconds(value), "a number of seconds, at least 0")
        super().__init__()
        self._every = every
        self._timeout = timeout
        # No lock guards these: if another thread held it during a fork, the child would find it
        # locked for ever.
        self._places: Dict[str, Place] = {}  # by job
        self._drawn: Dict[str, float] = {}  # by job: the time of the last picture
        self._failing = False
        name = type(self).__name__
        self._outbox: Outbox[_Picture] = Outbox(
            name,
            self._deliver,
            limit=256,
            batch=256,
            describe=_describe,
            busy="still being drawn",
        )

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_places": {}, "_drawn": {}}  # a pickled copy draws no run

    def on_log(self, ctx: LogContext) -> None:
        """Record the metrics of a step, and draw."""
        super().on_log(ctx)
        self._draw(ctx, ctx.job.status)

    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Record a checkpoint, and draw."""
        super().on_checkpoint(ctx)
        self._draw(ctx, ctx.job.status)

    @log_exceptions
    def on_end(self, ctx: EndContext) -> None:
        """Draw the last picture, and wait for it."""
        self._drawn.pop(ctx.job.id, None)  # so that the last picture is drawn in any case
        status, reason = describe_outcome(ctx.job, ctx.result, ctx.error)
        heading = ": ".join(filter(None, [status, shorten_reason(reason)]))
        self._draw(ctx, heading, last=True)
        self._outbox.flush(self._timeout)
        self._places.pop(ctx.job.id, None)
        self._drawn.pop(ctx.job.id, None)
        self._recordings.remove(ctx)

    @log_exceptions
    def _draw(self, ctx: Context, status: str, last: bool = False) -> None:
        now, job = _now(), ctx.job
        if now - self._drawn.get(job.id, float("-inf")) < self._every:
            return
        self._drawn[job.id] = now
        rows, checkpoints = self._recordings.get_or_create(ctx)
        chart = Chart(job.name, status, dict(rows), sorted(checkpoints))
        if job.id not in self._places:
            self._places[job.id] = self._choose_place(chart, job.id)
        picture = _Picture(self._places[job.id], chart, ctx.run.history)
        self._outbox.put(picture, droppable=not last)

    def _deliver(self, pictures: List[_Picture]) -> None:
        """Draw the newest picture of each place. Runs on the outbox's thread."""
        for picture in {picture.place: picture for picture in pictures}.values():
            place, chart, history = picture
            chart = dataclasses.replace(chart, rows=collect_rows(history.logs, chart.rows))
            self._try(self._show, place, chart)

    def _try(self, show: Callable[[Place, Chart], None], place: Place, chart: Chart) -> None:
        """Show a picture. If that fails, log it once, and not for every picture."""
        try:
            show(place, chart)
        except Exception as error:
            if not self._failing:
                name = type(self).__name__
                logger.warning("%s: %s could not be drawn: %s", name, place, describe_error(error))
            self._failing = True
        else:
            self._failing = False

    def _choose_place(self, chart: Chart, job_id: str) -> Place:
        """Return where the pictures of a job are shown. Runs once, on the worker thread."""
        raise NotImplementedError

    def _show(self, place: Place, chart: Chart) -> None:
        """Show a picture in its place. Runs on the outbox's thread."""
        raise NotImplementedError


def _describe(pictures: List[_Picture]) -> str:
    return ", ".join(dict.fromkeys(str(picture.place) for picture in pictures))
