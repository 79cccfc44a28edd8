"""MLflow, over its store of files, and over a server that is not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from mlflow import MlflowClient

from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import MLflowLogger
from support.logger_contexts import a_job, end, log, started
from support.logger_runs import EVENTS, at, drain, each_event_twice, train

pytestmark = [
    # MLflow's own use of pydantic and of codecs.open, and its farewell to the store of files.
    pytest.mark.filterwarnings(r"ignore:codecs\.open\(\) is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pydantic"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]


@pytest.fixture(autouse=True)
def _of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def store(tmp_path: Path) -> str:
    return (tmp_path / "mlruns").as_uri()


def runs_in(store: str, experiment: str = "arkor") -> List[Any]:
    client = MlflowClient(tracking_uri=store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time"]))


def points_of(store: str, run: Any) -> List[Tuple[str, int, float]]:
    client = MlflowClient(tracking_uri=store)
    return sorted(
        (name, point.step, point.value)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    )


WHOLE = [
    ("eval_loss", 1, 3.125),
    ("eval_loss", 3, 2.25),
    ("gradNorm", 1, 0.5),
    ("learning_rate", 1, 0.001),
    ("loss", 1, 3.0),
    ("loss", 2, 2.5),
    ("loss", 3, 2.0),
]


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_run_is_an_mlflow_run(arkor_client: Any, store: str) -> None:
    logger = MLflowLogger("triage", "first try", store, {"team": "support"})
    job = train(arkor_client, each_event_twice(logger)).job
    [run] = runs_in(store, "triage")
    assert points_of(store, run) == WHOLE
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first try"
    assert run.data.tags["team"] == "support"
    assert run.data.tags["arkor.job_id"] == job.id
    assert run.data.params["maxSteps"] == "3"
    assert "s3cret" not in json.dumps(run.data.params)
    assert logger._ids == {}


@pytest.mark.parametrize(
    ("engine", "status"),
    [
        pytest.param(
            "failed", "FAILED", marks=pytest.mark.arkor(engine=ScriptedEngine(fails_at=2))
        ),
        pytest.param(
            "cancelled", "KILLED", marks=pytest.mark.arkor(engine=ScriptedEngine(silent_at=2))
        ),
    ],
)
def test_how_a_run_ended_is_its_status(
    arkor_client: Any, store: str, engine: str, status: str
) -> None:
    def stop(ctx: Any) -> None:
        if engine == "cancelled":
            ctx.run.stop("enough")

    train(arkor_client, [MLflowLogger(tracking_uri=store), {"on_log": stop}])
    [run] = runs_in(store)
    assert run.info.status == status


def test_points_have_the_time_of_their_event(store: str) -> None:
    logger = MLflowLogger(tracking_uri=store)
    logger.on_log(log(1, loss=1.0))
    logger.on_end(end())
    [run] = runs_in(store)
    [point] = MlflowClient(tracking_uri=store).get_metric_history(run.info.run_id, "loss")
    assert point.timestamp == 1767225601500


@pytest.mark.parametrize("given", [False, True])
def test_a_process_that_carries_on_finds_the_mlflow_run_and_repeats_nothing(
    store: str, given: bool
) -> None:
    first = MLflowLogger(tracking_uri=store)
    first.on_started(started())
    for step in (1, 2):
        first.on_log(log(step, loss=float(step)))
    first.on_end(end(None))
    [run] = runs_in(store)
    assert run.info.status == "FAILED"
    second = MLflowLogger(tracking_uri=store, run_id=run.info.run_id if given else None)
    for step in (2, 3):
        second.on_log(log(step, loss=float(step)))
    drain(second)
    assert runs_in(store)[0].info.status == "RUNNING"
    second.on_end(end())
    [run] = runs_in(store)
    assert points_of(store, run) == [("loss", 1, 1.0), ("loss", 2, 2.0), ("loss", 3, 3.0)]
    assert run.info.status == "FINISHED"


def test_two_runs_at_once_are_two_mlflow_runs(store: str) -> None:
    logger = MLflowLogger(tracking_uri=store)
    jobs = [a_job("job-1"), a_job("job-2")]
    for step in (1, 2):
        for job in jobs:
            logger.on_log(log(step, job, loss=float(job.id[-1])))
            drain(logger)
    for job in jobs:
        logger.on_end(end("completed", job))
    logged = {run.data.tags["arkor.job_id"]: points_of(store, run) for run in runs_in(store)}
    assert logged == {f"job-{n}": [("loss", 1, float(n)), ("loss", 2, float(n))] for n in (1, 2)}


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_store_that_is_removed_in_the_middle_does_not_harm_the_run(
    arkor_client: Any, store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = MLflowLogger(tracking_uri=store)
    result = train(
        arkor_client, [logger, at(2, logger, lambda: shutil.rmtree(tmp_path / "mlruns"))]
    )
    assert result.status == "completed"
    assert "MLflowLogger.log_rows failed" in caplog.text


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_server_that_is_not_there_does_not_harm_the_run_and_its_password_is_not_told(
    arkor_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logger = MLflowLogger(tracking_uri="http://me:s3cret@127.0.0.1:9")
    assert train(arkor_client, logger).status == "completed"
    assert "MLflowLogger.log_rows failed" in caplog.text
    assert "3 logs of job" not in caplog.text
    assert "4 logs of job" in caplog.text
    assert "s3cret" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("arkor")
    )


def test_a_parameter_with_an_odd_name_does_not_cost_the_others(store: str) -> None:
    job = a_job(**{"odd (name)!": 1, "x" * 300: 2})
    logger = MLflowLogger(tracking_uri=store)
    logger.on_started(started(job))
    logger.on_end(end("completed", job))
    [run] = runs_in(store)
    assert run.data.params == {"model": "m", "odd _name__": "1", "x" * 200: "2"}
