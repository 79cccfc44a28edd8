"""What every test of the command line may rely on: a local Arkor, a user, a terminal."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

import pytest

from arkor_sync.emulator import Emulator
from support.command_line import CommandLine
from support.extras import skip_without


class ModuleOfTheCommandLine(pytest.Module):
    """A test module that imports the libraries of the command line as if they were there."""

    def collect(self) -> Iterable[Any]:
        """Collect the tests, or skip them all where a library is missing."""
        try:
            import click  # noqa: F401
            import pyte  # noqa: F401
            import rich  # noqa: F401
            import tqdm  # noqa: F401
        except ModuleNotFoundError as error:
            skip_without(error, self.name)
            raise
        return super().collect()


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> ModuleOfTheCommandLine:
    return ModuleOfTheCommandLine.from_parent(parent, path=module_path)


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    """Leave the root logger as it was: a command that runs in this process sets it up."""
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers, logging.raiseExceptions = handlers, raises
    root.setLevel(level)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Start a local Arkor."""
    with Emulator() as emulator:
        yield emulator
        assert emulator.errors == []


@pytest.fixture
def nobody(tmp_path: Path) -> CommandLine:
    """Return a user who has nothing: no token, no file, no project."""
    home, cwd = tmp_path / "home", tmp_path / "a project"
    home.mkdir()
    cwd.mkdir()
    return CommandLine(home, cwd)


@pytest.fixture
def cli(nobody: CommandLine, emulator: Emulator) -> CommandLine:
    """Return a user with the variables of the local Arkor: a token and a project."""
    nobody.variables.update(emulator.environment())
    return nobody


@pytest.fixture
def terminal(cli: CommandLine) -> Iterator[Callable[..., Any]]:
    """Return a function that runs a command in a terminal, for the user of `cli`.

    Another user is given as `user`.
    """
    from support.terminal import Terminal

    opened = []

    def run(
        *arguments: str,
        columns: int = 80,
        lines: int = 24,
        user: CommandLine = cli,
        **extra: str,
    ) -> Terminal:
        command = [*user.program, *arguments]
        made = Terminal(command, user.cwd, user.environment(extra), columns, lines)
        opened.append(made)
        return made

    yield run
    for each in opened:
        with each:
            pass
