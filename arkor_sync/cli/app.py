"""Runs a command, and tells how it ended. Runs on the caller's thread."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import Any, Dict, List, Optional

import click

from arkor_sync.cli.exit_codes import ExitCode, exit_code_of
from arkor_sync.cli.logs import PROGRAM, in_shell_words, log_to_standard_error
from arkor_sync.cli.output import close_output, survive_encoding
from arkor_sync.cli.root import root

# Each module adds its commands to the root.
from arkor_sync.cli.commands import (  # noqa: F401  isort:skip
    chat,
    completion,
    demo,
    deployments,
    doctor,
    emulator,
    follow,
    init,
    jobs,
    projects,
    report,
    sign_in,
    start,
)


def run(arguments: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code.

    An error is told on standard error in a line, without a traceback; `--debug` shows that too.

    Args:
        arguments: The arguments of the command line; by default those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        survive_encoding(stream)
    log_to_standard_error()
    state: Dict[str, Any] = {}
    try:
        code = _run(arguments, state)
    except BrokenPipeError:
        code = ExitCode.OUTPUT_CLOSED
        close_output()
    _tell_deprecation()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    return int(code)


def _run(arguments: Optional[List[str]], state: Dict[str, Any]) -> int:
    try:
        ended = root.main(arguments, PROGRAM, standalone_mode=False, obj=state)
        sys.stdout.flush()
        return ended if isinstance(ended, int) else ExitCode.COMPLETED
    except click.UsageError as error:
        error.show(sys.stderr)
        return ExitCode.USAGE
    except click.ClickException as error:
        _tell(error.format_message())
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else ExitCode.FAILED
    except BrokenPipeError:
        raise
    except Exception as error:
        if state.get("debug"):
            traceback.print_exc()
        _tell(str(error) or type(error).__name__)
        return exit_code_of(error)


def _tell(text: str) -> None:
    print(f"{PROGRAM}: {in_shell_words(text)}", file=sys.stderr)


def _tell_deprecation() -> None:
    versions = sys.modules.get("arkor_sync.cloud.client_version")
    notice = versions.latest_deprecation() if versions else None
    if notice is not None:
        until = f" (accepted until {notice.sunset})" if notice.sunset else ""
        _tell(f"{notice.message}{until}; {versions.UPGRADE}")  # type: ignore[union-attr]
