"""Logs metrics to an MLflow tracking server or store. Runs on a thread of its own."""

from __future__ import annotations

import re
import time
from typing import Any, Dict, List, Mapping, Optional, Set

from arkor_sync._common.extras import import_extra
from arkor_sync.handlers.loggers.base import LibraryLogger, LogRow
from arkor_sync.render.text import parse_timestamp

JOB_TAG = "arkor.job_id"
"""The tag by which the MLflow run of a job is found again."""

_BATCH = 1000  # metrics in one request
_PARAMS = 100  # parameters in one request
_MAX_PARAM = 500  # characters of a parameter's value
_ENDED = {"completed": "FINISHED", "cancelled": "KILLED"}


class MLflowLogger(LibraryLogger):
    """Logs each run as an MLflow run, with the arguments of Lightning's MLflow logger.

    For its threads see `MetricsLogger`; metrics are sent in batches. The MLflow run has the tag
    `arkor.job_id`, by which a process that continues finds it; that process logs only what the
    MLflow run does not have yet. The MLflow run ends as `FINISHED`, as `KILLED` if the job was
    cancelled, or as `FAILED`. It needs the extra `mlflow`.

    Args:
        experiment_name: The experiment; it is made if it does not exist.
        run_name: The name of the MLflow run; by default the job's name.
        tracking_uri: The server or store; by default `MLFLOW_TRACKING_URI`, as MLflow has it.
        tags: More tags of the MLflow run.
        run_id: An existing MLflow run to log to. Give it only if the logger serves one job.
        flush_timeout: Seconds that the end of a run waits for the server.

    Raises:
        ArkorUsageError: MLflow is not installed.
        MlflowException: MLflow cannot open the store.
    """

    def __init__(
        self,
        experiment_name: str = "arkor",
        run_name: Optional[str] = None,
        tracking_uri: Optional[str] = None,
        tags: Optional[Mapping[str, str]] = None,
        run_id: Optional[str] = None,
        *,
        flush_timeout: float = 10.0,
    ) -> None:
        super().__init__(flush_timeout=flush_timeout)
        mlflow = import_extra("mlflow", "mlflow", "MLflowLogger")
        self._entities = import_extra("mlflow.entities", "mlflow", "MLflowLogger")
        self._client = mlflow.MlflowClient(tracking_uri=tracking_uri)
        self._experiment = experiment_name
        self._run_name = run_name
        self._tags = dict(tags or {})
        self._run_id = run_id
        self._ids: Dict[str, str] = {}
        # By job and metric: the steps that the MLflow run had when it was found.
        self._existing: Dict[str, Dict[str, Set[int]]] = {}

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Log the hyperparameters as MLflow's params."""
        run_id = self._open()
        entities = [
            self._entities.Param(_key(name), str(value)[:_MAX_PARAM])
            for name, value in params.items()
        ]
        for start in range(0, len(entities), _PARAMS):
            self._client.log_batch(run_id, params=entities[start : start + _PARAMS])

    def finalize(self, status: str) -> None:
        """End the MLflow run."""
        try:
            self._client.set_terminated(self._open(), _ENDED.get(status, "FAILED"))
        finally:
            self._ids.pop(self.job.id, None)
            self._existing.pop(self.job.id, None)

    def _log_rows(self, rows: List[LogRow]) -> None:
        run_id = self._open()
        metrics = []
        for row in rows:
            seconds = parse_timestamp(row.timestamp)
            when = int(1000 * (time.time() if seconds is None else seconds))
            metrics += [
                self._entities.Metric(name, float(value), when, row.step)
                for name, value in row.metrics.items()
                if row.step not in self._steps(run_id, name)
            ]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _steps(self, run_id: str, name: str) -> Set[int]:
        """Return the steps of a metric that the MLflow run had when it was found."""
        existing = self._existing.get(self.job.id)
        if existing is None:
            return set()
        if name not in existing:
            existing[name] = {m.step for m in self._client.get_metric_history(run_id, name)}
        return existing[name]

    def _open(self) -> str:
        """Find the MLflow run of `self.job`, or make one."""
        job = self.job
        if job.id not in self._ids:
            self._ids[job.id] = self._find() or self._create()
        return self._ids[job.id]

    def _find(self) -> Optional[str]:
        run_id = self._run_id
        if run_id is None:
            experiment = self._client.get_experiment_by_name(self._experiment)
            if experiment is None:
                return None
            query = f"tags.`{JOB_TAG}` = '{self.job.id}'"
            runs = self._client.search_runs([experiment.experiment_id], query, max_results=1)
            if not runs:
                return None
            run_id = str(runs[0].info.run_id)
        self._client.update_run(run_id, status="RUNNING")
        self._existing[self.job.id] = {}
        return run_id

    def _create(self) -> str:
        job = self.job
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            experiment_id = self._client.create_experiment(self._experiment)
        else:
            experiment_id = experiment.experiment_id
        tags = {JOB_TAG: job.id, **self._tags}
        name = self._run_name or job.name
        run = self._client.create_run(experiment_id, tags=tags, run_name=name)
        return str(run.info.run_id)


def _key(name: str) -> str:
    """Replace the characters that MLflow refuses: one bad name makes it refuse a whole batch."""
    return re.sub(r"[^\w .-]", "_", name, flags=re.ASCII)[:200]
