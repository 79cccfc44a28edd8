"""`init`: writes a starter project. Runs on the caller's thread."""

from __future__ import annotations

from pathlib import Path

import click

from arkor_sync.cli.command import command
from arkor_sync.cli.output import Output
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
def init(output: Output, directory: str, template: str, name: str) -> None:
    """Write a starter project: a trainer, its data and its tests.

    Files that are there are kept. A `.gitignore` gains a line for `.arkor/`. If something cannot be
    written, what was written before is removed again.
    """
    from arkor_sync.cli.scaffold import project_name, write_project

    folder = Path(directory)
    task = TEMPLATES[template]
    done = write_project(folder, template, task, project_name(folder, name))
    if output.as_json:
        output.json(done)
        return
    for each in done:
        output.line(f"{each['action']}\t{each['path']}")
    output.note(_next_steps(directory))


def _next_steps(directory: str) -> str:
    from shlex import quote

    change = "" if directory == "." else f"cd {quote(directory)} && "
    return f"next: {change}arkor-sync emulator exec -- arkor-sync start"
