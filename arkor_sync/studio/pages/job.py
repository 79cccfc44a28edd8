"""The page of one job, and what can be taken from it as a file. Runs on the caller's thread."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict

from flask import Blueprint, Response, render_template
from markupsafe import Markup

from arkor_sync._common.paths import file_name
from arkor_sync._common.text import safe_line, safe_text
from arkor_sync.handlers.display.report import report_page
from arkor_sync.render.chart import Chart, render_svg
from arkor_sync.render.hyperparams import flatten_hyperparams
from arkor_sync.render.job_facts import job_facts
from arkor_sync.render.rows import Row, Rows
from arkor_sync.studio.catching_up import read_tap
from arkor_sync.studio.points import curves
from arkor_sync.studio.state import studio

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.studio.tap import Tap

blueprint = Blueprint("job", __name__)

_STATIC = Path(__file__).parent.parent / "static"
_LONGEST = 10.0  # seconds to wait for all events of a job
_DRAWN = 4000  # points of a curve in a picture or a report
_SAVED = 100_000  # points of a curve in a saved run


@blueprint.get("/jobs/<job_id>")
def page(job_id: str) -> str:
    """Show the page."""
    shared = studio()
    tap = shared.taps.tap(job_id)
    # The stream may not yet tell of an end that the record has, as after a cancel.
    job = tap.job if tap.job.is_terminal else shared.client.jobs.get(job_id)
    return render_template(
        "job.html",
        job=job,
        checkpoints=tap.steps_saved,
        artifacts=[safe_line(json.dumps(each)) for each in tap.artifacts],
        **_shown(job),
    )


@blueprint.get("/jobs/<job_id>/chart.svg")
def chart(job_id: str) -> Response:
    """Draw the losses, for browsers without scripts and for texts."""
    tap = read_tap(job_id, _LONGEST)
    job = tap.job
    drawing = render_svg(Chart(job.name, job.status, _rows(tap), tap.steps_saved))
    return Response(drawing, mimetype="image/svg+xml")


@blueprint.get("/jobs/<job_id>/report.html")
def report(job_id: str) -> Response:
    """Return the report of a run, as a handler writes it."""
    tap = read_tap(job_id, _LONGEST)
    text = report_page(tap.job, None, None, _rows(tap), tap.steps_saved, {})
    return _download(text, tap.job, "report")


@blueprint.get("/jobs/<job_id>/saved.html")
def saved(job_id: str) -> Response:
    """Return a run as one file, which opens without a server and can still be zoomed."""
    tap = read_tap(job_id, _LONGEST)
    with tap.lock:
        total = len(tap.log.columns)
        series = curves(tap.log.columns, count=_SAVED)["series"]
    lines = [
        {"name": name, "x": series[metric][0], "y": series[metric][1], "color": color, "dots": dots}
        for metric, name, color, dots in (
            ("loss", "train loss", "--curve-1", False),
            ("eval_loss", "eval loss", "--curve-2", True),
        )
    ]
    shown = _shown(tap.job)
    facts = [(name, shown["facts"][key]) for key, name in _FACTS.items()]
    # Both are files of ours, and hold no text of anybody else.
    script = (_STATIC / "chart.js").read_text("utf-8") + (_STATIC / "saved.js").read_text("utf-8")
    style = (_STATIC / "studio.css").read_text("utf-8")
    text = render_template(
        "saved.html",
        **{**shown, "facts": [(name, value) for name, value in facts if value]},
        data={"curves": lines, "checkpoints": tap.steps_saved},
        reduced=f"{total:,}" if total > _SAVED else "",
        script=Markup(script),
        style=Markup(style),
        hashes={"script": _hash(script), "style": _hash(style)},
    )
    return _download(text, tap.job, "run")


_FACTS = {
    "id": "Id",
    "status": "Status",
    "model": "Model",
    "createdAt": "Created",
    "startedAt": "Started",
    "completedAt": "Ended",
    "duration": "Ran for",
}


def _shown(job: TrainingJob) -> Dict[str, Any]:
    """Return what all pages say of a job; all of it is safe to show, as text."""
    facts = job_facts(job)
    settings = [
        (safe_line(name), safe_text(value if isinstance(value, str) else json.dumps(value)))
        for name, value in flatten_hyperparams(job.config).items()
    ]
    error = facts["error"] or ""
    shown = {key: value and safe_line(value) for key, value in facts.items() if key in _FACTS}
    return {"name": safe_line(job.name), "error": error, "facts": shown, "settings": settings}


def _rows(tap: Tap) -> Rows:
    with tap.lock:
        series = curves(tap.log.columns, count=_DRAWN)["series"]
    rows: Rows = {}
    for name, points in series.items():
        for step, value in zip(*points):
            rows[step] = rows.get(step, Row())._replace(**{name: value})
    return rows


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _download(text: str, job: TrainingJob, kind: str) -> Response:
    response = Response(text, mimetype="text/html")
    name = f"{file_name(job.id)}-{kind}.html"
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response
