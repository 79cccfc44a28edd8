"""Runs an example as its reader runs it, but with every warning an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Union

from support.waiting import PATIENCE

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def python(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the interpreter to its end."""
    pipe = subprocess.PIPE
    settings = {"stdout": pipe, "stderr": pipe, "timeout": 2 * PATIENCE, **more}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, text=True, check=False, **settings)


def run(script: Union[str, Path], *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run an example, or the copy of one."""
    return python(str(EXAMPLES / script), *arguments, **more)


def printed_by(script: str, *arguments: str, **more: Any) -> str:
    """Run an example, which must succeed and complain of nothing; return what it printed."""
    done = run(script, *arguments, **more)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
