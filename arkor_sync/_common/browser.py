"""Opens a page in the user's browser. Runs on the caller's thread."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial

from arkor_sync._common.environment import variable
from arkor_sync._common.threads import OwnThread


def can_open() -> bool:
    """Whether there is a screen. Without one, `webbrowser` may start a browser in the terminal."""
    screens = map(variable, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return os.name == "nt" or sys.platform == "darwin" or any(screens)


def open_page(url: str) -> None:
    """Open a page, on a thread: some browsers return only when they are closed."""
    with suppress(RuntimeError, MemoryError):  # no thread: the user opens it
        OwnThread(partial(_open, url), "arkor-browser").start()


def _open(url: str) -> None:
    import webbrowser  # here: it looks for browsers

    with suppress(Exception):
        webbrowser.open(url)
