"""Metrics to an MLflow tracking server or store. The logger's own threads talk to it."""

from __future__ import annotations

import re
import time
from typing import Any, Dict, List, Mapping, Optional, Set

from arkor_sync.handlers._shared.safety import load
from arkor_sync.handlers.loggers.base import MetricsLogger, Row
from arkor_sync.render.text import moment

JOB_TAG = "arkor.job_id"
"""The tag by which a job's MLflow run is found again."""

_BATCH = 1000  # metrics in one request
_PARAMS = 100
_LONGEST = 500  # characters of a parameter's value
_ENDED = {"completed": "FINISHED", "cancelled": "KILLED"}


class MLflowLogger(MetricsLogger):
    """Logs each run as an MLflow run, with Lightning's arguments.

    It runs as `MetricsLogger` says, in batches. The MLflow run has the tag `arkor.job_id`: by it a
    process that carries on finds the run, and logs what that does not have yet. It ends as
    `FINISHED`, `KILLED` where the job was cancelled, or `FAILED`. It needs the extra `mlflow`.

    Args:
        experiment_name: Made on demand.
        run_name: By default the job's name.
        tracking_uri: By default MLflow's own: `MLFLOW_TRACKING_URI`.
        tags: More tags of the run.
        run_id: An MLflow run to log to, instead of one that is made. It is for one job.
        flush_timeout: Seconds that the end of a run waits for the server.

    Raises:
        ArkorUsageError: MLflow is not installed.
        MlflowException: It has no such store.
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
        mlflow = load("mlflow", "mlflow", "MLflowLogger")
        self._entities = load("mlflow.entities", "mlflow", "MLflowLogger")
        self._client = mlflow.MlflowClient(tracking_uri=tracking_uri)
        self._experiment = experiment_name
        self._run_name = run_name
        self._tags = dict(tags or {})
        self._run_id = run_id
        self._ids: Dict[str, str] = {}
        self._there: Dict[str, Dict[str, Set[int]]] = {}  # by job and metric: the steps it has

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Log the hyperparameters as MLflow's params."""
        run_id = self._open()
        given = [
            self._entities.Param(_key(name), str(value)[:_LONGEST])
            for name, value in params.items()
        ]
        for start in range(0, len(given), _PARAMS):
            self._client.log_batch(run_id, params=given[start : start + _PARAMS])

    def finalize(self, status: str) -> None:
        """End the MLflow run."""
        try:
            self._client.set_terminated(self._open(), _ENDED.get(status, "FAILED"))
        finally:
            self._ids.pop(self.job.id, None)
            self._there.pop(self.job.id, None)

    def _log_rows(self, rows: List[Row]) -> None:
        run_id = self._open()
        metrics = []
        for row in rows:
            seconds = moment(row.timestamp)
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
        there = self._there.get(self.job.id)
        if there is None:
            return set()
        if name not in there:
            there[name] = {m.step for m in self._client.get_metric_history(run_id, name)}
        return there[name]

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
            which = f"tags.`{JOB_TAG}` = '{self.job.id}'"
            runs = self._client.search_runs([experiment.experiment_id], which, max_results=1)
            if not runs:
                return None
            run_id = str(runs[0].info.run_id)
        self._client.update_run(run_id, status="RUNNING")
        self._there[self.job.id] = {}
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
    """Make a name that MLflow takes: it refuses all that come with one that it does not."""
    return re.sub(r"[^\w .-]", "_", name, flags=re.ASCII)[:200]
