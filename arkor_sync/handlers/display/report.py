"""An HTML report of a run, in one file that opens offline. Runs on the worker thread."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple, Union

from arkor_sync._common.files import write_atomically
from arkor_sync._common.html import escape, facts_html, table_html, tone_of
from arkor_sync._common.paths import file_name
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import EndContext
from arkor_sync.handlers._shared.exceptions import log_exceptions
from arkor_sync.handlers.display.recorder import Recorder
from arkor_sync.render.chart import PALETTES, Chart, render_svg
from arkor_sync.render.html import count_text, number_text, rows_table, summary
from arkor_sync.render.hyperparams import flatten_hyperparams
from arkor_sync.render.outcome import describe_outcome
from arkor_sync.render.rows import Row, Rows, collect_rows, downsample
from arkor_sync.result import TrainingResult
from arkor_sync.run import Run

Samples = Mapping[int, Union[str, Sequence[str]]]
PathLike = Union[str, "os.PathLike[str]"]

_MAX_ROWS = 1000  # rows of the table


class HtmlReport(Recorder):
    """Writes a report at the end of a run, whatever the outcome. The file needs no other files.

    It is written on the run's worker thread, before `wait()` returns; an older file is replaced as
    a whole. If it cannot be written, that is logged, and the run goes on. One object may serve
    several runs at a time if their files differ. With a cursor store, the report of a run that
    another process continues is complete.

    Args:
        path: The file; `{job_id}` in it is replaced by the job's id, as one component of the path
            whatever the id is. Its directory is made if it does not exist.
        samples: Answers of the checkpoints, by step: one text or several. They are read at the end
            of the run, so your own callback may add to them during the run.
    """

    def __init__(self, path: PathLike, *, samples: Optional[Samples] = None) -> None:
        super().__init__()
        self._path = os.fspath(path)
        self._samples = {} if samples is None else samples

    @log_exceptions
    def on_end(self, ctx: EndContext) -> None:
        """Write the report."""
        rows, checkpoints = self._recordings.get_or_create(ctx)
        self._recordings.remove(ctx)
        rows = collect_rows(ctx.run.history.logs, rows)
        steps = sorted({*checkpoints, *ctx.run.history.checkpoints})
        text = report_page(ctx.job, ctx.result, ctx.error, rows, steps, self._samples)
        path = Path(self._path.replace("{job_id}", file_name(ctx.job.id)))
        write_atomically(path, text, 0o644)


def write_report(run: Run, path: PathLike, *, samples: Optional[Samples] = None) -> None:
    """Write a report of a run from the run's history. Runs on the caller's thread.

    Args:
        run: A run that has ended; of one that goes on, the report shows the current state.
        path: The file. An older one is replaced as a whole; its directory is made if it does not
            exist.
        samples: Answers of the checkpoints, by step: one text or several.

    Raises:
        OSError: It could not be written; an older file stays as it is.
    """
    error: Optional[BaseException] = None
    if run.done():
        try:
            run.wait(0)
        except BaseException as raised:  # the report shows any exception that ended the run
            error = raised
    result = run.outcome if error is None else None
    rows, steps = collect_rows(run.history.logs), sorted(set(run.history.checkpoints))
    text = report_page(run.job, result, error, rows, steps, samples or {})
    write_atomically(Path(path), text, 0o644)


def report_page(
    job: TrainingJob,
    result: Optional[TrainingResult],
    error: Optional[BaseException],
    rows: Rows,
    checkpoints: Sequence[int],
    samples: Samples,
) -> str:
    """Return a report as an HTML page, which needs no other files. Any thread.

    Args:
        job: The job, as it is now.
        result: What `wait()` returns, or None.
        error: What `wait()` raises, or None.
        rows: The metrics by step.
        checkpoints: The steps of the checkpoints.
        samples: Answers of the checkpoints, by step: one text or several.
    """
    status, reason = describe_outcome(job, result, error)
    rows = dict(sorted(rows.items()))
    tone = tone_of(status, failed=error is not None)
    chart = Chart(job.name, status, rows, checkpoints)
    steps = sorted({*checkpoints, *samples})
    parts = [
        f"<h1>{escape(job.name)}</h1>",
        f'<p><span class="status {tone}">{escape(status)}</span> <code>{escape(job.id)}</code></p>',
        f'<p class="why">{escape(reason)}</p>' if reason else "",
        facts_html(summary(job, result, rows, checkpoints)),
        f"<h2>Loss</h2><figure>{render_svg(chart, heading=False)}</figure>",
        _checkpoints(steps, rows, samples),
        f"<h2>Configuration</h2>{table_html((), _settings(job.config), 'settings')}",
        _history(rows),
    ]
    return _PAGE.format(title=escape(job.name), style=_style(), body="\n".join(filter(None, parts)))


def _settings(config: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    for name, value in flatten_hyperparams(config).items():
        yield name, value if isinstance(value, str) else json.dumps(value)


def _checkpoints(steps: Sequence[int], rows: Rows, samples: Samples) -> str:
    if not steps:
        return ""
    items = []
    for step in steps:
        row, given = rows.get(step, Row()), samples.get(step, ())
        losses = [("loss", row.loss), ("eval loss", row.eval_loss)]
        values = "".join(
            f", {name} {number_text(value)}" for name, value in losses if value is not None
        )
        texts = [given] if isinstance(given, str) else given
        quotes = "".join(f"<blockquote>{escape(str(text))}</blockquote>" for text in texts)
        items.append(f"<li><b>Step {step}</b>{escape(values)}{quotes}</li>")
    return f"<h2>Checkpoints</h2><ul>{''.join(items)}</ul>"


def _history(rows: Rows) -> str:
    if not rows:
        return ""
    shown = downsample(rows, _MAX_ROWS)
    head = f"<summary><h2>History</h2> {count_text(shown, rows)}</summary>"
    return f"<details>{head}{rows_table(shown, rows)}</details>"


def _style() -> str:
    def variables(theme: str) -> str:
        extra = {"light": "--good:#1a7f37;--bad:#c62128", "dark": "--good:#57c46b;--bad:#ff7b72"}
        colors: Dict[str, str] = PALETTES[theme]
        return ":root{" + "".join(f"--{k}:{v};" for k, v in colors.items()) + extra[theme] + "}"

    dark = f"@media(prefers-color-scheme:dark){{{variables('dark')}}}"
    return f":root{{color-scheme:light dark}}{variables('light')}{dark}{_RULES}"


_RULES = """
body{margin:2rem auto;max-width:60rem;padding:0 1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .5rem}
h2{font-size:1.15rem;margin:2rem 0 .5rem}
code,blockquote{font-family:ui-monospace,monospace;font-size:.9rem}
code,dt,summary{color:var(--muted)}
.status{display:inline-block;padding:0 .6rem;border:1px solid;border-radius:1rem;font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}.other{color:var(--mark)}
.why{white-space:pre-wrap}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(12rem,45%),1fr));gap:1rem;
margin:1.5rem 0}
dt{font-size:.85rem}dd{margin:0}
figure{margin:0;overflow-x:auto}svg{width:100%;min-width:34rem;height:auto;display:block}
ul{padding-left:1.2rem}
blockquote{margin:.4rem 0 .8rem;padding:.5rem .8rem;border-left:3px solid var(--grid);
white-space:pre-wrap}
summary{cursor:pointer;margin-top:2rem}summary h2{display:inline;margin:0;color:var(--ink)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;margin-top:.5rem}
th,td{padding:.25rem 1.2rem .25rem 0;text-align:left;border-bottom:1px solid var(--grid);
vertical-align:top}
th{color:var(--muted);font-weight:500}
.settings td:first-child{color:var(--muted);white-space:nowrap}
.figures th,.figures td{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
