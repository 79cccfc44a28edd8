"""Shows how far a run is; what is printed meanwhile stands above the bar. Any thread.

`ProgressBar` draws a bar on a terminal, and writes a line every half minute elsewhere. On a
terminal, what callbacks print and what is logged would otherwise land in the middle of the bar.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from importlib import import_module
from typing import Any, Iterator, TextIO

from arkor_sync._common.environment import variable


class Progress:
    """The progress of one run, on standard error.

    Attributes:
        callback: The `ProgressBar`, a callback for the run.
    """

    def __init__(self) -> None:
        from arkor_sync.handlers import ProgressBar  # imports requests

        self._screen = _Screen(sys.stderr)
        self.callback = ProgressBar(file=self._screen)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Have what is printed and logged stand above the bar."""
        if not sys.stderr.isatty() or variable("TERM") == "dumb":
            yield
            return
        above = [_AboveTheBar(sys.stderr, self._screen)]
        with contextlib.ExitStack() as undo:
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                    undo.callback(handler.setStream, sys.stderr)
                    handler.setStream(above[0])
            undo.enter_context(contextlib.redirect_stderr(above[0]))
            if sys.stdout.isatty():
                above.append(_AboveTheBar(sys.stdout, self._screen))
                undo.enter_context(contextlib.redirect_stdout(above[1]))
            try:
                yield
            finally:
                for stream in above:
                    stream.finish()

    @contextlib.contextmanager
    def asking(self, question: str) -> Iterator[None]:
        """Put a question on the screen; nothing else is written below it until the end."""
        self._screen.is_held = True
        try:
            self._screen.show(question)
            yield
        finally:
            self._screen.is_held = False


class _Stream:
    """A text stream that does something else with what is written. All else is the stream's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def show(self, text: str) -> None:
        """Write a text as it is, at once."""
        self._stream.write(text)
        self._stream.flush()


class _Screen(_Stream):
    """Where the bar is drawn, unless a question stands there."""

    is_held = False

    def write(self, text: str) -> int:
        return len(text) if self.is_held else self._stream.write(text)


class _AboveTheBar(_Stream):
    """Writes whole lines above the bar, and none of them below a question."""

    def __init__(self, stream: TextIO, screen: _Screen) -> None:
        super().__init__(stream)
        self._screen = screen
        self._text = ""
        self._lock = threading.RLock()  # callbacks print, and three threads log

    def write(self, text: str) -> int:
        with self._lock:
            self._text += text
            lines, newline, rest = self._text.rpartition("\n")
            if newline and not self._screen.is_held:
                self._text = rest
                self._show_above(lines + newline)
        return len(text)

    def finish(self) -> None:
        """Write what is left."""
        with self._lock:
            text, self._text = self._text, ""
            if text:
                self._show_above(text)

    def _show_above(self, text: str) -> None:
        try:
            tqdm = import_module("tqdm").tqdm
        except ImportError:  # then there is no bar
            self.show(text)
            return
        with tqdm.external_write_mode(file=self._screen):
            self.show(text)
