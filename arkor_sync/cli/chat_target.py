"""Which model an argument of `chat` or `deployments` names. Runs on the caller's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional

from arkor_sync._common.text import safe_line
from arkor_sync.cli.client import find_job, has_model, split_step
from arkor_sync.cli.job_history import read_events
from arkor_sync.cloud.chat_request import adapter_of
from arkor_sync.cloud.job_config import SUPPORTED_MODELS
from arkor_sync.errors import ArkorError, ArkorUsageError

if TYPE_CHECKING:
    from arkor_sync.cli.output import Output
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.errors import NotFoundError


class Target(NamedTuple):
    """A model to talk to.

    Attributes:
        name: How it is shown: the name of a job with the step of its checkpoint, or of a model.
        body: Its field in the body of a chat request, `adapter` or `baseModel`.
    """

    name: str
    body: Dict[str, Any]

    @property
    def arguments(self) -> Dict[str, Any]:
        """The arguments of `client.chat` that name it."""
        return {"adapter": self.body.get("adapter"), "base_model": self.body.get("baseModel")}


def find_target(client: CloudApiClient, text: str, output: Output) -> Target:
    """Return the model that an argument names.

    The name of a base model that can be trained stands for this model. Every other text is the id
    or the name of a job, with `@STEP` behind it for one of its checkpoints. A job whose own name is
    that of a model or ends as a step does can be given by its id.

    Args:
        client: Asks the cloud for the job.
        text: The argument.
        output: Tells which job it is, if several have the name.

    Raises:
        ArkorUsageError: There is no such job, or it has no final model.
    """
    if text in SUPPORTED_MODELS:
        return Target(text, {"baseModel": text})
    name, step = split_step(text)
    if name in SUPPORTED_MODELS:
        raise ArkorUsageError(
            f"{name} is a base model, which has no checkpoints; leave out @{step}"
        )
    try:
        job = find_job(client, name, output, with_model=step is None)
    except ArkorUsageError as error:
        models = ", ".join(SUPPORTED_MODELS)
        raise ArkorUsageError(f"{error}; to talk to a base model give {models}") from None
    return _adapter(client, job, step)


def find_adapter(client: CloudApiClient, text: str, output: Output) -> Target:
    """Return what a job has trained, as `JOB[@STEP]` names it; here a checkpoint has to exist.

    Args:
        client: Asks the cloud for the job, and for its checkpoints if the text names one.
        text: The id or the name of a job, with `@STEP` behind it for one of its checkpoints.
        output: Tells which job it is, if several have the name.

    Raises:
        ArkorUsageError: There is no such job or checkpoint, or the job has no final model.
    """
    name, step = split_step(text)
    target = _adapter(client, find_job(client, name, output), step)
    missing = _missing_checkpoint(client, target)
    if missing is not None:
        raise missing
    return target


def _adapter(client: CloudApiClient, job: TrainingJob, step: Optional[int]) -> Target:
    shown = safe_line(job.name)
    if step is not None:
        shown = f"{shown}@{step}"
    elif not has_model(job):
        raise ArkorUsageError(
            f"the job {shown!r} ({job.status}) has no final model"
            f"{_choice(shown, find_checkpoints(client, job.id))}"
        )
    return Target(shown, {"adapter": adapter_of(job, step)})


def explain_missing(client: CloudApiClient, target: Target, error: NotFoundError) -> ArkorError:
    """Return a clearer error for a checkpoint that does not exist, else the same error."""
    return _missing_checkpoint(client, target) or error


def _missing_checkpoint(client: CloudApiClient, target: Target) -> Optional[ArkorUsageError]:
    """Return an error if a target is a checkpoint that is known not to exist."""
    adapter = target.body.get("adapter", {})
    steps = find_checkpoints(client, adapter["jobId"]) if "step" in adapter else None
    if steps is None or adapter["step"] in steps:
        return None
    name, step = split_step(target.name)
    return ArkorUsageError(
        f"the job {name!r} has no checkpoint at step {step}{_choice(name, steps)}"
    )


def _choice(name: str, steps: Optional[List[int]]) -> str:
    if steps is None:
        return "; add @STEP for one of its checkpoints"
    if not steps:
        return "; it has no checkpoint until now"
    last = " (the last 10)" if len(steps) > 10 else ""
    return f"; its checkpoints{last}: {', '.join(f'{name}@{step}' for step in steps[-10:])}"


def find_checkpoints(client: CloudApiClient, job_id: str) -> Optional[List[int]]:
    """Return the steps of a job's checkpoints until now, or None if they cannot be read.

    No route lists them, but the event stream of a job begins with its first events.
    """
    try:
        run = read_events(client, client.jobs.get(job_id), lambda _: None)
    except ArkorError:
        return None
    return sorted(set(run.history.checkpoints))
