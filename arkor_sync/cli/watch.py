"""Shows a list of jobs again and again, until Ctrl-C. Runs on the caller's thread."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Sequence, Tuple

from arkor_sync._common.text import counted, safe_line
from arkor_sync.cli.output import Output
from arkor_sync.render.job_facts import job_json, job_row

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob

    Read = Callable[[], List[TrainingJob]]

INTERVAL = 2.0
"""Seconds between two requests."""

_LINES = 24  # of a terminal that does not know its size
_COLUMNS = ("id", "name", "status", "created", "duration")

# Escape sequences of a terminal: to its first place; delete the line, and what is below.
_HOME, _LINE, _BELOW = "\x1b[H", "\x1b[2K", "\x1b[J"


def show_jobs(jobs: Sequence[TrainingJob], output: Output) -> None:
    """Show jobs as a table."""
    output.table([job_row(job, output.is_terminal) for job in jobs], _COLUMNS)


def watch_jobs(read: Read, output: Output) -> None:
    """Show jobs as they change: a table in a terminal, elsewhere a line for each change.

    A request that fails because the cloud cannot be reached is told, and made again. It ends with
    the `KeyboardInterrupt` of Ctrl-C.

    Args:
        read: Asks the cloud for the jobs.
        output: Where they are shown.
    """
    if output.is_terminal:
        _watch_in_terminal(read, output)
    else:
        _print_changes(read, output)


class _Page(io.StringIO):
    """What would be printed in a terminal."""

    def isatty(self) -> bool:
        return True


def _watch_in_terminal(read: Read, output: Output) -> None:
    jobs, problem = read(), ""
    try:
        with _other_screen(output):
            while True:
                told = f"{counted(len(jobs), 'job')} at {time.strftime('%H:%M:%S')}"
                page = _Page()
                with contextlib.redirect_stdout(page):
                    output.line(problem or f"{told}; Ctrl-C to leave")
                    show_jobs(jobs, output)
                height = os.get_terminal_size(sys.stdout.fileno()).lines or _LINES
                lines = page.getvalue().splitlines()[: height - 1]
                # Deleted before it is written: a line that is full keeps its last character.
                drawn = "".join(f"{_LINE}{line}\r\n" for line in lines)
                output.write(f"{_HOME}{drawn}{_BELOW}")
                time.sleep(INTERVAL)
                jobs, problem = _read_again(read, jobs)
    finally:
        show_jobs(jobs, output)  # they can still be read after the end


@contextlib.contextmanager
def _other_screen(output: Output) -> Iterator[None]:
    """Use the other screen of the terminal, without a cursor; a long line is cut.

    It is the one that `less` and `top` use. A terminal that is made narrower wraps the lines of the
    first one, and they could not be drawn over.
    """
    output.write("\x1b[?1049h\x1b[?25l\x1b[?7l")
    try:
        yield
    finally:
        output.write("\x1b[?7h\x1b[?25h\x1b[?1049l")


def _print_changes(read: Read, output: Output) -> None:
    jobs, told, problem = read(), "", ""
    shown: Dict[str, str] = {}
    while True:
        for job in reversed(jobs):  # the newest last, as in a log
            if shown.get(job.id) != job.status:
                shown[job.id] = job.status
                if output.as_json:
                    output.json(job_json(job))
                else:
                    show_jobs([job], output)
        if problem and problem != told:
            output.note(problem)
        told = problem
        time.sleep(INTERVAL)
        jobs, problem = _read_again(read, jobs)


def _read_again(read: Read, jobs: List[TrainingJob]) -> Tuple[List[TrainingJob], str]:
    """Return the jobs; if the cloud cannot be reached, those from before, and what went wrong."""
    from arkor_sync.errors import ArkorConnectionError, CloudApiError

    try:
        return read(), ""
    except (ArkorConnectionError, CloudApiError) as error:
        status = error.status if isinstance(error, CloudApiError) else 503
        if status != 429 and status < 500:
            raise
        return jobs, f"asking again; the cloud cannot be asked now: {safe_line(error)}"
