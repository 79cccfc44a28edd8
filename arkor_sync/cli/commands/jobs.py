"""`jobs list`, `show`, `cancel` and `compare`. Runs on the caller's thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Optional, Tuple

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.client import find_job, make_client
from arkor_sync.cli.command import command
from arkor_sync.cli.exit_codes import ExitCode
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import jobs

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob

_SORTS = ("created", "started", "completed", "name", "status")


@command(
    jobs,
    "list",
    examples="""
        arkor-sync jobs list
        arkor-sync jobs list --status running --status queued --watch
        arkor-sync jobs list --name support-bot --limit 1 --json
    """,
)
@click.option("--status", multiple=True, help="Only jobs with this status; may be repeated.")
@click.option("--name", help="Only jobs with exactly this name.")
@click.option(
    "--sort",
    type=click.Choice(_SORTS),
    default="created",
    show_default=True,
    help="The order: of times, the newest first.",
)
@click.option("--limit", type=click.IntRange(1), help="At most so many jobs.")
@click.option(
    "--watch",
    is_flag=True,
    help="Show the list again and again until Ctrl-C. Where no terminal reads it, print each job "
    "again when its status changes.",
)
def list_jobs(
    output: Output,
    status: Tuple[str, ...],
    name: Optional[str],
    sort: str,
    limit: Optional[int],
    watch: bool,
) -> None:
    """List the jobs of the project."""
    from arkor_sync.cli.watch import show_jobs, watch_jobs
    from arkor_sync.render.job_facts import job_json

    client = make_client()

    def read() -> List[TrainingJob]:
        found = client.jobs.list(status=status or None, name=name)
        return sorted_jobs(found, sort)[:limit]

    if watch:
        watch_jobs(read, output)
        return
    found = read()
    if output.as_json:
        output.json([job_json(job) for job in found])
    else:
        show_jobs(found, output)
    if not found and (status or name is not None):
        output.note("there are no such jobs in this project")
    elif not found:
        output.note("no jobs yet: `arkor-sync start` submits one")


def sorted_jobs(found: List[TrainingJob], sort: str) -> List[TrainingJob]:
    """Return jobs in an order of `--sort`; those that are equal in it, the newest first."""
    from arkor_sync.render.text import parse_timestamp

    def age(job: TrainingJob, field: str) -> float:
        return -(parse_timestamp(getattr(job, f"{field}_at")) or 0.0)

    newest = sorted(found, key=lambda job: age(job, "created"))
    if sort in ("name", "status"):
        return sorted(newest, key=lambda job: str(getattr(job, sort)))
    return sorted(newest, key=lambda job: age(job, sort))


@command(
    jobs,
    "show",
    examples="""
        arkor-sync jobs show support-bot
        arkor-sync jobs show 7d7e9f0c-5b8c-4b3e-9b52-9e8f1c5c2a10 --json
    """,
)
@click.argument("job")
def show(output: Output, job: str) -> None:
    """Show one job, by its id or its name: status, times, error, configuration.

    Secrets of the configuration, such as the token of a data set, are not shown.
    """
    from arkor_sync.render.job_facts import job_facts, job_json

    found = find_job(make_client(), job, output)
    output.facts(job_json(found) if output.as_json else job_facts(found))


@command(
    jobs,
    "cancel",
    examples="""
        arkor-sync jobs cancel support-bot
        arkor-sync jobs cancel 7d7e9f0c-5b8c-4b3e-9b52-9e8f1c5c2a10 support-bot-2 --yes
    """,
)
@click.argument("job", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
def cancel(output: Output, job: Tuple[str, ...], yes: bool) -> Optional[ExitCode]:
    """Cancel jobs, by their ids or names. What they have trained until then stays.

    The exit code is 1 if a job has completed or failed before. A job that is cancelled already is
    fine.
    """
    client = make_client()
    found = {each.id: each for each in (find_job(client, name, output, only=True) for name in job)}
    running = [each for each in found.values() if not each.is_terminal]
    if running and not yes and not _agrees(running):
        output.note("nothing was cancelled")
        return ExitCode.FAILED
    rows = [_cancel(client, each) for each in found.values()]
    errors = [row.pop("exception") for row in rows]
    if output.as_json:
        output.json(rows)
    else:
        for row in rows:
            output.line(f"{_label(row['name'], row['id'])}: {safe_line(row['message'])}")
    for error in filter(None, errors):
        raise error
    done = all(row["requested"] or row["status"] == "cancelled" for row in rows)
    return None if done else ExitCode.FAILED


def _agrees(running: List[TrainingJob]) -> bool:
    """Ask whether to cancel jobs."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError("there is no terminal to ask in; give --yes")
    names = ", ".join(_label(each.name, each.id) for each in running)
    return click.confirm(f"Cancel {names}?", err=True)


def _label(name: str, job_id: str) -> str:
    return f"{safe_line(name)} ({safe_line(job_id)})"


def _cancel(client: Any, job: TrainingJob) -> Dict[str, Any]:
    """Cancel one job, and return what came of it. An error is in it: the others are to be tried."""
    from arkor_sync.errors import ArkorError, ConflictError

    requested, error = False, None
    try:
        if not job.is_terminal:
            try:
                changed = client.jobs.cancel(job.id)
                requested = True
            except ConflictError:  # it has ended in the meantime
                changed = None
            job = changed or client.jobs.get(job.id)
    except ArkorError as raised:
        error = raised
    if error is not None and not requested:
        message = "it could not be cancelled"
    elif requested:
        message = "cancelled" if job.is_terminal else "the cloud was asked to cancel it"
    else:
        message = f"it is {job.status} already" if job.is_terminal else "it cannot be cancelled now"
    return {
        "id": job.id,
        "name": job.name,
        "status": job.status,
        "requested": requested,
        "message": message,
        "exception": error,
    }


@command(
    jobs,
    "compare",
    examples="""
        arkor-sync jobs compare support-bot-1 support-bot-2
        arkor-sync jobs compare support-bot-1 support-bot-2 --metric eval_loss --json
    """,
)
@click.argument("job", nargs=-1, required=True)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="A metric to compare, may be repeated. Default: `loss`, and `eval_loss` if there is one.",
)
@click.option(
    "--mode",
    type=click.Choice(("min", "max")),
    default="min",
    show_default=True,
    help="Whether the lowest or the highest value of a metric is the best.",
)
def compare(
    output: Output, job: Tuple[str, ...], metrics: Tuple[str, ...], mode: Literal["min", "max"]
) -> None:
    """Compare jobs, by their ids or names: how they ended, and which settings differ.

    A column for each job. Where no terminal reads it, a line for each value, in the order of the
    arguments.
    """
    from arkor_sync.cli.compare import TITLE, compare_jobs
    from arkor_sync.cli.job_history import read_history

    client = make_client()
    found = {each.id: each for each in (find_job(client, name, output) for name in job)}
    if len(found) < 2:
        raise click.UsageError("give at least two jobs that are not the same")
    histories = [read_history(client, each, output) for each in found.values()]
    compared = compare_jobs(histories, metrics, mode)
    if output.as_json:
        output.json(compared.to_json())
    else:
        output.table(compared.rows(), [TITLE, *compared.names])
