"""The commands `flask arkor ...`. Runs on the caller's thread."""

from __future__ import annotations

import json
import sys
from logging import INFO
from typing import Any, Dict, List, Optional, Protocol

import click
from flask.cli import AppGroup

from arkor_sync._common.log import get_logger
from arkor_sync._common.text import safe_line
from arkor_sync._submission_row import Submission
from arkor_sync.errors import ArkorError, ArkorUsageError
from arkor_sync.follower import Follower
from arkor_sync.stores.backend import UNKNOWN, Holder
from arkor_sync.stores.leased import LeasedStore
from arkor_sync.submitting import settle_submission


class Extension(Protocol):
    """What the commands use of `Arkor`."""

    @property
    def store(self) -> LeasedStore:
        """The store of the application."""

    def follower(self, *, max_runs: int = ..., poll: float = ...) -> Follower:
        """Make the follower of a process."""

    def recover(self) -> List[Submission]:
        """Settle all submissions that nobody works at."""


class _Commands(AppGroup):
    """Commands whose expected errors are one line, and no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ArkorError as error:
            raise click.ClickException(safe_line(error)) from error


def make_commands(arkor: Extension) -> click.Group:
    """Make the group `arkor`. Each command has a context of the application."""
    group = _Commands("arkor", help="Submit and follow training jobs.")

    @group.command("follow")
    @click.option(
        "--max-runs", default=500, show_default=True, help="Jobs of this process at most."
    )
    @click.option("--poll", default=5.0, show_default=True, help="Seconds between two looks.")
    def follow(max_runs: int, poll: float) -> None:
        """Follow all jobs that were submitted, until SIGTERM or Ctrl-C.

        Any number of processes may run it at the same time, on several machines: they share the
        jobs, and take over those of one that dies. At SIGTERM callbacks end, positions are saved,
        and another process goes on.
        """
        log = get_logger("arkor_sync.follower")
        log.setLevel(min(INFO, log.getEffectiveLevel()))
        follower = arkor.follower(max_runs=max_runs, poll=poll)
        click.echo(
            f"following as {follower.owner}; Ctrl-C or SIGTERM hands the jobs over", err=True
        )
        follower.run()

    @group.command("recover")
    def recover() -> None:
        """Settle submissions of processes that died; for cron. Exits with 1 if one is unknown."""
        settled = arkor.recover()
        for each in settled:
            detail = f": {safe_line(each.detail)}" if each.detail else ""
            click.echo(f"{each.key}\t{each.status}\t{each.job_id or '-'}{detail}")
        if any(each.status == UNKNOWN for each in settled):
            sys.exit(1)

    @group.command("settle")
    @click.argument("key")
    @click.argument("job_id", required=False)
    def settle(key: str, job_id: Optional[str]) -> None:
        """Say what became of a submission that is unknown or refused, after you have looked.

        With JOB_ID: that is its job. Without: there is none, and the next submission with this KEY
        sends one.
        """
        settle_submission(arkor.store, key, job_id)
        click.echo(f"{key}: {f'job {job_id}' if job_id else 'it may be submitted again'}")

    @group.command("status")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def status(as_json: bool) -> None:
        """Show who follows which job, and which jobs nobody follows."""
        found = arkor.follower().status()
        jobs = [_row(each) for each in found.jobs]
        if as_json:
            click.echo(json.dumps({"jobs": jobs, "processes": found.counts}))
            return
        for each in jobs:
            who = each["followedBy"] or "nobody"
            saved = each["savedSecondsAgo"]
            late = "never" if saved is None else f"{saved:.1f} s ago"
            click.echo(f"{each['job']}\tepoch {each['epoch']}\tsaved {late}\t{who}")
        for name, number in found.counts.items():
            click.echo(f"{name}: {number} jobs", err=True)

    @group.command("create-tables")
    def create_tables() -> None:
        """Make the store's tables in PostgreSQL or SQLite, or add what an older version had not."""
        create: Any = getattr(arkor.store, "create_tables", None)
        if create is None:
            raise ArkorUsageError(f"a {type(arkor.store).__name__} has no tables: nothing to do")
        create()
        click.echo("the tables are there")

    @group.command("prune")
    @click.option("--days", default=90.0, show_default=True, help="From 1.")
    def prune(days: float) -> None:
        """Delete what the store keeps of jobs that were finished at least so many days ago.

        The key of such a job is forgotten: who submits it again gets a new job, and pays again. So
        give more days than the same key may come back in.
        """
        click.echo(f"{arkor.store.prune(days)} jobs were deleted")

    return group


def _row(holder: Holder) -> Dict[str, Any]:
    return {
        "job": holder.job_id,
        "followedBy": holder.owner if holder.expires_in > 0 else None,
        "epoch": holder.epoch,
        "savedSecondsAgo": holder.saved_ago,
        "finished": holder.finished,
    }
