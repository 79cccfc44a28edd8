"""The loggers of this package, whose lines are safe and short. Any thread.

The rule: a log line is one line, and nothing in it can act on a terminal or forge a second line. So
every text that is put into a line goes through `safe_line`, whoever it came from.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from typing import Any, Callable

from arkor_sync._common.text import LINE, safe_line, safe_text
from arkor_sync.errors import add_note, text_of

LOG_GRACE = 1.0
"""Seconds that a thread waits for the line of another one. Handlers may be slow, or blocked."""


class Lines(str):
    """A text of several lines, such as a stack, which a log line may end with."""


def get_logger(name: str) -> logging.Logger:
    """Return the logger of this name, which makes the texts in its lines safe."""
    logger = logging.getLogger(name)
    logger.addFilter(_make_safe)  # adding it again does nothing
    return logger


def note_and_warn(error: BaseException, note: str, why: str = "", warn: bool = True) -> None:
    """Attach a line to an error, unless it has it already, and log the line as a warning.

    It is logged also where the error shows it: Python 3.9 and 3.10 do not print what is attached,
    and a program may catch the error without a word.

    Args:
        error: The error.
        note: What its reader has to know.
        why: Added to the line of the log.
        warn: Whether to log it.
    """
    if note not in text_of(error) and note not in getattr(error, "__notes__", ()):
        add_note(error, note)
    if warn:
        try_to_log(_run_logger.warning, "%s%s", note, why and f" ({why})")


def try_to_log(log: Callable[..., None], *line: Any, **more: Any) -> None:
    """Write a line to the log, where its failure must not stop what comes next.

    Where the program's logging raises an exception, it is printed, as `logging` does with those of
    its own handlers.

    Args:
        log: Such as `logger.warning`.
        line: Its arguments.
        more: Its named arguments.
    """
    try:
        log(*line, **more)
    except Exception:  # of a handler or a filter
        if logging.raiseExceptions and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):  # standard error is closed
                traceback.print_exc()


def _make_safe(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(map(_safe, record.args))
    return True


def _safe(value: Any) -> Any:
    if isinstance(value, Lines):
        return safe_text(value)
    if isinstance(value, str) and value.isprintable() and len(value) <= LINE:
        return value  # with the spaces around it: it may be a part of a sentence
    return safe_line(value) if isinstance(value, (str, os.PathLike)) else value


_run_logger = get_logger("arkor_sync.run")
