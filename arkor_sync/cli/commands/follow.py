"""`jobs follow` and `jobs logs`: what happens in a job. Runs on the caller's thread."""

from __future__ import annotations

from typing import Any, Optional

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.client import find_job, make_client
from arkor_sync.cli.command import command
from arkor_sync.cli.exit_codes import ExitCode
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import jobs

_ATTEMPTS = 5  # in a row, to read what was stored

_timeout = click.option(
    "--timeout", type=float, metavar="SECONDS", help="Leave after so long; exit code 5."
)


@command(
    jobs,
    "follow",
    examples="""
arkor-sync jobs follow 4f1c2c0e-9a53-4c39-8f0e-0d6a1f3f1f7a
arkor-sync jobs follow support-bot --timeout 3600
arkor-sync jobs follow support-bot --json > run.jsonl
""",
)
@click.argument("job")
@_timeout
def follow(output: Output, job: str, timeout: Optional[float]) -> ExitCode:
    """Follow a job to its end: its id, or its name.

    It shows the progress; nothing is saved, and no callback of yours is called. A broken connection
    is opened again, and every event comes once. The exit code is that of `arkor-sync start`: 0 only
    if the job has completed.

    With --json each event is a line of a recording, which `arkor-sync emulator` can play.
    """
    from arkor_sync.cli import following
    from arkor_sync.cli.event_lines import EventLines
    from arkor_sync.cli.progress import Progress

    deadline = following.deadline_after(timeout)
    progress, lines = Progress(), EventLines(output) if output.as_json else None
    with progress.shown():
        run = _attach(output, job, lines or progress.callback)
        with following.noted_interrupts() as pressed:
            following.tell(f"following job {run.job.id} ({safe_line(run.job.name)})", output)
            result = following.wait_for_end(run, deadline, pressed, progress=progress, lines=lines)
    assert result is not None
    return following.tell_end(result, output)


@command(
    jobs,
    "logs",
    examples="""
arkor-sync jobs logs support-bot
arkor-sync jobs logs support-bot --follow | grep loss
arkor-sync jobs logs support-bot --json > run.jsonl
""",
)
@click.argument("job")
@click.option("-f", "--follow", "follows", is_flag=True, help="Wait for what comes, to the end.")
@_timeout
def logs(output: Output, job: str, follows: bool, timeout: Optional[float]) -> Optional[ExitCode]:
    """Print the events of a job so far, one a line, and end with 0.

    If the job still runs, they end where the cloud has brought nothing new for two seconds: no
    event marks the end of what is stored. --follow waits for all, and ends as `jobs follow` does.

    With --json each event is a line of a recording, which `arkor-sync emulator` can play.
    """
    from arkor_sync.cli import following
    from arkor_sync.cli.event_lines import EventLines
    from arkor_sync.cli.job_history import Quiet
    from arkor_sync.stream.reconnect import ReconnectPolicy

    deadline = following.deadline_after(timeout)
    lines = EventLines(output)
    options = {} if follows else {"reconnect": ReconnectPolicy(max_attempts=_ATTEMPTS)}
    run = _attach(output, job, lines, **options)
    until = (lambda: False) if follows else Quiet(run)
    with following.noted_interrupts() as pressed:
        result = following.wait_for_end(run, deadline, pressed, lines=lines, until=until)
    if follows:
        assert result is not None
        return following.exit_code(result)
    if result is None:
        run.abort("these were its events so far")
        run.close()
    return None


def _attach(output: Output, job: str, callback: Any, **options: Any) -> Any:
    from arkor_sync._follow import follow

    client = make_client()
    return follow(find_job(client, job, output).id, callbacks=callback, client=client, **options)
