"""What a job has logged, as JSON and as CSV. Runs on the caller's thread."""

from __future__ import annotations

import json
from math import inf, isnan
from typing import TYPE_CHECKING, Any, Dict, Iterator, List

from flask import Blueprint, Response, abort, request

from arkor_sync.stream.events import METRICS
from arkor_sync.studio.event_log import iso
from arkor_sync.studio.points import AXES, curves, place
from arkor_sync.studio.state import studio

if TYPE_CHECKING:
    from arkor_sync.studio.tap import Tap

blueprint = Blueprint("series", __name__)

LARGEST = 40_000
"""Bytes of an answer with points."""

_POINTS = 1000  # of a curve, if not asked for otherwise
_MOST_POINTS = 2000
_CHECKPOINTS = 200  # in one answer; of more, some are left out
_ROWS = 500
_FURTHEST = 1 << 53  # row; no job has so many
_SEARCHED = 4000  # events that are looked at while nobody else can add or read any
_FIRST = 0.5  # seconds to wait for the first events of a job
_CSV = 2000  # lines that are written at once
_QUIET = 1.0  # seconds without news of a job that goes on: what there was has come


@blueprint.get("/jobs/<job_id>/points")
def points(job_id: str) -> Response:
    """Return the curves, at most `LARGEST` bytes of them."""
    axis = request.args.get("x", "step")
    if axis not in AXES:
        abort(400, f"x is one of {', '.join(AXES)}.")
    begin, end = _number("from", -inf), _number("to", inf)
    count = int(min(_MOST_POINTS, max(4, _number("count", _POINTS))))
    tap = studio().taps.tap(job_id)
    tap.wait_for_news(_FIRST)
    while True:
        with tap.lock:
            answer = _points(tap, axis, begin, end, count)
        text = _json(answer)
        if len(text) <= LARGEST or count <= 4:
            return Response(text, mimetype="application/json")
        count = max(4, count * (LARGEST - 4000) // len(text))


@blueprint.get("/jobs/<job_id>/rows")
def rows(job_id: str) -> Response:
    """Return a part of the list of events."""
    tap = studio().taps.tap(job_id)
    tap.wait_for_news(_FIRST)
    start = int(min(_FURTHEST, max(0, _number("from", 0))))
    stop = start + int(min(_ROWS, max(0, _number("count", 100))))
    text = request.args.get("filter", "").strip()
    found, all_searched = None, not text
    while not all_searched:
        with tap.lock:
            found, all_searched = tap.log.search(text, _SEARCHED)
    with tap.lock:
        total = len(tap.log)
        matching = total if found is None else len(found)
        indexes = range(start, min(stop, total)) if found is None else found[start:stop]
        listed = [vars(tap.log.row(index)) for index in indexes]
        generation = tap.generation
    answer = {"tap": generation, "total": total, "matching": matching, "rows": listed}
    return Response(_json(answer), mimetype="application/json")


@blueprint.get("/jobs/<job_id>/facts")
def facts(job_id: str) -> Dict[str, Any]:
    """Return how far a job is."""
    tap = studio().taps.tap(job_id)
    with tap.lock:
        job = tap.job
        return {
            "tap": tap.generation,
            "status": job.status,
            "error": tap.error,
            "name": job.name,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "completed_at": job.completed_at,
            "step": tap.step,
            "total_steps": tap.total_steps,
            "connection": tap.connection,
        }


@blueprint.get("/jobs/<job_id>/logs.csv")
def logs(job_id: str) -> Response:
    """Return all logs, for a spreadsheet. Those of a job that goes on end with the newest."""
    tap = studio().taps.tap(job_id)
    response = Response(_lines(tap), mimetype="text/csv")
    response.headers.set("Content-Disposition", "attachment", filename=f"{job_id}.csv")
    return response


def _points(tap: Tap, axis: str, begin: float, end: float, count: int) -> Dict[str, Any]:
    columns = tap.log.columns
    answer = {
        "tap": tap.generation,
        "next": len(tap.log),
        "total": len(columns),
        **curves(columns, axis, begin, end, count),
        "checkpoints": _checkpoints(tap, axis, begin, end),
        "statistics": {},
    }
    for name, spread in columns.spreads.items():
        summary = spread.summary(columns.steps)
        if summary is not None:
            answer["statistics"][name] = summary
    return answer


def _checkpoints(tap: Tap, axis: str, begin: float, end: float) -> List[List[float]]:
    """Return the step of each checkpoint in a part of the axis, and its place there.

    A checkpoint is where the log before it is, but for the steps, which it has itself.
    """
    places = tap.log.columns.axis(axis)
    found: List[List[float]] = []
    for each in tap.log.checkpoints:
        at = float(each.step) if axis == "step" else places[each.logs - 1] if each.logs else 0.0
        if begin <= at <= end:
            found.append([each.step, place(at, axis)])
    spare = -(-len(found) // _CHECKPOINTS)
    return found[::spare] if spare > 1 else found


def _lines(tap: Tap) -> Iterator[str]:
    columns = tap.log.columns
    yield ",".join(["timestamp", *METRICS]) + "\n"
    row = 0
    while True:
        with tap.lock:
            version, stop = tap.version, min(len(columns), row + _CSV)
            times = [iso(columns.moment(each)) or "" for each in range(row, stop)]
            values = columns.rows(row, stop)
            is_all = bool(tap.ended) and stop == row
        row = stop
        yield "".join(
            ",".join([time, *("" if cell is None else repr(cell) for cell in cells[:-1])]) + "\n"
            for time, cells in zip(times, values)
        )
        if is_all:
            return
        if not values and tap.wait(version, _QUIET) == version and tap.connection == "live":
            return


def _number(name: str, default: float) -> float:
    text = request.args.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = float("nan")
    if isnan(value):
        abort(400, f"{name} is a number.")
    return value


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
