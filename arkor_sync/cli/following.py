"""Follows a run for a command, to its end or to Ctrl-C. Runs on the caller's thread.

Ctrl-C asks once, in a terminal, whether to cancel the job, while the run goes on; a second one
leaves at once. Elsewhere nothing is asked: the command leaves, and the job goes on. SIGTERM and
SIGHUP let the callback that is running end.
"""

from __future__ import annotations

import contextlib
import select
import signal
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional

from arkor_sync._common.clock import Clock
from arkor_sync.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from arkor_sync.cli.event_lines import EventLines
    from arkor_sync.cli.output import Output
    from arkor_sync.cli.progress import Progress
    from arkor_sync.result import TrainingResult
    from arkor_sync.run import Run

_SLICE = 0.1  # seconds until a Ctrl-C is looked at
_CODES = {
    "completed": ExitCode.COMPLETED,
    "failed": ExitCode.FAILED,
    "cancelled": ExitCode.CANCELLED,
}

_ENDED_BY_SIGNAL: Dict[object, str] = {ExitCode.TERMINATED: "SIGTERM", ExitCode.HUNG_UP: "SIGHUP"}


def deadline_after(timeout: Optional[float]) -> Optional[float]:
    """Return when the time of `--timeout` is over, on `Clock.now`.

    Raises:
        ArkorUsageError: It is no number of seconds from 0.
    """
    from arkor_sync._common.arguments import check  # imports requests

    check("--timeout", timeout, timeout is None or timeout >= 0, "a number of seconds from 0")
    return None if timeout is None else Clock.now() + timeout


def exit_code(result: TrainingResult) -> ExitCode:
    """Return the exit code for how a job ended."""
    return _CODES.get(result.status, ExitCode.FAILED)


def tell(text: str, output: Output) -> None:
    """Tell what becomes of a job: with `--json` on standard error, because results are events."""
    (output.note if output.as_json else output.line)(text)


def tell_end(result: TrainingResult, output: Output) -> ExitCode:
    """Tell how a job ended, and return the exit code for it."""
    tell(str(result), output)
    return exit_code(result)


@contextlib.contextmanager
def noted_interrupts() -> Iterator[List[int]]:
    """Note a Ctrl-C instead of raising, so that the run goes on while the question is asked.

    A second one raises. It is to begin before a line says that the job is submitted or followed:
    whoever reads that line and presses Ctrl-C is to be asked.
    """
    pressed: List[int] = []

    def note(number: int, _: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    former = signal.getsignal(signal.SIGINT)
    if former in (signal.SIG_IGN, None):  # in the background of a script, or of another program
        yield pressed
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, former)


def wait_for_end(
    run: Run,
    deadline: Optional[float],
    pressed: List[int],
    *,
    progress: Optional[Progress] = None,
    lines: Optional[EventLines] = None,
    until: Callable[[], bool] = lambda: False,
    folder: Optional[Path] = None,
) -> Optional[TrainingResult]:
    """Wait for the end of a run.

    Args:
        run: The run.
        deadline: When `--timeout` is over, on `Clock.now`; None for no limit.
        pressed: Where a Ctrl-C is noted: `noted_interrupts` has given it, and goes on.
        progress: Where the question of a Ctrl-C is put; None to leave without a question.
        lines: The callback that prints the events, if one does.
        until: Asked again and again; once it returns true, the run is left without a word.
        folder: Where the user's callbacks are; the place of an error is looked for there.

    Returns:
        The result; None if `until` has ended it.

    Raises:
        KeyboardInterrupt: Ctrl-C, or two.
        SystemExit: SIGTERM or SIGHUP.
        WaitTimeout: The deadline has passed. The run is left, and the job goes on.
        OSError: The lines cannot be written.
        RunError: A callback ended the run; the text has its last line.
        ArkorError: The run cannot be followed.
    """
    from arkor_sync.errors import RunAborted, RunError, WaitTimeout, still_runs

    try:
        result = _wait(run, deadline, lambda: bool(pressed) or until())
        if result is None and pressed:
            result = _ask_and_leave(run, deadline, progress)
        return result
    except (SystemExit, WaitTimeout) as error:
        exits = isinstance(error, SystemExit) and error.code not in _ENDED_BY_SIGNAL
        if exits or (run.failure is not None and run.failure.error is error):
            raise _failure_of_a_callback(run, error, folder) from error
        code = error.code if isinstance(error, SystemExit) else None
        run.abort(_ENDED_BY_SIGNAL.get(code, "--timeout has passed"))
        run.close()
        raise
    except RunAborted as error:
        if lines is not None and lines.error is not None:
            raise lines.error from None
        # The log has said already that the job goes on.
        raise RunError(str(error).replace(f"; {still_runs(run.job.id)}", "")) from error
    except Exception as error:
        if run.failure is None or run.failure.error is not error or _is_closed_output(error):
            raise
        raise _failure_of_a_callback(run, error, folder) from error


