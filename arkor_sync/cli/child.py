"""A program that a command runs, and waits for. Runs on the caller's thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

from arkor_sync._common.environment import environment_with
from arkor_sync._common.text import safe_line
from arkor_sync.cli.exit_codes import ENDING
from arkor_sync.cli.output import tell

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as a shell has them


def run_child(program: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a program to its end, with the standard streams of this one.

    SIGTERM and SIGHUP are passed on to it. So is SIGINT, unless it came from the terminal, which
    has sent it to the program too.

    Args:
        program: Its name and its arguments.
        variables: What its environment holds besides that of this process.

    Returns:
        The exit code of the program, as a shell has it: 128 + N if the signal N ended it.
    """
    child: Optional[subprocess.Popen[bytes]] = None
    early: List[int] = []

    def pass_on(number: int) -> None:
        if child is None:
            early.append(number)
        elif number != signal.SIGINT or not _reads_keys():
            child.send_signal(number)

    with signals_to(pass_on, (signal.SIGINT, *ENDING)):
        try:
            child = subprocess.Popen(program, env=environment_with(variables))
        except FileNotFoundError:
            tell(f"{safe_line(program[0])}: command not found")
            return NOT_FOUND
        except OSError as error:
            tell(f"{safe_line(program[0])}: cannot be run: {error.strerror}")
            return NOT_EXECUTABLE
        for number in early:
            pass_on(number)
        code = child.wait()
    return 128 - code if code < 0 else code


@contextmanager
def signals_to(function: Callable[[int], None], numbers: Iterable[int]) -> Iterator[None]:
    """Have signals call a function; an ignored one stays so, also in a child."""
    former: Dict[int, Any] = {}
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            former[number] = signal.signal(number, lambda number, _: function(number))
    try:
        yield
    finally:
        for each, handler in former.items():
            signal.signal(each, handler or signal.SIG_DFL)


def _reads_keys() -> bool:
    """Whether this process is in the foreground of a terminal, whose keys send signals to it."""
    for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            if os.tcgetpgrp(stream.fileno()) == os.getpgrp():  # type: ignore[union-attr]
                return True
    return False
