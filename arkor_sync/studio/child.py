"""A Python program that runs for a page, and ends with it. Any thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Optional, Sequence

from arkor_sync._common.environment import environment_with

_VARIABLES = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:replace"}


class Child:
    """A running module of Python, in a process group of its own, which no key of a terminal stops.

    Args:
        arguments: The module, and its arguments.
        folder: The working directory.
        stderr: Where its standard error goes, as `subprocess` has it.

    Raises:
        OSError: The system can start no other process.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, stderr: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environment_with(_VARIABLES),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.output = self._process.stdout

    def leave(self) -> None:
        """Ask it to end; SIGINT would be ignored where this process has ignored it, as with `&`."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout: Optional[float] = None) -> Optional[int]:
        """Wait for its end.

        Returns:
            The exit code, negative if a signal ended it; None if it runs on.
        """
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def kill(self) -> None:
        """End it at once, and what it has started. To be called within a moment of its own end.

        Later its number could be that of another group.
        """
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
