"""A loss that is no longer a number, in every way in which a cloud can write it."""

from __future__ import annotations

import threading
from typing import Any, Dict, List

import pytest

from arkor_sync import follow
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.handlers import TerminateOnNaN
from support.waiting import PATIENCE


def run_of(client: Any, emulator: Emulator, logs: List[Dict[str, Any]], callbacks: Any) -> Any:
    """Follow a job that tells these logs, one a step, and completes."""
    events: List[Any] = [{"type": "training.started"}]
    for step, data in enumerate(logs, start=1):
        events.append({"type": "training.log", "step": step, **data})
    events.append({"type": "training.completed", "artifacts": []})
    job_id = emulator.create_job(ScriptedEngine(events=events, manual=True))
    run = follow(job_id, callbacks=callbacks, client=client)
    emulator.step(job_id, len(events) - 1)
    return run


@pytest.mark.parametrize(
    ("logs", "told"),
    [
        ([{"loss": 2.0}, {"loss": "NaN"}], "loss is nan at step 2"),
        ([{"loss": 2.0}, {"loss": "Infinity"}], "loss is inf at step 2"),
        ([{"loss": "-inf"}], "loss is -inf at step 1"),
        ([{"loss": 2.0, "evalLoss": "nan"}], "eval_loss is nan at step 1"),
        ([{"loss": None}, {"loss": None}], "loss is null at step 2, as it was in the log before"),
        (
            [{"loss": None}, {"evalLoss": 2.0, "loss": None}, {"loss": None}],
            "loss is null at step 3, as it was in the log before",
        ),
    ],
)
def test_it_stops_the_job_and_the_result_says_why(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    logs: List[Dict[str, Any]],
    told: str,
) -> None:
    run = run_of(arkor_client, arkor_emulator, logs, TerminateOnNaN())
    result = run.wait(PATIENCE)
    assert (result.status, result.stop_reason) == ("cancelled", told)
    assert arkor_client.jobs.get(run.job.id).status == "cancelled"


@pytest.mark.parametrize(
    "logs",
    [
        [{"loss": 2.0}, {"loss": None}, {"loss": 1.0}, {"loss": None}],
        [{"loss": None, "evalLoss": 2.0}] * 3,
        [{"evalLoss": None}] * 3,
        [{"learningRate": "NaN", "loss": 1.0}] * 3,
        [{"loss": "a text"}, {"loss": 1e300}],
    ],
)
def test_what_a_sound_run_may_look_like_does_not_stop_it(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, logs: List[Dict[str, Any]]
) -> None:
    told = threading.Event()

    def last(ctx: Any) -> None:
        if ctx.step == len(logs):
            told.set()

    run = run_of(arkor_client, arkor_emulator, logs, [TerminateOnNaN(), {"on_log": last}])
    assert told.wait(PATIENCE)
    assert not run.done()
    assert [r for r in arkor_emulator.requests if r.path.endswith("/cancel")] == []
    arkor_emulator.step(run.job.id)
    assert run.wait(PATIENCE).status == "completed"


@pytest.mark.arkor(engine=ScriptedEngine(steps=10, nan_at=5, nan_as="1e309", manual=True))
def test_a_number_beyond_every_float_is_infinite(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    callbacks = TerminateOnNaN()
    job_id = arkor_emulator.create_job()
    arkor_emulator.step(job_id, 8)  # it is among the events of the job's record, too
    run = follow(job_id, callbacks=callbacks, client=arkor_client)
    assert run.wait(PATIENCE).stop_reason == "loss is inf at step 5"


@pytest.mark.arkor(engine=ScriptedEngine(steps=10, nan_at=5, nan_as="NaN", manual=True))
def test_a_bare_nan_is_no_json_and_is_counted_as_skipped(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    callbacks = TerminateOnNaN()
    run = follow(arkor_emulator.create_job(), callbacks=callbacks, client=arkor_client)
    arkor_emulator.step(run.job.id, 20)
    assert run.wait(PATIENCE).status == "completed"
    assert run.health().skipped == 1
    assert arkor_client.jobs.get(run.job.id).status == "completed"


def test_one_object_serves_several_runs_and_does_not_mix_them_up(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    guard = TerminateOnNaN()
    runs = [
        run_of(arkor_client, arkor_emulator, [{"loss": 1.0}, {"loss": None}], guard)
        for _ in range(3)
    ]
    for run in runs:
        arkor_emulator.step(run.job.id)
        assert run.wait(PATIENCE).status == "completed"
    assert guard._null_steps == {}


@pytest.mark.arkor(faults=[Fault("status", route="cancel_job", status=500)])
def test_where_the_job_cannot_be_cancelled_the_next_such_log_asks_again(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    logs: List[Dict[str, Any]] = [{"loss": "NaN"}, {"loss": "NaN"}]
    run = run_of(arkor_client, arkor_emulator, logs, TerminateOnNaN())
    result = run.wait(PATIENCE)
    assert (result.status, result.stop_reason) == ("cancelled", "loss is nan at step 2")
