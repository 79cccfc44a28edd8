"""`doctor`: what this machine has, and what would be used. Runs on the caller's thread."""

from __future__ import annotations

import sys

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.command import command
from arkor_sync.cli.exit_codes import ExitCode
from arkor_sync.cli.output import Output, colours_wanted
from arkor_sync.cli.root import root

_LONGEST = 2000  # characters of a line


@command(root, "doctor", examples="arkor-sync doctor\narkor-sync doctor --json | jq .checks")
def doctor(output: Output) -> int:
    """Check versions, variables, files and the way to the cloud.

    Each line says `ok`, or what the problem is and what to do. The exit code is that of the first
    problem. No secret is shown, no account is made, and no project.
    """
    from arkor_sync.cli.diagnosis import examine

    found = []
    for each in examine():
        found.append(each)
        if output.as_json:
            continue
        text = f"{each.check}: {each.found}"
        if each.problem:
            text += f"; {each.problem}; {each.remedy}"
        word = "problem" if each.problem else "ok"
        mark = f"{word:8}"
        if colours_wanted(sys.stdout):
            mark = click.style(mark, fg="red" if each.problem else "green")
        output.write(f"{mark}{safe_line(text, _LONGEST)}\n")
    code = next((each.code for each in found if each.problem), ExitCode.COMPLETED)
    if output.as_json:
        output.json({"ok": code == ExitCode.COMPLETED, "checks": [e.to_dict() for e in found]})
    return code
