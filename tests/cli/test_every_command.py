"""Each command is in the README's table, has help with an example, and a test of its process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, Set, Tuple

import click
import pytest

from arkor_sync.cli.root import COMMANDS as LISTED
from arkor_sync.cli.root import root
from support.command_line import REPOSITORY

README = Path(REPOSITORY, "arkor_sync", "cli", "commands", "README.md")
TESTS = "\n".join(
    path.read_text("utf-8") for path in sorted(Path(REPOSITORY, "tests", "cli").glob("test_*.py"))
)


def members(group: click.Group) -> Iterator[Tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield name, found


def commands(group: click.Group, path: Tuple[str, ...] = ()) -> Iterator[Tuple[str, click.Command]]:
    """List the commands with their whole names; of groups, those that do something alone."""
    for name, each in members(group):
        if isinstance(each, click.Group):
            if each.invoke_without_command:
                yield " ".join((*path, name)), each
            yield from commands(each, (*path, name))
        else:
            yield " ".join((*path, name)), each


COMMANDS = dict(commands(root))


def documented() -> Set[str]:
    rows = re.findall(r"^\| (`.+?) \|", README.read_text("utf-8"), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_the_table_has_every_command() -> None:
    assert sorted(set(COMMANDS) - documented()) == []


def test_the_first_sentence_of_each_is_in_the_help_of_all() -> None:
    found = dict(members(root))
    assert {name: text for name, (text, _) in LISTED.items()} == {
        name: each.get_short_help_str(200) for name, each in found.items()
    }
    assert set(root.commands) == set(LISTED)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_its_help_has_an_example(name: str) -> None:
    examples = getattr(COMMANDS[name], "examples", "")
    assert f"arkor-sync {name}" in examples
    assert COMMANDS[name].help


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_it_has_a_test_that_runs_it_as_a_process(name: str) -> None:
    words = r",\s*".join(f'"{word}"' for word in name.split())
    call = rf"\w\(\s*{words}\s*[,)]"  # cli("jobs", "list", ...), user.start("emulator")
    assert re.search(call, TESTS), f"no test runs `arkor-sync {name}`"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_what_prints_takes_json(name: str) -> None:
    options = {option for each in COMMANDS[name].params for option in each.opts}
    assert "--debug" in options
    # A script for a shell; what a program prints; a service, which prints nothing.
    quiet = {"completion", "emulator exec", "follower run"}
    assert ("--json" in options) is (name not in quiet)
