"""The command line `arkor-sync`. Runs on the caller's thread.

It needs the extra `cli`. No module of this room imports `requests` or the engine when it is
imported: `--help` and the completion of a shell stay fast.
"""

import sys

TYPE_CHECKING = False  # importing typing takes longer than all else here
if TYPE_CHECKING:
    from typing import List, Optional


def main(arguments: "Optional[List[str]]" = None) -> int:
    """Run one command.

    Args:
        arguments: The arguments of the command line; by default those of the process, which is
            then the command's own: standard streams, SIGINT and SIGTERM are set up for it.

    Returns:
        The exit code, one of `ExitCode`.
    """
    try:
        try:
            import click  # noqa: F401 - is it there?
        except ImportError as error:
            print(
                f"arkor-sync: the command line needs the extra 'cli': pip install "
                f"'click>=8.1,<9' 'rich>=13' 'tqdm>=4.64' ({error})",
                file=sys.stderr,
            )
            return 2
        from arkor_sync.cli.app import run, run_process

        return run_process() if arguments is None else run(arguments)
    except KeyboardInterrupt:  # while the modules were imported
        if sys.stderr is not None:
            print("arkor-sync: interrupted", file=sys.stderr)
        return 130
