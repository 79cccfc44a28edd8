"""Runs a command, and tells how it ended. Runs on the caller's thread."""

from __future__ import annotations

import errno
import signal
import sys
from typing import Any, Dict, List

import click

from arkor_sync._common.environment import variable
from arkor_sync._common.leaving import Leave
from arkor_sync._common.text import safe_line, safe_text
from arkor_sync.cli.command import HelpInstead, help_width
from arkor_sync.cli.exit_codes import ENDING, ExitCode, exit_code_of
from arkor_sync.cli.output import PROGRAM, close_stream, open_streams, survive_encoding, tell
from arkor_sync.cli.root import COMPLETES, root
from arkor_sync.cli.shell_words import in_shell_words

_LONGEST = 2000  # characters of an error's line


def run_process() -> int:
    """Run the command of this process, and return its exit code.

    SIGTERM, and SIGHUP of a terminal that is closed, end it as Ctrl-C does, with 143 and 129: files
    and the terminal are left in order. Who ignores one of them, as `nohup` does, is heeded. Ctrl-C
    acts until the very end, without a traceback.
    """
    open_streams()
    leave = Leave()
    for number in ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, leave)
    try:
        instruction = variable(COMPLETES)
        if instruction:
            from arkor_sync.cli.commands.completion import complete

            return complete(instruction)
        return run(sys.argv[1:])
    finally:
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the interpreter would show a traceback


def run(arguments: List[str]) -> int:
    """Run one command and return its exit code.

    An error is told on standard error in a line, without a traceback; `--debug` shows that too.

    Args:
        arguments: The arguments of the command line.
    """
    for stream in (sys.stdout, sys.stderr):
        survive_encoding(stream)
    code = _flush(_run(arguments))
    _tell_deprecation()
    return int(code)


def _run(arguments: List[str]) -> int:
    state: Dict[str, Any] = {}
    try:
        # `root.main` would end every broken pipe with 1, and write a line of its own at Ctrl-C.
        width = help_width()
        with root.make_context(
            PROGRAM, list(arguments), obj=state, terminal_width=width
        ) as context:
            ended = root.invoke(context)
        return ended if isinstance(ended, int) else ExitCode.COMPLETED
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except HelpInstead as error:
        tell(error.help, prefix="")
        return ExitCode.USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else state.get("path", PROGRAM)
        tell(_one_line(f"{error.format_message().rstrip('.')}; see `{path} --help`"))
        return ExitCode.USAGE
    except click.ClickException as error:
        tell(_one_line(error.format_message()))
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        tell("interrupted", below_keys=True)
        return ExitCode.INTERRUPTED
    except SystemExit as error:
        if isinstance(error.code, str):
            tell(_one_line(error.code))
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:
        return ExitCode.OUTPUT_CLOSED
    except Exception as error:
        if state.get("debug"):
            import traceback

            tell(safe_text(traceback.format_exc()), prefix="")
        if _is_of_standard_output(error):
            _give_up_output(error)
            return ExitCode.FAILED
        from arkor_sync._common.paths import file_and_reason

        tell(_one_line(file_and_reason(error)))
        return exit_code_of(error)


def _one_line(text: str) -> str:
    return safe_line(in_shell_words(text), _LONGEST)


def _is_of_standard_output(error: Exception) -> bool:
    """Whether an error came from writing a result: those of files name their file."""
    kinds = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
    return isinstance(error, OSError) and error.filename is None and error.errno in kinds


def _give_up_output(error: Exception) -> None:
    tell(f"standard output cannot be written: {getattr(error, 'strerror', error)}")
    close_stream(sys.stdout)


def _flush(code: int) -> int:
    """Write what is left of the output, and return the exit code, which tells if that fails."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = ExitCode.OUTPUT_CLOSED
        close_stream(sys.stdout)
    except OSError as error:
        code = ExitCode.FAILED
        _give_up_output(error)
    return code


def _tell_deprecation() -> None:
    versions = sys.modules.get("arkor_sync.cloud.client_version")
    notice = versions.latest_deprecation() if versions else None
    if notice is not None:
        until = f" (accepted until {notice.sunset})" if notice.sunset else ""
        tell(_one_line(f"{notice.message}{until}; {versions.UPGRADE}"))  # type: ignore[union-attr]