def _wait(
    run: Run, deadline: Optional[float], until: Callable[[], bool]
) -> Optional[TrainingResult]:
    from arkor_sync.errors import WaitTimeout

    while not until():
        left = _SLICE if deadline is None else min(_SLICE, max(0.0, deadline - Clock.now()))
        try:
            return run.wait(left)
        except WaitTimeout:
            if run.done():  # just now; or a callback has raised it
                return run.wait()
            if deadline is not None and Clock.now() >= deadline:
                raise
    return None


def _ask_and_leave(
    run: Run, deadline: Optional[float], progress: Optional[Progress]
) -> TrainingResult:
    """Ask whether to cancel the job; return its result if so, or if it has ended meanwhile."""
    from arkor_sync.errors import ConflictError

    try:
        cancels = progress is not None and _confirms(run, progress)
    except KeyboardInterrupt:
        run.abort("Ctrl-C")
        raise
    if cancels:
        with contextlib.suppress(ConflictError):  # it has ended
            run.cancel()
    elif not run.done():
        run.abort("Ctrl-C")
        run.close()
        raise KeyboardInterrupt
    result = _wait(run, deadline, lambda: False)
    assert result is not None
    return result


def _confirms(run: Run, progress: Progress) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    question = f"\nCancel job {run.job.id} too? Else it goes on. [y/N] "
    with progress.asking(question):
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def _is_closed_output(error: Exception) -> bool:
    """Whether a callback has printed to a pipe that nobody reads any more, as in `| head`."""
    if not isinstance(error, BrokenPipeError) or not hasattr(select, "poll"):
        return False
    gone = select.poll()  # to flush would raise only if something has not been written yet
    with contextlib.suppress(OSError, ValueError):
        gone.register(sys.stdout.fileno(), 0)
    return bool(gone.poll(0))


def _failure_of_a_callback(run: Run, error: BaseException, folder: Optional[Path]) -> Exception:
    """Tell what a callback raised, in a line: what, where, and what became of the job.

    That the job goes on was said in the log, where that is so.
    """
    from arkor_sync.errors import RunError, still_runs, text_of
    from arkor_sync.manifest import place_of

    failure = run.failure
    name = "a callback" if failure is None else failure.callback
    step = None if failure is None else failure.event.step
    raised = f"{type(error).__name__}: {text_of(error)}"
    if isinstance(error, SystemExit):
        raised = f"sys.exit({error.code!r})"
    place = "" if folder is None else place_of(error, folder)
    text = f"{name} raised{'' if step is None else f' at step {step}'}: {raised}"
    if place:
        text += f" ({place})"
    if run.outcome is not None:
        text += f"; the job is {run.outcome.status}"
    elif still_runs(run.job.id) not in getattr(error, "__notes__", ()):
        text += "; the job is being cancelled"
    return RunError(text)
