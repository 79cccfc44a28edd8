"""The projects that `init` writes run as they are: each is trained, and its own tests pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Sequence

import pytest

from arkor_sync.cli.commands.init import TEMPLATES
from support.command_line import COMMAND, CommandLine
from support.waiting import PATIENCE


def run_in(folder: Path, user: CommandLine, command: Sequence[str]) -> str:
    """Run a command to its end, which has to be a good one, and return what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=user.environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=4 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_project_is_trained_and_its_tests_pass(nobody: CommandLine, template: str) -> None:
    nobody("init", f"my {template}", "--template", template)
    folder = nobody.cwd / f"my {template}"
    start = [*COMMAND, "emulator", "exec", "--", *COMMAND, "start"]
    assert "final loss" in run_in(folder, nobody, start)
    elsewhere = [*start, str(folder / "trainer.py")]
    run_in(nobody.home, nobody, elsewhere)
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    assert "3 passed" in run_in(folder, nobody, tests)
    assert not (folder / ".arkor").exists()
    assert list(nobody.home.iterdir()) == []
