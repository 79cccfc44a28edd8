"""The commands by their names; a module is imported when its command is used. Any thread."""

from __future__ import annotations

from importlib import import_module
from typing import ClassVar, Dict, List, Optional, Tuple

import click

from arkor_sync._version import __version__
from arkor_sync.cli.command import Group, group

COMPLETES = "_ARKOR_SYNC_COMPLETE"
"""The variable with which a shell asks for completions, as click has it."""

# In the order of the help: for each command its first sentence, and the modules that declare it. So
# help and a completion import only what they show.
COMMANDS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "demo": ("Train a small model on this machine, and ask it a question.", ("demo",)),
    "init": ("Write a starter project: a trainer, its data and its tests.", ("init",)),
    "start": ("Submit what FILE trains, and follow it to its end.", ("start",)),
    "login": ("Sign in, with an account or anonymously.", ("sign_in",)),
    "logout": ("Remove ~/.arkor/credentials.json.", ("sign_in",)),
    "whoami": ("Show who is signed in, and the organisations.", ("sign_in",)),
    "projects": ("List projects, make one, and choose that of a directory.", ("projects",)),
    "follower": ("Follow many jobs in one process; show who follows which.", ("follower",)),
    "studio": ("Show jobs, models and endpoints in a browser.", ("studio",)),
    "jobs": ("List, follow, cancel and compare jobs.", ("jobs", "follow")),
    "chat": ("Talk to what a job trained, or to a base model.", ("chat",)),
    "deployments": ("Serve a model at an address of its own.", ("deployments",)),
    "keys": ("Issue, list and revoke the keys of a deployment.", ("deployments",)),
    "report": ("Write a report of a job, by its id or its name.", ("report",)),
    "store": ("Make the tables in which positions and leases are kept.", ("store",)),
    "emulator": ("Run a local Arkor for other programs of this machine.", ("emulator",)),
    "doctor": ("Check versions, variables, files and the way to the cloud.", ("doctor",)),
    "completion": (
        "Print a script that completes commands and options in a shell.",
        ("completion",),
    ),
}


class Root(Group):
    """The group of all commands."""

    meant: ClassVar[Dict[str, str]] = {
        **Group.meant,
        "version": "--version",
        "train": "start",
        "run": "start",
        **{
            name: f"jobs {name}" for name in ("list", "show", "follow", "logs", "cancel", "compare")
        },
    }

    def list_commands(self, _ctx: click.Context) -> List[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> Optional[click.Command]:
        """Import what declares a command, and return it; None if there is none of this name."""
        for module in COMMANDS.get(name, ("", ()))[1]:
            import_module(f"arkor_sync.cli.commands.{module}")
        return super().get_command(ctx, name)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with the first sentences of their help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (text, _) in COMMANDS.items()])


root = click.version_option(__version__, prog_name="arkor-sync", message="%(prog)s %(version)s")(
    Root(
        "arkor-sync",
        help="Fine-tune open-weight language models with Arkor: submit jobs, follow them, talk to "
        "what they trained. `arkor-sync COMMAND --help` shows the options of a command, with "
        "examples.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
)

jobs = group(root, "jobs", COMMANDS["jobs"][0])
