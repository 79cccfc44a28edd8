"""`report`: a job as a page, a picture or a table. Runs on the caller's thread."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from arkor_sync._common.text import safe_text
from arkor_sync.cli.client import find_job, make_client
from arkor_sync.cli.command import command
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import root

if TYPE_CHECKING:
    from arkor_sync.cli.job_history import JobHistory

_FORMATS = ("html", "svg", "csv")
_STANDARD_OUTPUT = "-"
_LONGEST_NAME = 60  # characters of a job's name in the name of a file


@command(
    root,
    "report",
    examples="""
        arkor-sync report support-bot
        arkor-sync report support-bot --output loss.svg
        arkor-sync report support-bot --format csv --output - | cut -d, -f2,3
    """,
)
@click.argument("job")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    help="html: a page that opens offline; svg: the loss curve; csv: a row for each log. By "
    "default what the name after --output ends with, else html.",
)
@click.option(
    "--output",
    "target",
    metavar="FILE",
    help="Where to write it; a file that is there is replaced. `-` is standard output. By default "
    "a new file here with the job's name.",
)
def report(output: Output, job: str, form: Optional[str], target: Optional[str]) -> None:
    """Write a report of a job, by its id or its name.

    Of a job that has not ended it shows what has come until now.
    """
    from arkor_sync._common.files import write_atomically
    from arkor_sync._common.paths import readable_name
    from arkor_sync.cli.job_history import read_history

    if target == _STANDARD_OUTPUT and output.as_json:
        raise click.UsageError("--json tells which file was written; give --output FILE with it")
    if target is not None and target != _STANDARD_OUTPUT:
        form = _format_of(Path(target), form)
    form = form or "html"
    client = make_client()
    found = find_job(client, job, output)
    path = Path(target or f"{readable_name(found.name[:_LONGEST_NAME])}.{form}")
    if target is None and os.path.lexists(path):
        raise click.UsageError(f"{path} is there already; give --output {path} to replace it")
    history = read_history(client, found, output)
    document = safe_text(_document(history, form))
    if target == _STANDARD_OUTPUT:
        output.write(document)
        return
    write_atomically(path, document, 0o644)
    written = {"id": found.id, "format": form, "path": str(path)}
    if output.as_json:
        output.json(written)
    else:
        output.line(path)


def _format_of(path: Path, form: Optional[str]) -> str:
    """Return the format of a file; refuse a name that ends as another kind of file does."""
    if not path.parent.is_dir():
        raise click.UsageError(f"--output: {path.parent} is no directory; make it first")
    ending = path.suffix.lstrip(".").lower()
    if ending in _FORMATS and form not in (None, ending):
        raise click.UsageError(f"--output: {path} ends with .{ending}, but --format is {form}")
    if ending and ending not in _FORMATS and form is None:
        raise click.UsageError(
            f"--output: {path} ends with .{ending}; a report is .html, .svg or .csv. "
            "Give --format with another ending"
        )
    return form or ending or "html"


def _document(told: JobHistory, form: str) -> str:
    from arkor_sync.handlers.display.report import report_page
    from arkor_sync.render.chart import Chart, render_svg
    from arkor_sync.render.outcome import describe_outcome
    from arkor_sync.render.rows import collect_rows

    if form == "csv":
        return told.history.csv_text()
    rows, checkpoints = collect_rows(told.history.logs), sorted(set(told.history.checkpoints))
    if form == "html":
        return report_page(told.job, told.result, None, rows, checkpoints, {})
    status = describe_outcome(told.job, told.result, None)[0]
    return render_svg(Chart(told.job.name, status, rows, checkpoints))
