"""Ends a program at a signal in the way that Ctrl-C ends it. Runs on the caller's thread.

Without it SIGTERM ends the process at once: no `finally`, no exit handler, no line in the log.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import ContextManager, Dict, Iterator, Set, Tuple

from arkor_sync._common.arguments import check
from arkor_sync._common.leaving import Leave
from arkor_sync.errors import ArkorUsageError

_NOT_CAUGHT = ("SIGKILL", "SIGSTOP")


def exit_on(*signals: int) -> ContextManager[None]:
    """Have a signal end the program with exit code 128 + its number; `with` is what it is for.

        with exit_on(signal.SIGTERM), trainer.follow() as run:
            run.wait()

    Inside the `with`, each of the signals raises `SystemExit` in the main thread, as Ctrl-C raises
    `KeyboardInterrupt`. So the `with` of a run is left in order: the callback that is running gets
    `abort_grace` to end, and the position is saved. While that `SystemExit` is on its way out, the
    same signals do nothing more. Behind the `with`, the former handlers are back.

    Use it with `trainer.follow()` as a `with`, as above. Around a plain `trainer.wait()` the
    callback that is running has only two seconds to end, and a second signal ends the program.

    Args:
        signals: Numbers of signals, such as `signal.SIGTERM`, which is the default.

    Raises:
        ArkorUsageError: What is given is no signal, or one that no program can handle; or the
            `with` is not entered in the main thread, the only one that may handle signals. It is
            also a `ValueError`.
    """
    numbers = signals or (signal.SIGTERM,)
    allowed = _signals()
    for number in numbers:
        fits = type(number) is not bool and isinstance(number, int) and number in allowed
        check("signals", number, fits, "signals such as signal.SIGTERM that a program can handle")
    return _exiting(numbers)


@contextmanager
def _exiting(numbers: Tuple[int, ...]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        raise ArkorUsageError("exit_on() works in the main thread only: signals are handled there")
    leave = Leave()
    former: Dict[int, object] = {}
    try:
        for number in numbers:
            former.setdefault(number, signal.getsignal(number))
            signal.signal(number, leave)
        yield
    finally:
        for number, handler in former.items():
            # None stands for a handler that was not set by Python, and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]


def _signals() -> Set[int]:
    uncaught = {getattr(signal, name, 0) for name in _NOT_CAUGHT}
    return {int(each) for each in signal.valid_signals()} - uncaught
