"""A picture of the losses, drawn as the run goes on. Hooks on the worker, drawing on its own."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Union

from arkor_sync._common.files import write_atomically
from arkor_sync.contexts import CheckpointContext, Context, EndContext, LogContext
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.ending import cause, ending
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync.handlers._shared.safety import harmless, load, said
from arkor_sync.handlers.display.recorder import Recorder
from arkor_sync.history import History
from arkor_sync.render.chart import PALETTES, Chart, svg
from arkor_sync.render.chart_png import png
from arkor_sync.render.rows import rows_of

logger = logging.getLogger("arkor_sync.handlers")

_now = time.monotonic
_LONGEST_NAME = 60  # characters of a job's name in a file's name


class _Picture(NamedTuple):
    path: Path
    chart: Chart  # what was told until now, thinned out
    history: History  # all that this process was told


class LossPlot(Recorder):
    """Draws train and eval loss over the steps, with the checkpoints marked, to a file.

    The file is replaced as a whole while the run goes on, and once more at its end. Drawing has a
    thread of its own: the run waits for it only at the end, up to `timeout`. A picture that cannot
    be drawn or written is logged, and never fails the run.

    One object may serve several runs at a time: see `path`. With a cursor store a run that another
    process carries on keeps its curve.

    Args:
        path: Where to, ending in `.svg` or `.png`; `{job_id}` and `{name}` in it stand for the
            job's. Its directory is made on demand. `.png` needs the extra `plot` (matplotlib).
        every: Seconds between two pictures of a run, at least.
        theme: `light`, `dark`, or `auto`: an SVG then follows its reader's system, a PNG is light.
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
        # Without a lock: one that another thread holds during a fork is never let go in the child.
        self._paths: Dict[str, Path] = {}  # by job
        self._owners: Dict[Path, str] = {}
        self._drawn: Dict[str, float] = {}  # by job, when last
        self._failing = False
        self._outbox: Outbox[_Picture] = Outbox("LossPlot", self._deliver, limit=256, batch=256)
        if not self._path.endswith((".svg", ".png")):
            raise ArkorUsageError(f"path must end in .svg or .png: {self._path!r}")
        if theme not in ("auto", *PALETTES):
            raise ArkorUsageError(f"theme must be 'light', 'dark' or 'auto', not {theme!r}")
        if self._path.endswith(".png"):
            load("matplotlib.figure", "plot", "LossPlot with a .png")

    def on_log(self, ctx: LogContext) -> None:
        """Take in the metrics of a step."""
        super().on_log(ctx)
        self._draw(ctx, ctx.job.status)

    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Take in a checkpoint."""
        super().on_checkpoint(ctx)
        self._draw(ctx, ctx.job.status)

    @harmless
    def on_end(self, ctx: EndContext) -> None:
        """Draw the last picture, and wait for it."""
        self._drawn.pop(ctx.job.id, None)  # the last picture is not too early
        word, why = ending(ctx.job, ctx.result, ctx.error)
        status = ": ".join(filter(None, [word, cause(why)]))
        self._draw(ctx, status, last=True)
        self._outbox.flush(self._timeout)
        path = self._paths.pop(ctx.job.id, None)
        if path is not None and self._owners.get(path) == ctx.job.id:
            del self._owners[path]
        self._drawn.pop(ctx.job.id, None)
        self._memories.drop(ctx)

    @harmless
    def _draw(self, ctx: Context, status: str, last: bool = False) -> None:
        now, job = _now(), ctx.job
        if now - self._drawn.get(job.id, float("-inf")) < self._every:
            return
        self._drawn[job.id] = now
        rows, checkpoints = self._memories.of(ctx)
        chart = Chart(job.name, status, dict(rows), sorted(checkpoints))
        picture = _Picture(self._path_of(job.id, job.name), chart, ctx.run.history)
        self._outbox.put(picture, droppable=not last)

    def _path_of(self, job_id: str, name: str) -> Path:
        """Return where a job is drawn to: no two at a time to the same file."""
        if job_id not in self._paths:
            short = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
            text = self._path.replace("{name}", short[:_LONGEST_NAME].lstrip("."))
            path = Path(text.replace("{job_id}", job_id))
            if self._owners.setdefault(path, job_id) != job_id:
                path = path.with_name(f"{path.stem}-{job_id}{path.suffix}")
            self._paths[job_id] = path
        return self._paths[job_id]

    def _deliver(self, pictures: List[_Picture]) -> None:
        """Draw the newest of each file. It runs on the outbox's thread."""
        for picture in {picture.path: picture for picture in pictures}.values():
            path, chart, history = picture
            chart = dataclasses.replace(chart, rows=rows_of(history.logs, chart.rows))
            try:
                draw = svg if path.suffix == ".svg" else png
                write_atomically(path, draw(chart, self._theme), 0o644, durable=False)
            except Exception as error:
                if not self._failing:  # once, and not at every picture
                    logger.warning("LossPlot: %s could not be drawn: %s", path, said(error))
                self._failing = True
            else:
                self._failing = False
