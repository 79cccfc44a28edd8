"""Questions to models: a conversation, and one prompt for all checkpoints. Any thread."""

from __future__ import annotations

import dataclasses
from threading import BoundedSemaphore
from typing import Any, Dict, List, Optional, Tuple, Union

from flask import Blueprint, Response, current_app, render_template, request

from arkor_sync._common.text import safe_line
from arkor_sync.cloud.job_config import SUPPORTED_MODELS
from arkor_sync.cloud.models import JobStatus, TrainingJob
from arkor_sync.errors import ArkorUsageError, text_of
from arkor_sync.studio.answers import LiveAnswer
from arkor_sync.studio.catching_up import read_tap
from arkor_sync.studio.questions import as_python, question_of
from arkor_sync.studio.state import studio

blueprint = Blueprint("playground", __name__)

MOST_ANSWERS = 4
"""How many answers are written at once: each holds a thread of the server."""

_MOST_JOBS = 200  # that can be chosen from a list
_PATIENCE = 5.0  # seconds for the past of a job
_SLOTS = "arkor_sync.studio.answers"

Refused = Tuple[Dict[str, str], int]


@blueprint.record
def _prepare(state: Any) -> None:
    state.app.extensions[_SLOTS] = BoundedSemaphore(MOST_ANSWERS)


@blueprint.get("/playground")
def page() -> str:
    """Show the playground, with the model of the URL chosen."""
    job_id, base = request.args.get("job"), request.args.get("base")
    jobs, problem = _jobs(job_id)
    return render_template(
        "playground.html",
        models=SUPPORTED_MODELS,
        jobs=jobs,
        problem=problem,
        chosen=f"job:{job_id}" if job_id else f"base:{base}" if base in SUPPORTED_MODELS else "",
        step=request.args.get("step", ""),
    )


@blueprint.get("/prompts")
def prompts() -> str:
    """Show the table of one prompt and all checkpoints of a job; without a job, choose one."""
    job_id = request.args.get("job")
    jobs, problem = _jobs(job_id)
    job = next((each for each in jobs if each.id == job_id), None)
    return render_template("prompts.html", jobs=jobs, job=job, problem=problem)


@blueprint.get("/playground/models")
def models() -> Dict[str, Any]:
    """Return what a job has trained until now."""
    job, steps = _trained(request.args.get("job", ""))
    return {
        "id": job.id,
        "name": safe_line(job.name, 80),
        "base": job.config["model"],
        "final": _has_model(job),
        "steps": steps,
    }


@blueprint.post("/chat")
def chat() -> Union[Response, Refused]:
    """Answer a question with a stream of lines of JSON; see `LiveAnswer`."""
    try:
        question = question_of(request.get_json())
    except ArkorUsageError as error:
        return {"error": text_of(error)}, 400
    slots = current_app.extensions[_SLOTS]
    if not slots.acquire(blocking=False):
        text = f"{MOST_ANSWERS} answers are being written at the moment; wait for one, or stop it"
        return {"error": text}, 429
    answer = LiveAnswer(studio().client, question)
    response = Response(answer.lines(), mimetype="application/jsonl")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(slots.release)
    response.call_on_close(answer.close)
    return response


@blueprint.post("/playground/python")
def python() -> Union[Dict[str, str], Refused]:
    """Return a program that asks a question."""
    try:
        return {"code": as_python(question_of(request.get_json()))}
    except ArkorUsageError as error:
        return {"error": text_of(error)}, 400


def _jobs(wanted: Optional[str]) -> Tuple[List[TrainingJob], Optional[str]]:
    """Return the newest jobs that may have trained something, and why there are none.

    A job that is wanted is one of them, also if it is older.
    """
    listing = studio().job_list.read()
    jobs = [job for job in listing.jobs if job.status != JobStatus.QUEUED][:_MOST_JOBS]
    if wanted and all(job.id != wanted for job in jobs):
        jobs.insert(0, studio().client.jobs.get(wanted))
    return [dataclasses.replace(job, name=safe_line(job.name, 80)) for job in jobs], listing.problem


def _trained(job_id: str) -> Tuple[TrainingJob, List[int]]:
    """Return a job, and the steps of its checkpoints until now."""
    tap = read_tap(job_id, _PATIENCE)
    return tap.job, tap.steps_saved


def _has_model(job: TrainingJob) -> bool:
    """Whether a job may have a final model: one in a state that is not known here may."""
    return job.status == JobStatus.COMPLETED or job.status not in frozenset(JobStatus)
