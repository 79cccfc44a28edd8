"""Runs the command line as a user does: as a process of its own, with a home directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from support.waiting import PATIENCE

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-W", "error", "-m", "arkor_sync")

_PROBE = '''
import sys
import click
from arkor_sync.cli import main
from arkor_sync.cli.command import command
from arkor_sync.cli.root import root

@command(root, "probe", examples="arkor-sync probe")
def probe(output):
    """Do what a test asks for."""
{body}

sys.argv.insert(1, "probe")
sys.exit(main())
'''


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one JSON document that it printed."""
        return json.loads(self.stdout)

    @property
    def json_lines(self) -> List[Any]:
        """The JSON documents that it printed, one a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


@dataclass
class CommandLine:
    """`arkor-sync` in a directory, for a user.

    Attributes:
        home: The user's home directory.
        cwd: The working directory.
        variables: What the environment holds besides HOME and PATH.
        program: What is run.
    """

    home: Path
    cwd: Path
    variables: Dict[str, str] = field(default_factory=dict)
    program: Sequence[str] = COMMAND

    def __call__(
        self, *arguments: str, code: Optional[int] = 0, stdin: Optional[str] = None, **extra: str
    ) -> Ended:
        """Run a command to its end.

        Args:
            arguments: Those of the command line.
            code: The exit code that is expected; None for any.
            stdin: What standard input holds; it is empty by default.
            extra: More variables of the environment.
        """
        done = subprocess.run(
            [*self.program, *arguments],
            input=stdin or "",
            capture_output=True,
            cwd=self.cwd,
            env=self.environment(extra),
            timeout=PATIENCE,
            encoding="utf-8",
        )
        ended = Ended(done.returncode, done.stdout, done.stderr)
        assert code is None or ended.code == code, ended
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        """Start a command, with pipes; whoever calls it waits for its end."""
        return subprocess.Popen(
            [*self.program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.cwd,
            env=self.environment(extra),
            encoding="utf-8",
        )

    def probe(self, *lines: str) -> CommandLine:
        """Return the same user, whose command line is one command with these lines as its body.

        They are run as those of a command of the package, and may use `output`, `sys` and `click`.
        """
        body = "".join(f"    {line}\n" for line in lines)
        path = self.home / "probe.py"
        path.write_text(_PROBE.format(body=body), "utf-8")
        return replace(self, program=(sys.executable, "-W", "error", str(path)))

    def environment(self, extra: Mapping[str, str]) -> Dict[str, str]:
        """Return the whole environment of a command."""
        return {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONIOENCODING": "utf-8",
            "NO_PROXY": "*",
            **self.variables,
            **extra,
        }
