"""The page that compares jobs: curves, last values, settings. Runs on the caller's thread."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

from flask import Blueprint, Response, abort, render_template, request

from arkor_sync._common.text import safe_line
from arkor_sync.comparison import ComparedRun, Comparison
from arkor_sync.errors import NotFoundError
from arkor_sync.render.comparison import cell_text
from arkor_sync.render.hyperparams import differing_settings, flatten_hyperparams
from arkor_sync.render.job_facts import duration_of
from arkor_sync.studio.catching_up import read_taps
from arkor_sync.studio.points import curves
from arkor_sync.studio.state import studio

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.studio.tap import Tap

blueprint = Blueprint("compare", __name__)

FEWEST, MOST = 2, 8
METRICS = ("loss", "eval_loss")

_POINTS = 1000  # of a curve of a picture


@blueprint.get("/compare")
def page() -> Any:
    """Compare jobs."""
    ids = list(dict.fromkeys(filter(None, request.args.getlist("job"))))
    if not FEWEST <= len(ids) <= MOST:
        problem = (
            f"{FEWEST} to {MOST} jobs can be compared, and {len(ids) or 'none'} "
            f"{'is' if len(ids) == 1 else 'are'} chosen. Choose them in the list of jobs."
        )
        return render_template("compare.html", problem=problem), 400
    jobs, unknown = _find(ids)
    if unknown:
        told = ", ".join(safe_line(each, 80) for each in unknown)
        problem = f"This project has no job with the id {told}. It may be one of another project."
        return render_template("compare.html", problem=problem), 404
    taps = read_taps(ids)
    names = _names(jobs)
    runs = {metric: [*map(_run, taps, names, [metric] * len(taps))] for metric in METRICS}
    differing, settings = _settings(jobs)
    return render_template(
        "compare.html",
        problem=None,
        jobs=[
            {
                "id": job.id,
                "name": name,
                "status": safe_line(job.status, 40),
                "is_terminal": job.is_terminal,
                "duration": duration_of(job),
                "steps": tap.step,
                "runs": {metric: runs[metric][index] for metric in METRICS},
            }
            for index, (job, tap, name) in enumerate(zip(jobs, taps, names))
        ],
        metrics=[each for each in METRICS if any(run.best is not None for run in runs[each])],
        differing=differing,
        same=settings - len(differing),
    )


@blueprint.get("/compare/<metric>.svg")
def chart(metric: str) -> Response:
    """Return the curves as a picture, for a browser without scripts."""
    if metric not in METRICS:
        abort(404)
    ids = request.args.getlist("job")[:MOST]
    taps = read_taps(ids)
    names = _names([tap.job for tap in taps])
    runs = [_run(tap, name, metric) for tap, name in zip(taps, names)]
    picture = Comparison(metric, "min", tuple(runs)).svg()
    return Response(picture, mimetype="image/svg+xml")


def _find(ids: Sequence[str]) -> Tuple[List[TrainingJob], List[str]]:
    """Return the jobs, and the ids of those that there are not."""
    known = {job.id: job for job in studio().job_list.read().jobs}
    jobs, unknown = [], []
    for job_id in ids:
        try:
            jobs.append(known.get(job_id) or studio().client.jobs.get(job_id))
        except NotFoundError:
            unknown.append(job_id)
    return jobs, unknown


def _names(jobs: Sequence[TrainingJob]) -> List[str]:
    """Return a name for each job; those of the same name are told apart by their ids."""
    names = [safe_line(job.name, 80) for job in jobs]
    times = Counter(names)
    return [
        name if name and times[name] == 1 else f"{name} {safe_line(job.id, 80)}".strip()
        for name, job in zip(names, jobs)
    ]


def _run(tap: Tap, name: str, metric: str) -> ComparedRun:
    """Return what is compared of a job's metric."""
    with tap.lock:
        columns = tap.log.columns
        told = columns.spreads[metric].summary(columns.steps) or {}
        series = curves(columns, "step", -inf, inf, _POINTS)["series"]
        saved = [each.step for each in tap.log.checkpoints]
    best = told.get("best_step")
    xs, ys = series.get(metric, ((), ()))
    return ComparedRun(
        name=name,
        steps=tap.step,
        last=told.get("last"),
        best=told.get("best"),
        best_step=best,
        checkpoint=None
        if best is None
        else min(saved, key=lambda step: (abs(step - best), step), default=None),
        values=tuple((int(x), y) for x, y in zip(xs, ys) if y is not None),
    )


def _settings(jobs: Sequence[TrainingJob]) -> Tuple[Dict[str, List[str]], int]:
    """Return the settings that differ, as texts, and how many settings there are."""
    configs = [flatten_hyperparams(job.config) for job in jobs]
    differing = {
        safe_line(name, 200): [safe_line(cell_text(value), 300) for value in values]
        for name, values in differing_settings(configs).items()
    }
    return differing, len({name for config in configs for name in config})
