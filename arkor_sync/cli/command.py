"""How a command is declared, and what all commands share. Runs on the caller's thread."""

from __future__ import annotations

import functools
import os
from typing import Any, Callable, ClassVar, Dict, List, Optional, Type

import click

from arkor_sync._common.environment import variable
from arkor_sync.cli.output import Output

Function = Callable[..., Any]

_SHARED = ("--json", "--debug")
_USUAL, _WIDEST = 80, 100  # columns of help


class HelpInstead(Exception):
    """A group was called without a command.

    Attributes:
        help: The help of the group.
    """

    def __init__(self, help_text: str) -> None:
        self.help = help_text
        super().__init__(help_text)


class Command(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{' ' * formatter.current_indent}{line.strip()}\n")


class Group(Command, click.Group):
    """A group of commands. A name that it does not have is refused with the one that is near it.

    Attributes:
        meant: Names of no command, and what is meant by each: words behind those of the group.
    """

    meant: ClassVar[Dict[str, str]] = {"help": "--help"}

    def parse_args(self, ctx: click.Context, args: List[str]) -> List[str]:
        """Show the help if there is no command; the versions of click end that differently."""
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            raise HelpInstead(ctx.get_help())
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name
            if self.invoke_without_command or (error.possibilities and name not in _SHARED):
                raise
            place = f"put it after the command: `{ctx.command_path} COMMAND {name}`"
            raise click.UsageError(f"No such option {name!r} here; {place}", ctx) from None

    def resolve_command(self, ctx: click.Context, args: List[str]) -> Any:
        """Find the command that is named."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            if args[0] in self.meant:
                meant = f" Did you mean `{ctx.command_path} {self.meant[args[0]]}`?"
            ctx.fail(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)


def help_width() -> int:
    """Return how wide help is written: as the terminal, but no line of it is long.

    click would import `shutil` for this, which takes longer than all that is ours.
    """
    columns = variable("COLUMNS") or ""
    if columns.isdecimal() and int(columns):
        return min(int(columns), _WIDEST)
    try:
        return min(os.get_terminal_size(1).columns or _USUAL, _WIDEST)
    except OSError:
        return _USUAL


def command(
    group: click.Group,
    name: str,
    *,
    examples: str,
    prints_json: bool = True,
    cls: Type[Command] = Command,
    **settings: Any,
) -> Callable[[Function], Any]:
    """Make a function a command of a group.

    The function gets an `Output` as its first argument, and its options by their names. It returns
    an `ExitCode`, or None for success. What it raises is told in a line, see `app.run`.

    Args:
        group: The group.
        name: The command's name.
        examples: Lines for its help, each a whole command line.
        prints_json: Whether it takes `--json`.
        cls: `Group` for a command that has commands of its own.
        settings: More arguments of `click.Command`.
    """

    def declare(function: Function) -> Command:
        @functools.wraps(function)
        def call(as_json: bool = False, debug: bool = False, **options: Any) -> Any:
            from arkor_sync.cli.logs import log_to_standard_error  # help needs no logging

            context = click.get_current_context()
            state: Dict[str, Any] = context.find_root().ensure_object(dict)
            debug = state["debug"] = debug or state.get("debug", False)
            state["path"] = context.command_path
            log_to_standard_error(debug)
            return function(Output(as_json), **options)

        decorated: Function = call
        decorated = click.option("--debug", is_flag=True, help="Show tracebacks, and log more.")(
            decorated
        )
        if prints_json:
            decorated = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(
                decorated
            )
        # click turns the list around: these two options come last in help.
        params = getattr(decorated, "__click_params__", [])
        params.sort(key=lambda each: each.name not in ("as_json", "debug"))
        made = click.command(name, cls=cls, examples=examples, **settings)(decorated)
        group.add_command(made)
        return made

    return declare


def group(parent: Optional[click.Group], name: str, help_text: str) -> Group:
    """Make a group of commands, below another group."""
    made = Group(name, help=help_text)
    if parent is not None:
        parent.add_command(made)
    return made
