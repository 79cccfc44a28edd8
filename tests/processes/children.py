"""Child processes for the tests: `Nursery` starts them, `Child` is one.

A new interpreter takes a quarter of a second. So there is one, which has imported everything and
started nothing, and which forks a child for each order that it reads; see `zygote.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest

from support.hang_phases import PHASES
from support.waiting import PATIENCE, until

HERE = Path(__file__).parent
PYTHONPATH = os.pathsep.join(
    [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

# A fork while threads run is what some tests are about; from 3.12 on Python warns of each.
COMMAND = [
    sys.executable,
    "-X",
    "dev",
    "-W",
    "error",
    "-W",
    "ignore:This process:DeprecationWarning",
]

# For tests that need new processes in each phase: a plain run takes a few of the phases.
_PLAIN = {"connecting", "reading the body", "full channel", "awaiting a coroutine"}
EACH_PHASE = pytest.mark.parametrize(
    "phase",
    [
        pytest.param(phase, id=phase.name, marks=[] if phase.name in _PLAIN else pytest.mark.slow)
        for phase in PHASES
    ],
)


class Child:
    """A child process that runs one scenario."""

    def __init__(self, nursery: Nursery, pid: int, directory: Path) -> None:
        self.pid = pid
        self.ended_at: Optional[float] = None
        self._nursery = nursery
        self._directory = directory
        self._ending = os.pidfd_open(pid)
        self._status: Optional[int] = None

    @property
    def out(self) -> List[str]:
        """The lines that it has printed, without one that is not finished."""
        return (self._directory / "out").read_text().split("\n")[:-1]

    @property
    def err(self) -> str:
        """What it has written to stderr."""
        return (self._directory / "err").read_text()

    def until_said(self, line: str) -> None:
        """Wait until it has printed a line."""
        until(lambda: line in self.out or self.ended())
        assert line in self.out, f"it ended without having said {line!r}:\n{self.err}"

    def until_said_lines(self, number: int) -> None:
        """Wait until it has printed so many lines, or has ended."""
        until(lambda: len(self.out) >= number or self.ended())

    def value(self, name: str) -> str:
        """Return what it printed behind a name."""
        return next(line[len(name) + 1 :] for line in self.out if line.startswith(f"{name} "))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        if self._status is None:  # else the number may belong to another process by now
            os.kill(self.pid, number)

    def ended(self, patience: float = 0.0) -> bool:
        """Tell whether it has ended within so many seconds."""
        if self.ended_at is None and select.select([self._ending], [], [], patience)[0]:
            self.ended_at = time.monotonic()
        return self.ended_at is not None

    def status(self) -> int:
        """Wait for its end; return the exit code, or the negative number of a signal."""
        if self._status is None:
            if not self.ended(PATIENCE):
                self.kill(signal.SIGABRT)  # faulthandler then prints the stacks
                assert self.ended(PATIENCE)
                raise AssertionError(f"it hangs:\n{self.out}\n{self.err}")
            self._status = self._nursery.order(wait=self.pid)
            os.close(self._ending)
        return self._status

    def succeeds(self) -> Child:
        """See that it ends with 0, and complains of nothing but the jobs that it leaves."""
        status = self.status()
        assert (status, re.sub("job .* goes on; follow.*\n", "", self.err)) == (0, "")
        return self


class Nursery:
    """Starts children."""

    def __init__(self) -> None:
        self.directory = Path()
        self._children: List[Child] = []

    def __enter__(self) -> Nursery:
        pipe = subprocess.PIPE
        self._zygote = subprocess.Popen(
            [*COMMAND, HERE / "zygote.py"],
            stdin=pipe,
            stdout=pipe,
            text=True,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._zygote.communicate(timeout=PATIENCE)
        assert self._zygote.returncode == 0

    def start(self, scenario: Callable[..., Any], *arguments: Any) -> Child:
        """Run a scenario in a child, with arguments that JSON knows."""
        directory = self.directory / f"child-{len(self._children)}"
        directory.mkdir()
        for name in ("out", "err"):
            (directory / name).touch()
        pid = self.order(
            module=scenario.__module__,
            scenario=scenario.__name__,
            arguments=arguments,
            directory=str(directory),
        )
        self._children.append(Child(self, pid, directory))
        return self._children[-1]

    def order(self, **order: Any) -> int:
        assert self._zygote.stdin
        assert self._zygote.stdout
        self._zygote.stdin.write(json.dumps(order, default=vars) + "\n")
        self._zygote.stdin.flush()
        return int(self._zygote.stdout.readline())

    def kill_all(self) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            child.status()
        self._children.clear()
