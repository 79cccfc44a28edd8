"""Processes that end with the tests, also where the tests are killed."""

from __future__ import annotations

import shutil
from typing import List


def ends_with_us(command: List[str]) -> List[str]:
    """Return a command whose process is killed when the thread that starts it has ended.

    It stays one process with one number: util-linux's `setpriv` sets PR_SET_PDEATHSIG and becomes
    the program. Where there is none, such as on macOS, only the test's own end ends the process.
    """
    setpriv = shutil.which("setpriv")
    return command if setpriv is None else [setpriv, "--pdeathsig", "KILL", *command]
