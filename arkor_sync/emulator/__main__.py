"""Runs a local Arkor for other processes, from the command line. Runs on the caller's thread.

    python -m arkor_sync.emulator --port 8976

It prints the variables of `Emulator.environment` as lines for a shell, and runs until Ctrl-C or
SIGTERM. Standard output ends after these lines, so that a shell can wait for all of them:

    eval "$(python -m arkor_sync.emulator --port 8976 &)"
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import shlex
import signal
import sys
from typing import Any, Dict, List, Optional

from arkor_sync.emulator.emulator import Emulator
from arkor_sync.emulator.engine.scenarios import SCENARIOS, scenario

_PROGRAM = "python -m arkor_sync.emulator"
_CANNOT_START = 2  # the exit code, which is also that of argparse
_SLICE = 1.0  # seconds; on Windows, Ctrl-C does not end a wait that has no limit


def main(arguments: Optional[List[str]] = None) -> int:
    """Run an emulator until Ctrl-C or SIGTERM.

    Args:
        arguments: The arguments of the command line; by default those of the process.

    Returns:
        The exit code: 0 after a signal, 2 if the emulator cannot start.
    """
    given = _parser().parse_args(arguments)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # a signal handler may put into it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: signals.put(received))
    try:
        emulator = _emulator(given)
        emulator.start()
    except (OSError, ValueError) as error:
        # A system error that names no file says all in its text; its number helps nobody.
        text = error.strerror if isinstance(error, OSError) and not error.filename else error
        print(f"{_PROGRAM}: {text}", file=sys.stderr)
        return _CANNOT_START
    try:
        _print_variables(emulator)
        print(
            f"a local Arkor is at {emulator.url} (process {os.getpid()}); "
            "Ctrl-C or SIGTERM stops it",
            file=sys.stderr,
            flush=True,
        )
        _wait(signals)
    finally:
        emulator.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Run a local Arkor on 127.0.0.1 for other processes of this machine. It prints "
        "the environment variables with which they find it, as lines for a shell.",
    )
    parser.add_argument("--port", type=int, help="the port; by default, or with 0, a free one")
    parser.add_argument(
        "--file", help="a JSON or TOML file with a scenario, faults and options of the emulator"
    )
    parser.add_argument(
        "--scenario", help=f"train nothing, and play a scenario: {', '.join(SCENARIOS)}"
    )
    parser.add_argument(
        "--speed", type=float, help="virtual seconds for each real second; 1 by default"
    )
    return parser


def _emulator(given: argparse.Namespace) -> Emulator:
    options: Dict[str, Any] = {"port": given.port, "speed": given.speed}
    options = {name: value for name, value in options.items() if value is not None}
    if given.scenario is not None:
        options["engine"] = scenario(given.scenario)
    return Emulator(**options) if given.file is None else Emulator.from_file(given.file, **options)


def _print_variables(emulator: Emulator) -> None:
    lines = (f"export {name}={shlex.quote(text)}" for name, text in emulator.environment().items())
    with contextlib.suppress(BrokenPipeError):  # nobody reads them
        print("\n".join(lines), flush=True)
    if sys.stdout is not None:  # whoever reads it sees its end, while this process runs on
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _wait(signals: queue.SimpleQueue[int]) -> None:
    while True:
        with contextlib.suppress(queue.Empty):
            signals.get(timeout=_SLICE)
            return


if __name__ == "__main__":
    sys.exit(main())
