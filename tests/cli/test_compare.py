"""Comparing jobs: names that differ, and the rows of the table."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from arkor_sync.cli.compare import compare_jobs
from arkor_sync.cli.job_history import JobHistory
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.errors import ArkorUsageError
from arkor_sync.history import History
from arkor_sync.stream.events import TrainingEvent


def told(job_id: str, name: str, *losses: float, **config: Any) -> JobHistory:
    """Make the history of a job that goes on."""
    record: Dict[str, Any] = {
        "id": job_id,
        "orgId": "o",
        "projectId": "p",
        "name": name,
        "status": "queued",
        "config": {"model": "m", **config},
        "createdAt": "2026-01-01T00:00:00Z",
    }
    history = History()
    for step, loss in enumerate(losses, 1):
        data = {"type": "training.log", "step": step, "loss": loss}
        history.append(TrainingEvent("training.log", data, str(step), key=step))
    return JobHistory(TrainingJob.from_dict(record), None, history)


def test_every_job_has_a_name_of_its_own() -> None:
    jobs = [("1", "a"), ("2", "a"), ("3", "b"), ("4", "\x1b[31m"), ("5", "value"), ("6", "b\n")]
    compared = compare_jobs([told(*job) for job in jobs], (), "min")
    assert compared.names == ["a 1", "a 2", "b 3", "4", "value 5", "b 6"]


def test_a_setting_may_be_named_as_a_result_is() -> None:
    jobs = [told("1", "a", 3.0, 1.0, 2.0, steps=7), told("2", "b", steps=8)]
    rows = compare_jobs(jobs, (), "min").rows()
    assert [(row["value"], row["a"], row["b"]) for row in rows] == [
        ("id", "1", "2"),
        ("status", "queued", "queued"),
        ("steps", 3, None),
        ("last loss", 2.0, None),
        ("best loss", 1.0, None),
        ("best loss step", 2, None),
        ("steps", 7, 8),
    ]


def test_secrets_and_what_is_the_same_are_no_settings_that_differ() -> None:
    one = told("1", "a", lora={"r": 8}, datasetSource={"token": "hf_one", "url": "https://a.test"})
    two = told("2", "b", lora={"r": 8}, datasetSource={"token": "hf_two", "url": "https://b.test"})
    compared = compare_jobs([one, two], ("loss",), "max")
    assert compared.settings == {"datasetSource.url": ["https://a.test", "https://b.test"]}
    assert "hf_" not in str(compared.to_json())


def test_a_metric_that_no_job_has_is_refused() -> None:
    with pytest.raises(ArkorUsageError, match="metric: got str 'los'"):
        compare_jobs([told("1", "a", 1.0), told("2", "b", 2.0)], ("los",), "min")
