"""`follower`: follow many jobs, and show who follows what. Runs on the caller's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List

import click

from arkor_sync.cli.command import Group, command
from arkor_sync.cli.output import Output, tell
from arkor_sync.cli.root import COMMANDS, root

if TYPE_CHECKING:
    from arkor_sync.follower import FollowerStatus


class _Follower(Group):
    """The group; what is the name of no command is that of a follower to run."""

    def resolve_command(self, ctx: click.Context, args: List[str]) -> Any:
        """Find the command that is named, or `run`."""
        if self.get_command(ctx, args[0]) is None and args[0] not in self.meant:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


follower = _Follower("follower", help=COMMANDS["follower"][0])
root.add_command(follower)

_source = click.argument("source", metavar="MODULE:NAME")


@command(
    follower,
    "run",
    examples="""
    arkor-sync follower myproject.jobs:follower
    arkor-sync follower run myproject.jobs:follower
    """,
    prints_json=False,
)
@_source
def run(_output: Output, source: str) -> None:
    """Follow all jobs of a follower, until SIGTERM or Ctrl-C.

    MODULE is imported from the working directory, or from where Python looks. NAME, `follower` by
    default, is a Follower there, or a function without arguments that returns one.

    At SIGTERM or Ctrl-C no more jobs are taken; running callbacks end, positions are saved, other
    processes take over, and the exit code is 0. What is taken and given back is told on standard
    error.
    """
    from arkor_sync.cli.follower_source import load_follower
    from arkor_sync.cli.logs import tell_news_of

    found = load_follower(source)
    tell_news_of("arkor_sync.follower")
    tell(f"following the jobs of {source} as {found.owner}; Ctrl-C or SIGTERM hands them over")
    found.run()
    tell("no jobs are followed any more")


@command(
    follower,
    "status",
    examples="""
    arkor-sync follower status myproject.jobs:follower
    arkor-sync follower status myproject.jobs:follower --json
    """,
)
@_source
def status(output: Output, source: str) -> None:
    """Show who follows which job, and which jobs nobody follows.

    Each row is a job that is not finished: the process that follows it, how many leases there have
    been (`epoch`), how many seconds its lease lasts, and how many seconds ago its position was
    saved. The processes, and how many jobs each follows, are told on standard error.
    """
    from arkor_sync.cli.follower_source import load_follower

    found = load_follower(source).status()
    if output.as_json:
        output.json(_as_json(found))
        return
    jobs = [each for each in _rows(found) if not each["finished"]]
    output.table(jobs, ("job", "followedBy", "epoch", "leaseSeconds", "savedSecondsAgo"))
    for name, number in found.counts.items():
        output.note(f"{name}: {number} jobs")
    left = len(found.not_followed)
    output.note(f"{left} of {len(jobs)} jobs that are not finished are followed by nobody")


def _rows(found: FollowerStatus) -> List[Dict[str, Any]]:
    left = set(found.not_followed)
    return [
        {
            "job": each.job_id,
            "followedBy": each.owner if each.expires_in > 0 else None,
            "epoch": each.epoch,
            "leaseSeconds": round(max(0.0, each.expires_in), 1),
            "savedSecondsAgo": None if each.saved_ago is None else round(each.saved_ago, 1),
            "finished": each.finished,
            "notFollowed": each.job_id in left,
        }
        for each in found.jobs
    ]


def _as_json(found: FollowerStatus) -> Dict[str, Any]:
    members = [
        {"name": each.owner, "jobs": found.counts[each.owner], "seconds": round(each.expires_in, 1)}
        for each in found.members
    ]
    return {"jobs": _rows(found), "members": members, "notFollowed": list(found.not_followed)}
