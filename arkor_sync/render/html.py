"""A run as HTML: its facts, its curve and its rows; a comparison of several. Pure.

All of it is one small piece of HTML that needs nothing else, for the output of a notebook's cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from arkor_sync._common.html import card_html, table_html
from arkor_sync._common.text import counted
from arkor_sync.render.chart import PALETTES, Chart, render_svg
from arkor_sync.render.comparison import (
    Cell,
    ComparisonChart,
    cell_text,
    line_palette,
    render_comparison_svg,
)
from arkor_sync.render.outcome import Outcome, describe_outcome
from arkor_sync.render.rows import Row, Rows, collect_rows, downsample
from arkor_sync.render.text import format_duration, format_number, seconds_between

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob

Logs = Iterable[Mapping[str, Any]]

_MAX_ROWS = 200  # rows of the table in a notebook


def run_html(
    job: TrainingJob,
    result: Optional[Outcome],
    error: Optional[BaseException] = None,
    logs: Optional[Logs] = None,
    checkpoints: Sequence[int] = (),
) -> str:
    """Return a run, or its result.

    Args:
        job: The job.
        result: What `wait()` returns, or None.
        error: What `wait()` raises, or None.
        logs: The fields of its logs, as the history has them; None if they are not known. There
            is a curve only with them.
        checkpoints: The steps of the checkpoints.
    """
    status, reason = describe_outcome(job, result, error)
    rows = collect_rows(logs or ())
    facts = summary(job, result, rows, checkpoints)
    if logs is None:
        facts = [fact for fact in facts if fact[0] != "Checkpoints"]
    if result is not None and result.artifacts:
        facts.append(("Artifacts", str(len(result.artifacts))))
    more = ""
    if logs is not None:
        more = chart_html(Chart(job.name, status, rows, checkpoints), heading=False)
    failed = error is not None
    return card_html(
        job.name, facts, status=status, failed=failed, id=job.id, reason=reason, more=more
    )


def history_html(logs: Logs, checkpoints: Sequence[int]) -> str:
    """Return the curve of a history, and its rows in a table that can be opened."""
    rows = collect_rows(logs)
    counts = [("Steps", str(len(rows))), ("Checkpoints", str(len(checkpoints)))]
    chart = chart_html(Chart("History", "", rows, checkpoints), heading=False)
    table = ""
    if rows:
        shown = downsample(rows, _MAX_ROWS)
        table = (
            f"<details><summary>{count_text(shown, rows)}</summary>"
            f"{rows_table(shown, rows)}</details>"
        )
    return card_html("History", counts, more=chart + table)


def chart_html(chart: Chart, heading: bool = True) -> str:
    """Return a chart that follows the theme of the notebook, or else that of the system."""
    return _live(render_svg(chart, "light", heading), PALETTES)


def comparison_html(
    chart: ComparisonChart, columns: Sequence[str], rows: Iterable[Sequence[Cell]]
) -> str:
    """Return a comparison: its table, and below it its chart, in the theme of `chart_html`."""
    head, body = map(cell_text, columns), (list(map(cell_text, row)) for row in rows)
    table = table_html(list(head), body, "figures")
    palettes = {theme: line_palette(theme) for theme in PALETTES}
    drawing = _live(render_comparison_svg(chart, "light"), palettes)
    return f'<div class="arkor-card">{table}{drawing}</div>'


def summary(
    job: TrainingJob, result: Optional[Outcome], rows: Rows, checkpoints: Sequence[int]
) -> List[Tuple[str, Optional[str]]]:
    """Return the facts of a run; see `run_html` for the arguments. One that is unknown is None."""
    rows = dict(sorted(rows.items()))
    final = total = None
    if result is not None:
        final, total = result.metrics.final_loss, result.metrics.total_steps
    losses = [row.loss for row in rows.values() if row.loss is not None]
    if final is None and losses:
        final = losses[-1]
    if total is None:
        total = max(rows, default=None)
    evaluated = [(row.eval_loss, step) for step, row in rows.items() if row.eval_loss is not None]
    best = min(evaluated, default=None)
    queued = seconds_between(job.created_at, job.started_at)
    trained = seconds_between(job.started_at, job.completed_at)
    return [
        (f"{'Final' if job.status == 'completed' else 'Last'} train loss", number_text(final)),
        ("Best eval loss", best and f"{format_number(best[0])} at step {best[1]}"),
        ("Steps", None if total is None else str(total)),
        ("Checkpoints", str(len(checkpoints))),
        ("Trained for", None if trained is None else format_duration(trained)),
        ("Queued for", None if queued is None else format_duration(queued)),
        *zip(("Created", "Started", "Ended"), (job.created_at, job.started_at, job.completed_at)),
    ]


def rows_table(shown: Rows, rows: Rows) -> str:
    """Return rows as a table.

    Args:
        shown: The rows of the table.
        rows: All rows: a metric that none of them has gets no column.
    """
    columns = [
        i for i in range(len(Row._fields)) if any(row[i] is not None for row in rows.values())
    ]
    head = ["step", *(Row._fields[i].replace("_", " ") for i in columns)]
    body = ([str(step), *(number_text(row[i]) for i in columns)] for step, row in shown.items())
    return table_html(head, body, "figures")


def count_text(shown: Rows, rows: Rows) -> str:
    """Say how many rows are shown: `12 steps`, or `200 of 1000 steps`."""
    count = counted(len(rows), "step")
    return f"{len(shown)} of {count}" if len(shown) < len(rows) else count


def number_text(value: Optional[float]) -> str:
    """Format a metric; the text of None is empty."""
    return "" if value is None else format_number(value)


def _live(drawing: str, palettes: Mapping[str, Mapping[str, str]]) -> str:
    """Return a light drawing with the style that has it follow the theme."""
    style = "".join(_style(palettes))
    return f'<div class="arkor-live"><style>{style}</style>{drawing.rstrip()}</div>'


def _style(palettes: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Give the rules of a chart and a table; without a known theme those of the system apply."""
    colors = {
        theme: "".join(f"--arkor-{role}:{color};" for role, color in palette.items())
        for theme, palette in palettes.items()
    }
    yield f".arkor-live{{{colors['light']}overflow-x:auto}}"
    yield f"@media(prefers-color-scheme:dark){{.arkor-live{{{colors['dark']}}}}}"
    # JupyterLab and Notebook 7, VS Code, Colab.
    for theme, themes in (
        ("light", "[data-jp-theme-light=true],.vscode-light,[theme=light]"),
        ("dark", "[data-jp-theme-light=false],.vscode-dark,[theme=dark]"),
    ):
        yield f":is({themes}) .arkor-live{{{colors[theme]}}}"
    yield ".arkor-live svg{display:block;width:860px;max-width:100%;min-width:34em;height:auto}"
    for role in palettes["light"]:
        yield f".arkor-live .{role}{{color:var(--arkor-{role})}}"
    yield ".arkor-card summary{cursor:pointer;margin:.6em 0}"
    yield ".arkor-card .wide{overflow:auto;max-height:24em}"
    yield ".arkor-card table{border-collapse:collapse;font-size:.9em;margin:0}"
    yield (
        ".arkor-card th,.arkor-card td{padding:.2em 1.2em .2em 0;text-align:right;"
        "white-space:nowrap;font-variant-numeric:tabular-nums}"
    )
    yield ".arkor-card th{font-weight:400;opacity:.75}"
