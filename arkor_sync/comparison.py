"""One metric of several runs, as a table and as a chart: `History.compare`. Any thread."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from arkor_sync._common.arguments import check
from arkor_sync._common.extras import import_extra
from arkor_sync._common.files import write_atomically
from arkor_sync.render.chart import Theme, check_theme
from arkor_sync.render.comparison import (
    MAX_LINES,
    ComparisonChart,
    Line,
    render_comparison_svg,
    render_table,
)
from arkor_sync.render.rows import rows_of
from arkor_sync.render.text import one_line

_COLUMNS = ("name", "steps", "last", "best", "best_step", "checkpoint")
_MAX_METRIC = 28  # columns of its name, which stands along the vertical axis


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison. What the run does not have is None.

    Attributes:
        name: The name that was given for it.
        steps: The last step that was logged.
        last: The last value of the metric.
        best: The best value of the metric.
        best_step: The step of the best value.
        checkpoint: The checkpoint nearest to that step; see `Best`.
        values: All values of the metric, with their steps.
    """

    name: str
    steps: Optional[int]
    last: Optional[float]
    best: Optional[float]
    best_step: Optional[int]
    checkpoint: Optional[int]
    values: Tuple[Tuple[int, float], ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One metric of several runs: `History.compare` makes it. It does not change any more.

    `print(comparison)` shows a table; a notebook shows the table and the chart. The chart has a
    line for each of up to 10 runs; of more than 10, it has the 10 with the best values, and says
    so. The table has all.

    Attributes:
        metric: The name of the metric.
        mode: `min` if the lowest value is the best, `max` if the highest is.
        runs: The runs, in the order in which they were given.
    """

    metric: str
    mode: str
    runs: Tuple[ComparedRun, ...]

    def __str__(self) -> str:
        return render_table(self._columns(), self._cells())

    def to_dicts(self) -> List[Dict[str, Any]]:
        """Return a row for each run: `name`, `steps`, `last`, `best`, `best_step`, `checkpoint`."""
        return [{name: getattr(run, name) for name in _COLUMNS} for run in self.runs]

    def svg(self, theme: Theme = "auto") -> str:
        """Draw the chart as an SVG document, which may also be a part of an HTML page.

        Args:
            theme: `light`, `dark`, or `auto`: the colours follow the system of the reader.

        Raises:
            ArkorUsageError: There is no such theme.
        """
        check_theme(theme)
        return render_comparison_svg(self._chart(), theme)

    def save(self, path: Union[str, os.PathLike[str]], theme: Theme = "auto") -> None:
        """Draw the chart to a file, which is replaced as a whole.

        Args:
            path: The file, ending in `.svg` or `.png`. Its directory is made if it does not exist.
                `.png` needs the extra `plot` (matplotlib).
            theme: As for `svg`; with `auto`, a PNG is light.

        Raises:
            ArkorUsageError: An argument cannot work, or matplotlib is missing.
            OSError: It could not be written; an older file is untouched.
        """
        suffix = Path(path).suffix
        fits = suffix in (".svg", ".png")
        check("path", os.fspath(path), fits, "a file name that ends in .svg or .png")
        check_theme(theme)
        if suffix == ".svg":
            picture: Union[str, bytes] = self.svg(theme)
        else:
            import_extra("matplotlib.figure", "plot", "Comparison.save with a .png")
            from arkor_sync.render.chart_png import render_comparison_png

            picture = render_comparison_png(self._chart(), theme)
        write_atomically(Path(path), picture, 0o644)

    def _repr_html_(self) -> str:
        """Return the table and the chart, for a notebook."""
        from arkor_sync.render.html import comparison_html  # only for notebooks

        return comparison_html(self._chart(), self._columns(), self._cells())

    def _columns(self) -> List[str]:
        return ["name", "steps", f"last {self.metric}", "best", "at step", "checkpoint"]

    def _cells(self) -> List[List[Union[str, float, None]]]:
        return [list(row.values()) for row in self.to_dicts()]

    def _chart(self) -> ComparisonChart:
        # What cannot be drawn, a run without the metric, is in the table only.
        bests = [
            (run.best, run.best_step, run)
            for run in self.runs
            if run.best is not None and run.best_step is not None
        ]
        metric = one_line(self.metric.replace("_", " "), _MAX_METRIC)
        title = f"{metric} of {len(bests)} {'run' if len(bests) == 1 else 'runs'}"
        note = f"the dot is the {'lowest' if self.mode == 'min' else 'highest'} value of a run"
        if len(bests) > MAX_LINES:
            title = f"{metric} of the {MAX_LINES} best of {len(bests)} runs"
            bests.sort(key=lambda best: best[0], reverse=self.mode == "max")
        lines = [
            # Of two values at one step, a row has the last: the dot stands at the best.
            Line(run.name, rows_of([*run.values, (step, best)]), step)
            for best, step, run in bests[:MAX_LINES]
        ]
        return ComparisonChart(title, metric, note, lines)
