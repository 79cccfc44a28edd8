"""What happened to a job and to its stream, as one timeline in plain words. Pure."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from arkor_sync._common.secret import redact
from arkor_sync._common.text import safe_text
from arkor_sync.render.text import parse_timestamp
from arkor_sync.stream import events
from arkor_sync.studio.event_log import iso

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.studio.event_log import EventLog, Row
    from arkor_sync.studio.points import Columns
    from arkor_sync.studio.tap import Moment

KINDS = {
    "record": "The job's record",
    "event": "Its events",
    "logs": "Its logs",
    "stream": "The stream, and what was decided",
}

_LONGEST = 2000  # characters of an error

_WORDS = {
    events.STARTED: "The training started",
    events.COMPLETED: "The training completed",
    events.FAILED: "The training failed",
    events.CANCELLED: "The training was cancelled",
}


class Entry(NamedTuple):
    """Something that happened.

    Attributes:
        time: When, in seconds since 1970.
        kind: One of `KINDS`.
        text: What.
        is_problem: Whether it is one.
    """

    time: float
    kind: str
    text: str
    is_problem: bool = False

    @property
    def iso(self) -> Optional[str]:
        """The time as ISO 8601; None if it is not known."""
        return iso(self.time) if self.time else None


def tell(job: TrainingJob, log: EventLog, moments: Iterable[Moment]) -> List[Entry]:
    """Return all that happened, the newest last. Nobody may change the log meanwhile.

    Args:
        job: The job's record.
        log: Its events.
        moments: What happened to the reading of its stream.
    """
    moments = list(moments)
    begin, end = _of_record(job)
    entries = [*begin, *_of_events(log, moments), *end, *_of_stream(moments)]
    return sorted(entries, key=attrgetter("time"))


def _of_record(job: TrainingJob) -> Tuple[List[Entry], List[Entry]]:
    """Return what the record says of the job's begin, and of its end."""
    created = parse_timestamp(job.created_at) or 0.0
    begin = [Entry(created, "record", f"The job was created: {job.config.get('model')}")]
    if job.started_at is not None:
        started = parse_timestamp(job.started_at) or created
        begin.append(Entry(started, "record", "The record says that it started"))
    if not job.is_terminal:
        return begin, []
    text = f"The record says that it is {job.status}"
    if job.error:
        text = f"{text}: {safe_text(redact(job.error), _LONGEST)}"
    ended = parse_timestamp(job.completed_at or "") or created
    return begin, [Entry(ended, "record", text, job.status == "failed")]


def _of_events(log: EventLog, moments: List[Moment]) -> Iterator[Entry]:
    """Yield the events; the logs between two of them, or two moments, are one entry."""
    others = log.others
    columns = log.columns
    places = {log.logs_before(row.index) for row in others}
    if columns.started is not None:
        times = columns.axis("time")
        places.update(bisect_left(times, each.time - columns.started) for each in moments)
    ends = iter(sorted({*places, len(columns)} - {0}))
    begin, end, last = 0, next(ends, 0), 0.0
    for row in [*others, None]:
        stop = len(columns) if row is None else log.logs_before(row.index)
        while begin < end <= stop:
            last = max(last, columns.moment(begin) or 0.0)
            yield Entry(last, "logs", _of_logs(columns, begin, end))
            begin, end = end, next(ends, 0)
        if row is not None:
            last = max(last, parse_timestamp(row.time or "") or 0.0)
            yield Entry(last, "event", *_of_row(row))


def _of_logs(columns: Columns, begin: int, end: int) -> str:
    steps, losses = columns.steps, columns.series["loss"].values
    text = f"{end - begin:,} logs, steps {steps[begin]:,.0f} to {steps[end - 1]:,.0f}"
    if end - begin == 1:
        text = f"1 log, step {steps[begin]:,.0f}"
    shown = [f"{losses[row]:.4f}" for row in sorted({begin, end - 1}) if losses[row] == losses[row]]
    return f"{text}, loss {' to '.join(shown)}" if shown else text


def _of_row(row: Row) -> Tuple[str, bool]:
    is_problem = row.type == events.FAILED or bool(row.text and row.type != events.CHECKPOINT)
    text = _WORDS.get(row.type, f"An event of the type {row.type or 'that it does not name'}")
    if row.type == events.CHECKPOINT:
        text = f"The checkpoint at step {row.step} was saved"
    return (f"{text}: {row.text}" if row.text else text), is_problem


def _of_stream(moments: List[Moment]) -> Iterator[Entry]:
    lost_at: Optional[float] = None
    failures = 0
    for each in moments:
        if each.kind == "lost":
            failures += 1
            what = "The stream was cut" if lost_at is None else "The next attempt failed"
            lost_at = lost_at or each.time
            yield Entry(each.time, "stream", f"{what}: {each.text}", True)
        elif each.kind == "connected" and lost_at is not None:
            tries = f" at attempt {failures}" if failures > 1 else ""
            text = f"Connected again{tries} after {max(0.0, each.time - lost_at):.1f} s"
            yield Entry(each.time, "stream", f"{text}; the stream went on, nothing was lost")
            lost_at, failures = None, 0
        elif each.kind == "connected":
            yield Entry(each.time, "stream", "Studio opened the stream, to read it from its start")
        elif each.kind == "problem":
            yield Entry(each.time, "stream", f"Left out: {each.text}", True)
        else:
            yield Entry(each.time, "stream", f"Studio stopped reading: {each.text}")
