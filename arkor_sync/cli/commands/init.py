"""`init`: writes a starter project. Runs on the caller's thread."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.command import command
from arkor_sync.cli.exit_codes import ExitCode
from arkor_sync.cli.output import Output, tell
from arkor_sync.cli.root import root

TEMPLATES = {
    "triage": "sorts the messages of a support desk",
    "translate": "translates short texts from English to German",
    "redaction": "replaces names, addresses and numbers in a text with marks",
}
"""The templates in `cli/templates`, and what the model of each does."""

_LIST = "; ".join(f"{name}: a model that {what}" for name, what in TEMPLATES.items())


@command(
    root,
    "init",
    examples="""
        arkor-sync init
        arkor-sync init my-bot --template redaction
        arkor-sync init my-bot && cd my-bot && arkor-sync emulator exec -- arkor-sync start
    """,
)
@click.argument("directory", default=".")
@click.option(
    "--template",
    type=click.Choice(tuple(TEMPLATES)),
    default="triage",
    show_default=True,
    help=f"What to begin with. {_LIST}.",
)
@click.option("--name", default="", help="The name of its jobs; by default that of the directory.")
def init(output: Output, directory: str, template: str, name: str) -> Optional[ExitCode]:
    """Write a starter project: a trainer, its data and its tests.

    Files that are there are kept. A `.gitignore` gains a line for `.arkor/`. If there is a
    trainer.py that is not the template's, the other files of the template are skipped, as they do
    not fit it; if nothing at all is written then, the exit code is 2. If something cannot be
    written, what was written before is removed again.
    """
    from arkor_sync.cli.scaffold import TRAINER, has_another_trainer, project_name, write_project

    folder = Path(directory)
    task = TEMPLATES[template]
    name = project_name(folder, name)
    done = write_project(folder, template, task, name)
    if output.as_json:
        output.json(done)
    else:
        for each in done:
            output.line(f"{each['action']}\t{each['path']}")
    if not has_another_trainer(folder, template, task, name):
        output.note(_next_steps(directory))
        return None
    skipped = [each["path"] for each in done if each["action"] == "skipped"]
    unwritten = f" Not written, as made for that one: {', '.join(skipped)}." if skipped else ""
    tell(
        f"{safe_line(folder / TRAINER)} was here already and is kept: it is what "
        "`arkor-sync start` runs, and not the trainer of the template."
        f"{unwritten} Give another DIRECTORY for a new project"
    )
    written = any(each["action"] in ("created", "changed") for each in done)
    return ExitCode.COMPLETED if written else ExitCode.USAGE


def _next_steps(directory: str) -> str:
    from shlex import quote

    change = "" if directory == "." else f"cd {quote(directory)} && "
    return f"next: {change}arkor-sync emulator exec -- arkor-sync start"
