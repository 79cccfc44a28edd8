"""Logs metrics to Weights & Biases. Runs on a thread of its own."""

from __future__ import annotations

from typing import Any, Dict, Optional

from arkor_sync._common.extras import import_extra
from arkor_sync.handlers.loggers.base import LibraryLogger


class WandbLogger(LibraryLogger):
    """Logs each run as a W&B run, with arguments named as those of `wandb.init`.

    For its threads see `MetricsLogger`. W&B's own process sends the data; the end of a run waits
    for W&B's `finish` up to `flush_timeout`. The W&B run has the job's id, so a process that
    continues the job resumes it, and W&B itself drops a step that is logged again. The output of
    your program is not captured. It needs the extra `wandb`, and `WANDB_API_KEY`, `wandb login` or
    `WANDB_MODE=offline`.

    Args:
        project: The W&B project.
        name: The name of the W&B run; by default the job's name.
        id: The id of the W&B run; by default the job's id. Give it only if the logger serves one
            job.
        resume: As in `wandb.init`.
        flush_timeout: Seconds that the end of a run waits for W&B.

    Raises:
        ArkorUsageError: wandb is not installed.
    """

    def __init__(
        self,
        project: str = "arkor",
        name: Optional[str] = None,
        id: Optional[str] = None,
        resume: str = "allow",
        *,
        flush_timeout: float = 30.0,
    ) -> None:
        super().__init__(flush_timeout=flush_timeout)
        self._wandb = import_extra("wandb", "wandb", "WandbLogger")
        self._project = project
        self._name = name
        self._id = id
        self._resume = resume
        self._runs: Dict[str, Any] = {}

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Set the W&B run's config."""
        self._open().config.update(params, allow_val_change=True)

    def log_metrics(self, metrics: Dict[str, float], step: int) -> None:
        """Log the metrics. W&B joins metrics of the same step into one row."""
        self._open().log(metrics, step=step)

    def finalize(self, status: str) -> None:
        """Finish the W&B run."""
        run = self._runs.pop(self.job.id, None)
        if run is not None:
            run.summary["status"] = status
            run.finish(exit_code=0 if status == "completed" else 1)

    def _open(self) -> Any:
        job = self.job
        if job.id not in self._runs:
            self._runs[job.id] = self._wandb.init(
                project=self._project,
                name=self._name or job.name,
                id=self._id or job.id,
                resume=self._resume,
                reinit="create_new",  # other W&B runs of this process stay open
                settings=self._wandb.Settings(console="off", silent=True),
            )
        return self._runs[job.id]
