"""Shows the loss chart in the cell of a notebook during the run. Runs on a thread of its own.

The first picture is shown by the run's worker thread, which belongs to the cell that began to
follow the run. The notebook then finds it by its id, whichever thread replaces it.
"""

from __future__ import annotations

import uuid
from typing import Dict

from arkor_sync._common.extras import import_extra
from arkor_sync._common.notebook import notebook_shell
from arkor_sync.contexts import StartedContext
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.display.live_chart import LiveChart
from arkor_sync.render.chart import Chart
from arkor_sync.render.html import chart_html
from arkor_sync.render.text import one_line

_MAX_LINE = 200  # columns


class NotebookPlot(LiveChart[str]):
    """Shows train loss, eval loss and the checkpoints in the cell that follows the run.

    The chart appears when the job has started, and is replaced in its place as the run goes on. The
    last one has the status of the run, and is saved with the notebook. It follows the theme of the
    notebook, light or dark, and needs no JavaScript.

    The drawing runs on a thread of its own: the run waits for it only at the end, up to `timeout`.
    If a picture cannot be drawn, that is logged, and the run goes on.

    One object may serve several runs at a time: each has a chart of its own. With a cursor store,
    the curve of a run that another process continues is complete.

    It needs a Jupyter kernel (JupyterLab, Notebook, VS Code, Colab, `nbconvert --execute`). In a
    terminal use `ProgressBar`, for a file `LossPlot`.

    Args:
        every: The shortest time between two pictures of a run, in seconds.
        timeout: Seconds that the end of a run waits for its last picture.

    Raises:
        ArkorUsageError: This is no notebook, or an argument cannot work.
    """

    def __init__(self, *, every: float = 1.0, timeout: float = 10.0) -> None:
        super().__init__(every, timeout)
        import_extra("IPython.display", "notebook", "NotebookPlot")
        if notebook_shell() is None:
            raise ArkorUsageError(
                "NotebookPlot needs a notebook, and this process is no Jupyter kernel; in a "
                "terminal use ProgressBar(), for a file LossPlot('loss.svg')"
            )

    def on_started(self, ctx: StartedContext) -> None:
        """Show the chart, which is still empty unless another process began to follow the job."""
        self._draw(ctx, ctx.job.status)

    def _choose_place(self, chart: Chart, job_id: str) -> str:
        """Show the first picture."""
        display_id = f"arkor-{job_id}-{uuid.uuid4().hex}"
        self._try(_publish, display_id, chart)
        return display_id

    def _show(self, place: str, chart: Chart) -> None:
        """Replace the picture."""
        _publish(place, chart, update=True)


def _publish(display_id: str, chart: Chart, update: bool = False) -> None:
    display = import_extra("IPython.display", "notebook", "NotebookPlot").display
    step = f" at step {max(chart.rows)}" if chart.rows else ""
    plain = one_line(f"{chart.name}: {chart.status}{step}", _MAX_LINE)
    bundle: Dict[str, str] = {"text/html": chart_html(chart), "text/plain": plain}
    display(bundle, raw=True, display_id=display_id, update=update)
