"""How a command is declared, and what all commands share. Runs on the caller's thread."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Optional

import click

from arkor_sync.cli.logs import log_more
from arkor_sync.cli.output import Output

Function = Callable[..., Any]


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


def command(
    group: click.Group, name: str, *, examples: str, prints_json: bool = True, **settings: Any
) -> Callable[[Function], Command]:
    """Make a function a command of a group.

    The function gets an `Output` as its first argument, and its options by their names. It returns
    an `ExitCode`, or None for success. What it raises is told in a line, see `app.run`.

    Args:
        group: The group.
        name: The command's name.
        examples: Lines for its help, each a whole command line.
        prints_json: Whether it takes `--json`.
        settings: More arguments of `click.Command`.
    """

    def declare(function: Function) -> Command:
        @functools.wraps(function)
        def call(as_json: bool = False, debug: bool = False, **options: Any) -> Any:
            state: Dict[str, Any] = click.get_current_context().find_root().ensure_object(dict)
            state["debug"] = debug
            if debug:
                log_more()
            return function(Output(as_json), **options)

        decorated: Function = call
        decorated = click.option("--debug", is_flag=True, help="Show tracebacks, and log more.")(
            decorated
        )
        if prints_json:
            decorated = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(
                decorated
            )
        # Python has the decorators applied from the inside: these two options come last in help.
        params = getattr(decorated, "__click_params__", [])
        params.sort(key=lambda each: each.name in ("as_json", "debug"))
        made = click.command(name, cls=Command, examples=examples, **settings)(decorated)
        group.add_command(made)
        return made

    return declare


def group(parent: Optional[click.Group], name: str, help_text: str) -> click.Group:
    """Make a group of commands, below another group."""
    made = click.Group(name, help=help_text, no_args_is_help=True)
    if parent is not None:
        parent.add_command(made)
    return made
