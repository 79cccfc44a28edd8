"""Help, the version and completion import neither requests nor the engine; see `figure_cli`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Dict, Iterator, List, Tuple

import click
import pytest

from arkor_sync.cli.root import root
from support.command_line import CommandLine

SLOW = ("requests", "urllib3", "rich", "tqdm", "dataclasses_json", "sseclient", "backoff")
MODULES = """
import sys
from arkor_sync.cli import main
code, modules = main(), sorted(sys.modules)
import json
sys.stderr.write(json.dumps([code, modules]))
"""
ENGINE = ("cloud", "stream", "run", "trainer", "handlers", "emulator", "errors", "testing")


def members(group: click.Group) -> List[Tuple[str, click.Command]]:
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return [(name, each) for name, each in found.items() if each is not None]


def commands(group: click.Group, path: Tuple[str, ...] = ()) -> Iterator[Tuple[str, ...]]:
    """List the paths of all commands, and of their groups."""
    for name, each in members(group):
        yield (*path, name)
        if isinstance(each, click.Group):
            yield from commands(each, (*path, name))


def imported(user: CommandLine, *arguments: str, **variables: str) -> List[str]:
    done = subprocess.run(
        [sys.executable, "-c", MODULES, *arguments],
        env=user.environment(variables),
        capture_output=True,
        text=True,
    )
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert done.stdout
    return list(modules)


COMPLETION = {
    "_ARKOR_SYNC_COMPLETE": "bash_complete",
    "COMP_WORDS": "arkor-sync doc",
    "COMP_CWORD": "1",
}


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [(("--help",), {}), (("--version",), {}), (("jobs", "--help"), {}), ((), COMPLETION)],
    ids=["help", "version", "jobs", "completion"],
)
def test_it_imports_neither_requests_nor_the_engine(
    nobody: CommandLine, arguments: Tuple[str, ...], variables: Dict[str, str]
) -> None:
    modules = imported(nobody, *arguments, **variables)
    assert "arkor_sync.cli.app" in modules
    assert set(SLOW) & set(modules) == set()
    engine = tuple(f"arkor_sync.{room}" for room in ENGINE)
    assert [name for name in modules if name.startswith(engine)] == []


def test_help_imports_no_module_of_a_command_that_it_does_not_show(nobody: CommandLine) -> None:
    prefix = "arkor_sync.cli.commands."
    shown = {
        arguments: {name[len(prefix) :] for name in imported(nobody, *arguments) if prefix in name}
        for arguments in [("--help",), ("jobs", "--help")]
    }
    assert shown == {("--help",): set(), ("jobs", "--help"): {"jobs", "follow"}}


def test_the_help_of_each_command_imports_none_of_them_either(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from arkor_sync.cli.app import run

    paths = list(commands(root))
    assert len(paths) > 3
    for name in [each for each in sys.modules if each.split(".")[0] in ("requests", "rich")]:
        monkeypatch.delitem(sys.modules, name)
    for path in paths:
        assert run([*path, "--help"]) == 0
    assert capsys.readouterr().out.count("Usage: ") == len(paths)
    assert not {"requests", "rich"} & set(sys.modules)
