"""Runs a local Arkor for other processes, from the command line. Runs on the caller's thread.

    python -m arkor_sync.emulator --port 8976

It prints the variables of `Emulator.environment` as lines for a shell, and runs until Ctrl-C or
SIGTERM. Standard output ends after these lines, so that a shell can wait for all of them:

    eval "$(python -m arkor_sync.emulator --port 8976 &)"

It needs nothing but the package; `arkor-sync emulator` is the same in the command line.
"""

from __future__ import annotations

import argparse
import sys
from typing import List, Optional

from arkor_sync.emulator.engine.scenarios import SCENARIOS
from arkor_sync.emulator.serving import configured, reason_of, serve, shell_lines, signals_kept

_PROGRAM = "python -m arkor_sync.emulator"
_CANNOT_START = 2  # the exit code, which is also that of argparse


def main(arguments: Optional[List[str]] = None) -> int:
    """Run an emulator until Ctrl-C or SIGTERM.

    Args:
        arguments: The arguments of the command line; by default those of the process.

    Returns:
        The exit code: 0 after a signal, 2 if the emulator cannot start.
    """
    given = vars(_parser().parse_args(arguments))
    with signals_kept() as received:
        try:
            emulator = configured(engine=given.pop("scenario"), **given)
            emulator.start()
        except (OSError, ValueError) as error:
            print(f"{_PROGRAM}: {reason_of(error)}", file=sys.stderr)
            return _CANNOT_START
        try:
            serve(emulator, shell_lines(emulator), received)
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
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="a directory that keeps the jobs, which are there again at the next start; "
        "by default they end with this process",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
