"""What an endpoint can serve: models of jobs, their checkpoints, and base models. Any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Mapping, Optional, Sequence, Tuple

from arkor_sync._common.arguments import refusal
from arkor_sync.cloud.deployment_models import AdapterTarget, BaseModelTarget
from arkor_sync.cloud.job_config import SUPPORTED_MODELS
from arkor_sync.studio.catching_up import read_tap
from arkor_sync.studio.state import studio

if TYPE_CHECKING:
    from arkor_sync.cloud.deployment_models import DeploymentTarget
    from arkor_sync.cloud.models import TrainingJob

_SHOWN = 200  # jobs to choose from: the newest
_JOB, _MODEL = "job:", "model:"


@dataclass(frozen=True)
class Choices:
    """What can be chosen.

    Attributes:
        jobs: The newest jobs that may have a model.
        names: The names of all jobs, by id.
        older: How many jobs are too old to be offered. The page of a job offers it.
        models: The base models.
        chosen: The job whose model is chosen; None if there is none.
        steps: Its checkpoints.
        problem: Why the jobs cannot be listed, or None.
    """

    jobs: List[TrainingJob]
    names: Mapping[str, str]
    older: int
    models: Tuple[str, ...]
    chosen: Optional[TrainingJob]
    steps: List[int]
    problem: Optional[str]

    def name_of(self, target: DeploymentTarget) -> str:
        """Say what a target is, for people to read."""
        if isinstance(target, AdapterTarget):
            part = "final model" if target.step is None else f"checkpoint at step {target.step}"
            return f"{self.names.get(target.job_id, target.job_id)}, {part}"
        if isinstance(target, BaseModelTarget):
            return target.base_model
        return f"something of the kind {target.kind}"


def choices(value: str) -> Choices:
    """List what can be chosen.

    Args:
        value: What the form has chosen so far: `job:ID`, `model:NAME`, or nothing.
    """
    listing = studio().job_list.read()
    jobs = sorted(listing.jobs, key=lambda job: job.created_at, reverse=True)
    able = [job for job in jobs if job.status != "queued"]
    chosen = _job_of(value, jobs)
    shown = able[:_SHOWN]
    if chosen is not None and chosen not in shown:
        shown.append(chosen)
    return Choices(
        jobs=shown,
        names={job.id: job.name for job in jobs},
        older=max(0, len(able) - _SHOWN),
        models=SUPPORTED_MODELS,
        chosen=chosen,
        steps=[] if chosen is None else steps_of(chosen.id),
        problem=listing.problem,
    )


def read_target(form: Mapping[str, str]) -> DeploymentTarget:
    """Return the target that a form has chosen.

    Args:
        form: Has `target`, `job:ID` or `model:NAME`; `step`, empty for the final model; and
            `steps_of`, the target whose steps the form has offered.

    Raises:
        ArkorUsageError: Nothing was chosen, or what cannot be served.
    """
    value, step = form.get("target", ""), form.get("step", "")
    if value.startswith(_MODEL):
        return BaseModelTarget(value[len(_MODEL) :])
    if not value.startswith(_JOB):
        raise refusal("what it serves", None, "a job or a base model", got="nothing")
    job_id = value[len(_JOB) :]
    if step and form.get("steps_of") == value and step.isdecimal():
        return AdapterTarget.checkpoint(job_id, int(step))
    job = _job_of(value, studio().job_list.read().jobs)
    if step or (job is not None and job.status != "completed"):
        had = f"step {step}, which was shown for another job" if step else "its final model"
        wanted = "one of the checkpoints that are shown now: only a completed job has a final model"
        raise refusal("what it serves", None, wanted, got=had)
    return AdapterTarget.final(job_id)


def steps_of(job_id: str) -> List[int]:
    """Return the steps of a job's checkpoints that are known by now."""
    return read_tap(job_id).steps_saved


def _job_of(value: str, jobs: Sequence[TrainingJob]) -> Optional[TrainingJob]:
    """Return the job of a form's value; None for a base model or an unknown job."""
    return next((job for job in jobs if _JOB + job.id == value), None)
