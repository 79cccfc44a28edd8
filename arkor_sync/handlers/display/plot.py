"""Draws the loss chart to a file during the run. Runs on a thread of its own.

The callback methods run on the run's worker thread and only queue the data of a chart.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Union

from arkor_sync._common.arguments import check
from arkor_sync._common.extras import import_extra
from arkor_sync._common.files import write_atomically
from arkor_sync._common.paths import file_name, readable_name
from arkor_sync.contexts import EndContext
from arkor_sync.handlers.display.live_chart import LiveChart
from arkor_sync.render.chart import Chart, Theme, check_theme, render_svg
from arkor_sync.render.chart_png import render_png

_MAX_NAME = 60  # characters of a job's name in the name of a file


class LossPlot(LiveChart[Path]):
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
        theme: Theme = "auto",
        timeout: float = 10.0,
    ) -> None:
        super().__init__(every, timeout)
        self._path = os.fspath(path)
        self._theme = theme
        self._owners: Dict[Path, str] = {}  # the job that draws to a file
        fits = self._path.endswith((".svg", ".png"))
        check("path", self._path, fits, "a file name that ends in .svg or .png")
        check_theme(theme)
        if self._path.endswith(".png"):
            import_extra("matplotlib.figure", "plot", "LossPlot with a .png")

    def __getstate__(self) -> Dict[str, Any]:
        return {**super().__getstate__(), "_owners": {}}

    def on_end(self, ctx: EndContext) -> None:
        """Draw the last picture, and wait for it."""
        super().on_end(ctx)
        for path, owner in list(self._owners.items()):
            if owner == ctx.job.id:
                del self._owners[path]

    def _choose_place(self, chart: Chart, job_id: str) -> Path:
        """Return the file of a job. Two jobs at a time never have the same file."""
        text = self._path.replace("{name}", readable_name(chart.name[:_MAX_NAME]))
        path = Path(text.replace("{job_id}", file_name(job_id)))
        if self._owners.setdefault(path, job_id) != job_id:
            path = path.with_name(f"{path.stem}-{file_name(job_id)}{path.suffix}")
        return path

    def _show(self, place: Path, chart: Chart) -> None:
        """Write the picture."""
        render = render_svg if place.suffix == ".svg" else render_png
        write_atomically(place, render(chart, self._theme), 0o644)
