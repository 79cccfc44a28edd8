"""What a program can do with the jobs and the clock of an emulator. Any thread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional, Union

from arkor_sync.emulator.clock import Clock, timestamp
from arkor_sync.emulator.engine.base import Engine
from arkor_sync.emulator.engine.sample import NAME
from arkor_sync.emulator.http.messages import ApiError, is_integer
from arkor_sync.emulator.inspection import Inspection
from arkor_sync.emulator.job_runner import JobRunner
from arkor_sync.emulator.models import AUTO_ID, TERMINAL_STATUSES
from arkor_sync.emulator.recording import save_recording
from arkor_sync.emulator.routes.job_validation import check_job
from arkor_sync.emulator.settings import Settings

DEFAULT_CONFIG = {
    "model": "unsloth/gemma-4-E4B-it",
    "datasetSource": {"type": "huggingface", "name": NAME},
}

# What `branch` can change, as `create_trainer` names it. The model and the shape of the adapter are
# those of the checkpoint.
CHANGES = (
    "max_steps",
    "num_train_epochs",
    "learning_rate",
    "batch_size",
    "optim",
    "lr_scheduler_type",
    "weight_decay",
    "warmup_steps",
    "logging_steps",
    "save_steps",
    "eval_steps",
    "train_on_responses_only",
    "dataset",
    "dataset_format",
    "dataset_split",
    "gpu_types",
    "dry_run",
)


class Control(Inspection):
    """The part of `Emulator` that acts on its jobs and its clock."""

    engine: Engine
    clock: Clock
    settings: Settings
    _runner: JobRunner

    def advance(self, seconds: float) -> None:
        """Move the virtual clock forward by so many seconds."""
        with self._store.condition:
            self.clock.advance(seconds)
            self._store.notify()

    def create_job(
        self,
        engine: Optional[Engine] = None,
        config: Optional[Dict[str, Any]] = None,
        *,
        name: str = "job",
    ) -> str:
        """Create a job without a request, in the project of `project_slug`, and start it.

        Args:
            engine: Trains it; the emulator's engine if left out.
            config: Its config; the model and the data set may be left out.
            name: Its name.

        Returns:
            Its id.
        """
        full = {**DEFAULT_CONFIG, **(config or {})}
        job = self._store.add_job(self._store.project, name, full, engine or self.engine)
        self._runner.start(job)
        return job.id

    def branch(self, job_id: str, step: int, *, name: Optional[str] = None, **changes: Any) -> str:
        """Create a job that starts from a checkpoint of another, in its project, and start it.

        Its config is that of the other job, with the changes, and `branchedFrom`.

        Args:
            job_id: The other job.
            step: The step of its checkpoint.
            name: The new job's name; that of the other job if left out.
            changes: Arguments of `create_trainer`, such as `learning_rate=1e-4`, in plain values:
                a number of steps or `{"steps": 10}`, a dataset as a request has it. None takes
                the default. The model and the adapter's shape cannot be changed.

        Returns:
            Its id.

        Raises:
            KeyError: There is no such job.
            ValueError: The job has no such checkpoint, its engine cannot start from one, or a
                change cannot work.
        """
        with self._store.condition:
            other = self._store.jobs.get(job_id)
            if other is None:
                raise KeyError(f"there is no job {job_id!r}")
            engine = type(other.engine).__name__
            if not other.engine.branches:
                raise ValueError(f"{engine} cannot start a job from a checkpoint")
            if engine != other.trained_by:
                raise ValueError(
                    f"the checkpoints of the job {job_id} are those of a {other.trained_by}, and "
                    f"its engine is a {engine} now"
                )
            if step not in other.saved_steps:
                steps = ", ".join(map(str, sorted(other.saved_steps))) or "none"
                raise ValueError(
                    f"the job {job_id} has no checkpoint at step {step!r}; there are: {steps}"
                )
            config = {**other.config, **_wire(changes)}
            config.pop("branchedFrom", None)
            config = {key: value for key, value in config.items() if value is not None}
            body = {"name": other.name if name is None else name, "config": config}
            try:
                name, config = check_job(body, strict_steps=self.settings.strict_steps)
            except ApiError as error:
                raise ValueError(str(error)) from None
            config["branchedFrom"] = {"jobId": job_id, "step": step}
            project = next(p for p in self._store.projects if p.id == other.project_id)
            job = self._store.add_job(project, name, config, other.engine)
        self._runner.start(job)
        return job.id

    def add_deployment(self, slug: str, target: Dict[str, Any], **fields: Any) -> str:
        """Add a deployment without a request, also one that only the cloud can make.

        Args:
            slug: The first part of its address.
            target: What it serves, also of a kind that the emulator does not know.
            fields: Other fields, by their names on the wire, such as `expiresAt`.

        Returns:
            Its id.
        """
        fields = {"authMode": "none", **fields, "target": target}
        return self._store.add_deployment(self._store.project, slug, fields).id

    def step(self, job_id: str, n: int = 1) -> int:
        """Publish the next `n` items of a job with a manual engine. Runs in the caller's thread.

        Returns:
            How many were published.
        """
        job = self._store.jobs[job_id]
        if not job.engine.manual:
            raise ValueError("the job's engine is not manual")
        return sum(self._runner.publish_next(job) for _ in range(n))

    def publish(self, job_id: str, event: Dict[str, Any], id: Optional[str] = AUTO_ID) -> None:
        """Append an event to a job's log, also if the job has ended.

        Args:
            job_id: The job.
            event: The event. `jobId` and `timestamp` are added if it has none.
            id: The event's id; the next number if left out, None for no id.
        """
        self._store.publish(self._store.jobs[job_id], (event, id))

    def publish_raw(self, job_id: str, data: bytes) -> None:
        """Append bytes to a job's stream, unchanged."""
        self._store.publish(self._store.jobs[job_id], data)

    def finish(
        self,
        job_id: str,
        status: Optional[str] = None,
        *,
        error: str = "failed",
        silent: bool = False,
    ) -> None:
        """End a job.

        Args:
            job_id: The job.
            status: `completed` and `failed` set the record and publish their event, then `end`.
                `cancelled` sets the record and publishes `end`. None only publishes `end`.
            error: The error text for `failed`.
            silent: Only set the record. The stream stays open and carries pings.
        """
        if status is not None and status not in TERMINAL_STATUSES:
            raise ValueError(f"not a terminal status: {status!r}")
        job = self._store.jobs[job_id]
        with self._store.condition:
            if status == "completed" and not silent:
                self.publish(job_id, {"type": "training.completed", "artifacts": []})
            elif status == "failed" and not silent:
                self.publish(job_id, {"type": "training.failed", "error": error, "step": job.step})
            elif status is not None:
                job.status, job.completed_at = status, timestamp()
                job.error = error if status == "failed" else None
            job.ended = job.ended or not silent
            self._store.save(job)
            self._store.notify()

    def save_recording(self, job_id: str, path: Union[str, Path]) -> None:
        """Write a job's stream to a file, without secrets.

        `ScriptedEngine(events=load_recording(path))` plays the file.
        """
        with self._store.condition:
            log = list(self._store.jobs[job_id].log)
        save_recording(path, log)


def _wire(changes: Dict[str, Any]) -> Dict[str, Any]:
    """Return the fields of a config that these arguments of `create_trainer` stand for."""
    unknown = sorted(set(changes) - set(CHANGES))
    if unknown:
        raise ValueError(f"{unknown[0]} cannot be changed; these can: {', '.join(CHANGES)}")
    wire = {}
    for name, value in changes.items():
        if name.endswith("_steps") and name != "max_steps" and is_integer(value):
            value = {"steps": value}
        try:
            value = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be a JSON value, not {value!r}") from None
        head, *rest = name.split("_")
        field = head + "".join(map(str.capitalize, rest))
        wire["datasetSource" if name == "dataset" else field] = value
    return wire
