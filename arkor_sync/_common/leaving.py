"""A signal handler that ends the program as Ctrl-C does. Runs on the caller's thread."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Optional


class Leave:
    """Raises `SystemExit` with 128 + the number of the signal, and again only once that is handled.

    So a second signal does not disturb what the first one has left to do.
    """

    def __init__(self) -> None:
        self._on_its_way: Optional[SystemExit] = None

    def __call__(self, number: int, _: Optional[FrameType]) -> None:
        """Handle a signal."""
        if self._on_its_way is None or not _is_handled(self._on_its_way):
            self._on_its_way = SystemExit(128 + number)
            raise self._on_its_way


def _is_handled(error: BaseException) -> bool:
    """Whether a `with`, a `finally` or an `except` is dealing with this error at the moment."""
    current = sys.exc_info()[1]
    while current is not None and current is not error:
        current = current.__context__
    return current is not None
