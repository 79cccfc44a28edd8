"""Reads all that has happened in a job so far. Runs on the caller's thread.

The stream of a job that has ended is read to its end. That of a job which goes on never ends, and
does not tell where the past ends: it is left when nothing has come for two seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional

from arkor_sync._common.clock import Clock

if TYPE_CHECKING:
    from arkor_sync.cli.output import Output
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.history import History
    from arkor_sync.result import TrainingResult
    from arkor_sync.run import Run
    from arkor_sync.stream.events import TrainingEvent

QUIET = 2.0
"""Seconds without an event after which all that a job has done so far has been read."""

LONGEST = 10.0
"""Seconds for which the stream of a job that goes on is read at most."""

_FAILURES = 4  # connections in a row, after which the command gives up
_POLL = 0.05  # seconds between two looks at the run


@dataclasses.dataclass(frozen=True)
class JobHistory:
    """What has happened in a job so far.

    Attributes:
        job: The job, as its last event left it.
        result: Its result; None while it goes on.
        history: All its logs and checkpoints.
    """

    job: TrainingJob
    result: Optional[TrainingResult]
    history: History


class Quiet:
    """Tells when an open stream has brought nothing new for a while.

    A cloud has then sent all that it had stored. No event marks that place, and a ping may come
    much later.

    Args:
        run: The run that reads the stream.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: object = None
        self._since = 0.0

    def __call__(self) -> bool:
        """Whether it is quiet now."""
        health, now = self._run.health(), Clock.now()
        seen = (health.delivered, health.duplicates, health.reconnects, health.queue_depth)
        if seen != self._seen or health.state != "streaming" or health.callback is not None:
            self._seen, self._since = seen, now
        return now - self._since >= QUIET


def read_events(
    client: CloudApiClient, job: TrainingJob, on_event: Callable[[TrainingEvent], Any]
) -> Run:
    """Call a function with every event of a job so far, in order.

    A connection that breaks is opened again, and no event comes twice. The last event of a job that
    has ended is always there: if the stream does not have it, it is made of the job's record.

    Args:
        client: Asks the cloud.
        job: The job.
        on_event: Called on another thread, with one event at a time. What it raises ends the
            reading, and is raised here.

    Returns:
        The run, which follows the job no more: see its `job`, `outcome` and `history`.

    Raises:
        ReconnectExhausted: The stream cannot be kept open.
        CloudApiError: The cloud refused the stream.
    """
    from arkor_sync.callbacks import Callbacks
    from arkor_sync.options import RunOptions
    from arkor_sync.run import Run
    from arkor_sync.stream.events import CALLBACK_NAMES, KNOWN
    from arkor_sync.stream.reconnect import ReconnectPolicy

    callbacks: Dict[str, Any] = {
        name: lambda ctx: on_event(ctx.event)
        for name, kind in CALLBACK_NAMES.items()
        if kind in KNOWN
    }
    options = RunOptions(
        callbacks=Callbacks(**callbacks),
        reconnect=ReconnectPolicy(max_attempts=_FAILURES),
    )
    since: Optional[float] = None  # when the stream was opened
    with _without_warnings_of_the_run(), Run(client, job, options).start() as run:
        is_quiet = Quiet(run)
        while not _has_ended(run):
            if since is None and run.health().state == "streaming":
                since = Clock.now()
            is_late = since is not None and Clock.now() - since >= LONGEST
            if not job.is_terminal and (is_late or is_quiet()):
                break
    return run


def read_history(client: CloudApiClient, job: TrainingJob, output: Output) -> JobHistory:
    """Read all logs and checkpoints of a job so far; say it, if the job goes on."""
    from arkor_sync._common.text import safe_line
    from arkor_sync.history import History

    history = History(limit=1 << 62, max_bytes=float("inf"))
    run = read_events(client, job, history.append)
    if run.outcome is None:
        name = safe_line(run.job.name)
        output.note(f"job {name!r} has not ended: this is what has come until now")
    return JobHistory(run.job, run.outcome, history)


@contextlib.contextmanager
def _without_warnings_of_the_run() -> Iterator[None]:
    """Hide that a job goes on without its run: a command that only reads it need not say so."""
    from arkor_sync._common.log import get_logger

    logger = get_logger("arkor_sync.run")
    logger.addFilter(_is_no_warning)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_warning)


def _is_no_warning(record: logging.LogRecord) -> bool:
    return record.levelno != logging.WARNING


def _has_ended(run: Run) -> bool:
    """Wait for the end of a run, for a moment; raise what ended it."""
    from arkor_sync.errors import WaitTimeout

    try:
        run.wait(_POLL)
    except WaitTimeout:
        return False
    return True
