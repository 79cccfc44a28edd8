"""Which exceptions of a program a notifier tells about, and in which words. Any thread."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Optional

from arkor_sync._common.secret import redact
from arkor_sync.errors import RunAborted, RunError, still_runs
from arkor_sync.handlers._shared.exceptions import describe_error
from arkor_sync.handlers.notifiers.notification import Notification, clean, fit
from arkor_sync.result import TrainingResult


class Watch(contextlib.ContextDecorator):
    """What `Notifier.watching` returns. It keeps nothing, so it may be nested and shared.

    Args:
        tell: Called with the exception that ends the block; it must not raise.
    """

    def __init__(self, tell: Callable[[BaseException], None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: Any, error: Optional[BaseException], _traceback: Any) -> None:
        if error is not None:
            self._tell(error)


def is_failure(error: BaseException) -> bool:
    """Whether an exception that ends a program is worth telling: `sys.exit(0)` is not."""
    if isinstance(error, SystemExit):
        return error.code is not None and error.code != 0
    return not isinstance(error, GeneratorExit)


def is_urgent(error: BaseException) -> bool:
    """Whether somebody should act: not if somebody has just stopped it."""
    if isinstance(error, RunAborted):
        return isinstance(error.reason, BaseException) and is_urgent(error.reason)
    return not is_interruption(error)


def is_interruption(error: BaseException) -> bool:
    """Whether it is a Ctrl-C, or the `SystemExit` of a signal, with 128 + its number."""
    if isinstance(error, SystemExit):
        return type(error.code) is int and error.code - 128 in signal.valid_signals()
    return isinstance(error, KeyboardInterrupt)


def summarize_ending(error: BaseException, outcome: Optional[TrainingResult]) -> str:
    """Say, behind a job's name, that its run ended with an error; `outcome` is the job's end."""
    if outcome is None:
        return " is not followed any more"
    what = "the run ended with an error" if isinstance(error, RunError) else "a callback raised"
    was = "was " if outcome.status == "cancelled" else ""
    return f": {what} after the job {was}{outcome.status}"


def describe_ending(error: BaseException, left: Optional[str] = None) -> str:
    """Return the type, the text and the notes of an exception, without what looks secret.

    Args:
        error: The exception.
        left: The job that goes on without its run, or None. It is said once.
    """
    notes = getattr(error, "__notes__", None)  # the program may have put anything there
    notes = [each for each in notes if isinstance(each, str)] if isinstance(notes, list) else []
    text = "\n".join([describe_error(error), *notes])
    if left is not None and still_runs(left) not in text:
        text += f"\n{still_runs(left)}"
    return redact(text)


def build_error(name: Optional[str], error: BaseException, text: str) -> Notification:
    """Build the notification for an exception that ends a program.

    Args:
        name: What the title begins with; None for the name of the script.
        error: The exception.
        text: Its description.
    """
    subject = " ".join(clean(redact(_script_name() if name is None else name), 200).split())
    failed = f"failed with {type(error).__name__}"
    ending = "was interrupted" if is_interruption(error) else failed
    return Notification(
        "error",
        job_id="",
        job_name="",
        title=fit(f"{subject} {ending}", 200),
        text=clean(text),
        urgent=is_urgent(error),
    )


def _script_name() -> str:
    path = Path((getattr(sys, "argv", None) or [""])[0])  # an embedded Python has no `argv`
    name = path.parent.name if path.name == "__main__.py" else path.name
    return name if name not in ("", "-", "-c", "-m") else "a Python program"
