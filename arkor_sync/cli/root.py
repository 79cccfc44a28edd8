"""The groups that commands of several modules are in. Runs on the caller's thread."""

from __future__ import annotations

import click

from arkor_sync._version import __version__
from arkor_sync.cli.command import Group, group

root = click.version_option(__version__, prog_name="arkor-sync", message="%(prog)s %(version)s")(
    Group(
        "arkor-sync",
        help="Fine-tune open-weight language models with Arkor: submit jobs, follow them, talk to "
        "what they trained. `arkor-sync COMMAND --help` shows the options of a command, with "
        "examples.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
)

jobs = group(root, "jobs", "List, follow, cancel and compare jobs.")
