"""Draws the loss chart to a file during the run. Runs on a thread of its own.

The callback methods run on the run's worker thread and only queue the data of a chart.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Union

from arkor_sync._common.arguments import check
from arkor_sync._common.clock import Clock
from arkor_sync._common.extras import import_extra
from arkor_sync._common.files import write_atomically
from arkor_sync._common.log import get_logger
from arkor_sync._common.paths import file_name, readable_name
from arkor_sync.contexts import CheckpointContext, Context, EndContext, LogContext
from arkor_sync.handlers._shared.exceptions import describe_error, log_exceptions
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync.handlers._shared.outcome import describe_outcome, shorten_reason
from arkor_sync.handlers.display.recorder import Recorder
from arkor_sync.history import History
from arkor_sync.render.chart import PALETTES, Chart, render_svg
from arkor_sync.render.chart_png import render_png
from arkor_sync.render.rows import collect_rows

logger = get_logger("arkor_sync.handlers")

_now = Clock.now
_MAX_NAME = 60  # characters of a job's name in the name of a file


class _Picture(NamedTuple):
    path: Path
    chart: Chart  # the recording until now, downsampled
    history: History  # all events that this process got


class LossPlot(Recorder):
    """Draws train loss, eval loss and the checkpoints over the steps, to a file.

    The file is replaced as a whole, now and then during the run and once at its end. The drawing
    runs on a thread of its own: the run waits for it only at the end, up to `timeout`. If a picture
    cannot be drawn or written, that is logged, and the run goes on.

    One object may serve several runs at a time: see `path`. With a cursor store, the curve of a run
    that another process continues is complete.

    Args:
        path: The file, ending in `.svg` or `.png`; `{job_id}` and `{name}` in it are replaced by
            the job's id and name, each as one component of the path. Its directory is made if it
            does not exist. `.png` needs the extra `plot` (matplotlib).
        every: The shortest time between two pictures of a run, in seconds.
        theme: `light`, `dark`, or `auto`: an SVG then follows the system of its reader, and a PNG
            is light.
        timeout: Seconds that the end of a run waits for its last picture.

    Raises:
        ArkorUsageError: An argument that cannot work, or matplotlib is missing.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        *,
        every: float = 10.0,
        theme: str = "auto",
        timeout: float = 10.0,
    ) -> None:
        super().__init__()
        self._path = os.fspath(path)
        self._every = every
        self._theme = theme
        self._timeout = timeout
        # No lock guards these: if another thread held it during a fork, the child would find it
        # locked for ever.
        self._paths: Dict[str, Path] = {}  # by job
        self._owners: Dict[Path, str] = {}  # the job that draws to a file
        self._drawn: Dict[str, float] = {}  # by job: the time of the last picture
        self._failing = False
        self._outbox: Outbox[_Picture] = Outbox(
            "LossPlot",
            self._deliver,
            limit=256,
            batch=256,
            describe=_describe,
            busy="still being drawn",
        )
        fits = self._path.endswith((".svg", ".png"))
        check("path", self._path, fits, "a file name that ends in .svg or .png")
        check("theme", theme, theme in ("auto", *PALETTES), "'light', 'dark' or 'auto'")
        if self._path.endswith(".png"):
            import_extra("matplotlib.figure", "plot", "LossPlot with a .png")

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_paths": {}, "_owners": {}, "_drawn": {}}  # it draws no run

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
        path = self._paths.pop(ctx.job.id, None)
        if path is not None and self._owners.get(path) == ctx.job.id:
            del self._owners[path]
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
        picture = _Picture(self._path_of(job.id, job.name), chart, ctx.run.history)
        self._outbox.put(picture, droppable=not last)

    def _path_of(self, job_id: str, name: str) -> Path:
        """Return the file of a job. Two jobs at a time never have the same file."""
        if job_id not in self._paths:
            text = self._path.replace("{name}", readable_name(name[:_MAX_NAME]))
            path = Path(text.replace("{job_id}", file_name(job_id)))
            if self._owners.setdefault(path, job_id) != job_id:
                path = path.with_name(f"{path.stem}-{file_name(job_id)}{path.suffix}")
            self._paths[job_id] = path
        return self._paths[job_id]

    def _deliver(self, pictures: List[_Picture]) -> None:
        """Draw the newest picture of each file. Runs on the outbox's thread."""
        for picture in {picture.path: picture for picture in pictures}.values():
            path, chart, history = picture
            chart = dataclasses.replace(chart, rows=collect_rows(history.logs, chart.rows))
            try:
                render = render_svg if path.suffix == ".svg" else render_png
                write_atomically(path, render(chart, self._theme), 0o644)
            except Exception as error:
                if not self._failing:  # log it once, and not for every picture
                    logger.warning(
                        "LossPlot: %s could not be drawn: %s", path, describe_error(error)
                    )
                self._failing = True
            else:
                self._failing = False


def _describe(pictures: List[_Picture]) -> str:
    return ", ".join(dict.fromkeys(str(picture.path) for picture in pictures))
