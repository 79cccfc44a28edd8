"""Which model an argument of `chat` names. Runs on the caller's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional

from arkor_sync._common.text import safe_line
from arkor_sync.cli.client import find_job, split_step
from arkor_sync.cli.job_history import read_events
from arkor_sync.cloud.chat_request import adapter_of
from arkor_sync.cloud.job_config import SUPPORTED_MODELS
from arkor_sync.cloud.models import JobStatus
from arkor_sync.errors import ArkorError, ArkorUsageError

if TYPE_CHECKING:
    from arkor_sync.cli.output import Output
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.errors import NotFoundError

_WITHOUT_MODEL = frozenset(JobStatus) - {JobStatus.COMPLETED}


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
        job = find_job(client, name, output)
    except ArkorUsageError as error:
        models = ", ".join(SUPPORTED_MODELS)
        raise ArkorUsageError(f"{error}; to talk to a base model give {models}") from None
    shown = safe_line(job.name)
    if step is not None:
        shown = f"{shown}@{step}"
    elif job.status in _WITHOUT_MODEL:
        raise ArkorUsageError(
            f"the job {shown!r} ({job.status}) has no final model"
            f"{_choice(shown, find_checkpoints(client, job.id))}"
        )
    return Target(shown, {"adapter": adapter_of(job, step)})


def explain_missing(client: CloudApiClient, target: Target, error: NotFoundError) -> ArkorError:
    """Return a clearer error for a checkpoint that does not exist, else the same error."""
    adapter = target.body.get("adapter", {})
    steps = find_checkpoints(client, adapter["jobId"]) if "step" in adapter else None
    if steps is None or adapter["step"] in steps:
        return error
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
