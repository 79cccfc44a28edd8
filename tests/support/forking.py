"""A function in a forked child, and what another process may hold."""

from __future__ import annotations

import fcntl
import os
import signal
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

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


@contextmanager
def lock_of_another(directory: Path) -> Iterator[None]:
    """Lock a directory as another process does: a second descriptor counts as one (flock(2))."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
