"""Compares jobs: how they ended, and which of their settings differ. Any thread."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Sequence

from arkor_sync._common.text import safe_line
from arkor_sync.render.job_facts import duration_of, seconds_of

if TYPE_CHECKING:
    from arkor_sync.cli.job_history import JobHistory

TITLE = "value"
"""The first column of the table: what its row shows."""

_TITLES = {
    "id": "id",
    "status": "status",
    "error": "error",
    "duration": "duration",
    "steps": "steps",
    "finalLoss": "final loss",
}
_METRIC_TITLES = {
    "last": "last {}",
    "best": "best {}",
    "bestStep": "best {} step",
    "checkpoint": "best {} checkpoint",
}


@dataclasses.dataclass(frozen=True)
class ComparedJobs:
    """Several jobs, compared.

    Attributes:
        names: A name for each job, and no two are the same.
        jobs: What is known of each job, as JSON.
        settings: The values of each setting that differs, in the order of the jobs; None where a
            job does not have it.
    """

    names: List[str]
    jobs: List[Dict[str, Any]]
    settings: Dict[str, List[Any]]

    def to_json(self) -> Dict[str, Any]:
        """Return all of it as JSON."""
        return {"jobs": self.jobs, "settings": self.settings}

    def rows(self) -> List[Dict[str, Any]]:
        """Return the rows of a table: a column with what they show, and one for each job."""
        table = [(title, [job[name] for job in self.jobs]) for name, title in _TITLES.items()]
        for metric in self.jobs[0]["metrics"]:
            for name, title in _METRIC_TITLES.items():
                values = [job["metrics"][metric][name] for job in self.jobs]
                table.append((title.format(metric), values))
        return [
            {TITLE: title, **dict(zip(self.names, values))}
            for title, values in [*table, *self.settings.items()]
            if any(value is not None for value in values)
        ]


def compare_jobs(
    histories: Sequence[JobHistory], metrics: Sequence[str], mode: Literal["min", "max"]
) -> ComparedJobs:
    """Compare jobs.

    Args:
        histories: What has happened in each.
        metrics: The metrics to compare; if there are none, `loss`, and `eval_loss` if a job has it.
        mode: Whether the lowest or the highest value is the best.

    Raises:
        ArkorUsageError: No job has a metric of this name.
    """
    from arkor_sync.history import History
    from arkor_sync.render.hyperparams import differing_settings, flatten_hyperparams

    if not metrics:
        evaluated = any(each.history.metric("eval_loss") for each in histories)
        metrics = ["loss", "eval_loss"] if evaluated else ["loss"]
    names = _names(histories)
    jobs = [_facts(each) for each in histories]
    by_name = {name: each.history for name, each in zip(names, histories)}
    for metric in metrics:
        for job, run in zip(jobs, History.compare(by_name, metric, mode).runs):
            job["steps"] = run.steps
            job["metrics"][metric] = {
                "last": run.last,
                "best": run.best,
                "bestStep": run.best_step,
                "checkpoint": run.checkpoint,
            }
    configs = [flatten_hyperparams(each.job.config) for each in histories]
    return ComparedJobs(names, jobs, differing_settings(configs))


def _names(histories: Sequence[JobHistory]) -> List[str]:
    names = [safe_line(each.job.name, 60) for each in histories]
    ids = [safe_line(each.job.id, 60) for each in histories]
    return [
        name if name not in ("", TITLE) and names.count(name) == 1 else f"{name} {job_id}".strip()
        for name, job_id in zip(names, ids)
    ]


def _facts(each: JobHistory) -> Dict[str, Any]:
    from arkor_sync.render.outcome import describe_outcome

    result = each.result
    return {
        "id": each.job.id,
        "name": each.job.name,
        "status": each.job.status,
        "error": describe_outcome(each.job, None, None)[1] or None,
        "seconds": seconds_of(each.job),
        "duration": duration_of(each.job),
        "steps": None,
        "finalLoss": None if result is None else result.metrics.final_loss,
        "metrics": {},
    }
