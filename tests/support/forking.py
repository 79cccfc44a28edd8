"""A function in a forked child."""

from __future__ import annotations

import os
import signal
import warnings
from typing import Any, Callable

from support.waiting import PATIENCE


def fork(function: Callable[[], Any]) -> Callable[[], int]:
    """Run a function in a forked child; the result waits for its exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork
        pid = os.fork()
    if not pid:
        code = 1
        try:
            signal.alarm(int(PATIENCE))
            function()
            code = 0
        finally:
            os._exit(code)
    return lambda: os.waitpid(pid, 0)[1]
