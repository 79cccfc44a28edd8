"""The command line `arkor-sync`. Runs on the caller's thread.

It needs the extra `cli`. No module of this room imports `requests` or the engine when it is
imported: `--help` and the completion of a shell stay fast.
"""

from __future__ import annotations

import sys
from typing import List, Optional


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command.

    Args:
        arguments: The arguments of the command line; by default those of the process.

    Returns:
        The exit code, one of `ExitCode`.
    """
    try:
        import click  # noqa: F401 - is it there?
    except ImportError as error:
        print(
            f"arkor-sync: the command line needs the extra 'cli': pip install "
            f"'click>=8.1,<9' 'rich>=13' 'tqdm>=4.64' ({error})",
            file=sys.stderr,
        )
        return 2
    from arkor_sync.cli.app import run

    return run(arguments)
