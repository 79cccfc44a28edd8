"""One stream for each tab, of all that it shows. Runs on the caller's thread.

A stream holds a thread of the server, so there are never more of them than threads less two; the
other tabs ask again and again. Where another program serves the pages, nobody knows how many
threads there are, and all tabs ask.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Iterator, List, Optional, Union

from flask import Blueprint, Response, abort, request

from arkor_sync._common.clock import Clock
from arkor_sync.errors import ArkorError
from arkor_sync.studio.state import Studio, studio
from arkor_sync.studio.tap import Bell, Tap

blueprint = Blueprint("live", __name__)

MOST_LOGS = 1000
"""Logs in one message. If more are new, the page is told to get the points again."""

_MOST_TOPICS = 50
_BEAT = 15.0  # seconds between two signs of life
_LOOK = 1.0  # seconds between two looks at whether the browser is still there
_LEAST = 0.1  # seconds between two messages, so that a burst becomes few
_LISTED = 2.0  # seconds between two looks at the list of jobs
_BEAT_LINE = b": \n\n"
_DIGITS = 16  # of a position
_OF_A_JOB = ("id", "name", "status", "created_at", "started_at", "completed_at")

Message = Dict[str, Any]


class JobTopic:
    """What is new of one job.

    Args:
        shared: What the pages share.
        job_id: The job.
        index: The number of the first event that the page does not have.
    """

    def __init__(self, shared: Studio, job_id: str, index: int) -> None:
        self._taps = shared.taps
        self._job_id = job_id
        self._index = index
        self._told: object = None

    def message(self) -> Optional[Message]:
        """Return what has changed since the last one; None if nothing has."""
        tap = self._taps.tap(self._job_id)
        with tap.lock:
            message = self._message(tap)
        told = {**message, "logs": None, "checkpoints": None, "jump": None}
        if told == self._told:
            return None
        self._told, self._index = told, message["next"]
        return message

    def _message(self, tap: Tap) -> Message:
        log, index = tap.log, self._index
        total = len(log)
        if total < index and not tap.ended:
            total = index  # this server has not read so far yet: the page waits for it
        first, last = (log.logs_before(min(each, len(log))) for each in (index, total))
        jump = total < index or last - first > MOST_LOGS
        saved = [each for each in tap.checkpoints if index <= each.index < total]
        return {
            "topic": f"job:{self._job_id}",
            "tap": tap.generation,
            "next": total,
            "status": tap.job.status,
            "error": tap.error,
            "step": tap.step,
            "total_steps": tap.total_steps,
            "connection": tap.connection,
            "logs": [] if jump else log.columns.rows(first, last),
            "checkpoints": [[each.step, *log.columns.place(each.logs - 1)] for each in saved],
            "jump": jump,
        }


class JobsTopic:
    """What is new in the list of jobs.

    Args:
        shared: What the pages share.
        version: That of the list that the page has.
    """

    def __init__(self, shared: Studio, version: int) -> None:
        self._list = shared.job_list
        self._version = version
        self._due = 0.0

    def message(self) -> Optional[Message]:
        """Return the jobs that have changed since the last one; None if none has."""
        if Clock.now() < self._due:
            return None
        listing = self._list.read()
        self._due = Clock.now() + _LISTED
        if listing.version == self._version:
            return None
        jobs = listing.changed_since(self._version)
        self._version = listing.version
        return {
            "topic": "jobs",
            "next": listing.version,
            "changed": [{name: getattr(job, name) for name in _OF_A_JOB} for job in jobs],
        }


Topic = Union[JobTopic, JobsTopic]


@blueprint.get("/live")
def stream() -> Response:
    """Send what is new of all that a tab shows: as a stream, or at once with `poll=1`."""
    shared = studio()
    topics = [_topic(shared, text) for text in request.args.getlist("watch")[:_MOST_TOPICS]]
    messages = [message for message in (each.message() for each in topics) if message is not None]
    if request.args.get("poll"):
        return Response(json.dumps(messages), mimetype="application/json")
    if not shared.local or not shared.streams.acquire(blocking=False):
        abort(429, "All streams are taken: ask again and again, with poll=1.")
    is_gone = request.environ.get("waitress.client_disconnected", lambda: False)
    events = _events(topics, messages, shared.taps.bell, is_gone)
    response = Response(_Body(events, shared.streams.release), mimetype="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    return response


class _Body:
    """The body of a stream, whose slot is free when the server closes it, begun or not."""

    def __init__(self, events: Iterator[bytes], free: Callable[[], None]) -> None:
        self._events = events
        self._free: Optional[Callable[[], None]] = free

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            free()


def _events(
    topics: List[Topic], messages: List[Message], bell: Bell, is_gone: Callable[[], bool]
) -> Iterator[bytes]:
    """Write what is new until the browser has gone, or the application closes."""
    yield _BEAT_LINE
    beat = Clock.now()
    rung = -1
    while not bell.closed and not is_gone():
        if messages:
            yield "".join(f"data: {json.dumps(each)}\n\n" for each in messages).encode()
            beat = Clock.now()
            bell.pause(_LEAST)
        elif Clock.now() - beat >= _BEAT:
            yield _BEAT_LINE
            beat = Clock.now()
        bell.wait(rung, _LOOK)
        rung = bell.rung
        try:
            found = [each.message() for each in topics]
        except ArkorError:
            return  # the browser asks again, and is told what is wrong
        messages = [each for each in found if each is not None]


def _topic(shared: Studio, text: str) -> Topic:
    """Return a topic: `job:<id>:<next>` or `jobs:<version>`."""
    name, _, position = text.rpartition(":")
    kind, _, job_id = name.partition(":")
    is_number = position.isascii() and position.isdigit() and len(position) <= _DIGITS
    if is_number and kind == "job" and job_id:
        return JobTopic(shared, job_id, int(position))
    if not is_number or name != "jobs":
        abort(400, "A topic is job:<id>:<next> or jobs:<version>.")
    return JobsTopic(shared, int(position))
