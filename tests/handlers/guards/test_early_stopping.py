"""Early stopping: the judgement beside a plain model of it, and whole runs that it ends."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync import ArkorUsageError, ErrorPolicy, FileCursorStore, RunAborted, follow
from arkor_sync.callbacks import stateful
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.handlers import EarlyStopping, EarlyStoppingReason
from support.waiting import PATIENCE

Reason = EarlyStoppingReason


class FakeRun:
    """A run that notes how it was ended."""

    def __init__(self, job_id: str = "job-1") -> None:
        self.job = SimpleNamespace(id=job_id)
        self.stopped: List[str] = []
        self.aborted: List[str] = []
        self.settled = False

    def stop(self, reason: str) -> bool:
        self.stopped.append(reason)
        return True

    def abort(self, reason: str) -> None:
        self.aborted.append(reason)

    def done(self) -> bool:
        return self.settled


def tell(callback: Any, run: FakeRun, step: int, **data: Any) -> None:
    event = SimpleNamespace(data={"type": "training.log", "step": step, **data})
    callback.on_log(SimpleNamespace(run=run, job=run.job, step=step, event=event))


def end(callback: Any, run: FakeRun, status: Optional[str] = "completed") -> None:
    result = status and SimpleNamespace(status=status)
    callback.on_end(SimpleNamespace(run=run, job=run.job, result=result, error=None))
    run.settled = True


def judge(values: List[Any], **settings: Any) -> Tuple[EarlyStopping, FakeRun]:
    """Tell it one value a step, until it stops the run."""
    stopping, run = EarlyStopping("loss", **settings), FakeRun()
    for step, value in enumerate(values, start=1):
        if not run.stopped:
            tell(stopping, run, step, loss=value)
    return stopping, run


def model(
    values: List[float],
    *,
    mode: str,
    min_delta: float,
    patience: int,
    smoothing: int,
    start_from_step: int,
    stopping_threshold: Optional[float],
    divergence_threshold: Optional[float],
    check_finite: bool,
) -> Tuple[Optional[int], Reason]:
    """Say where it has to stop, and why: the rules, one after the other, over whole lists."""
    sign = 1.0 if mode == "max" else -1.0
    judged: List[float] = []
    kept: List[float] = []
    for step, value in enumerate(values, start=1):
        if check_finite and not math.isfinite(value):
            return step, Reason.NON_FINITE
        if step < start_from_step:
            continue
        if math.isfinite(value):
            kept.append(value)
            if len(kept) < smoothing:
                continue
            value = sum(each / smoothing for each in kept[-smoothing:])
        if stopping_threshold is not None and sign * value > sign * stopping_threshold:
            return step, Reason.STOPPING_THRESHOLD
        if divergence_threshold is not None and sign * value < sign * divergence_threshold:
            return step, Reason.DIVERGENCE_THRESHOLD
        judged.append(value)
        best, worse = None, 0
        for each in judged:
            goal = -math.inf if best is None else sign * best
            if sign * (each - sign * min_delta) > goal:
                best, worse = each, 0
            else:
                worse += 1
        if worse >= max(1, patience):
            return step, Reason.PATIENCE_EXHAUSTED
    return None, Reason.NOT_STOPPED


finite = st.integers(-6, 6).map(lambda n: n / 2)
anything = st.integers(0, 9).flatmap(
    lambda n: finite if n else st.sampled_from([math.nan, math.inf, -math.inf])
)
settings_of = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["min", "max"]),
        "min_delta": st.sampled_from([0.0, 0.5, 1.0]),
        "patience": st.integers(0, 4),
        "smoothing": st.integers(1, 3),
        "start_from_step": st.integers(0, 4),
        "stopping_threshold": st.none() | finite,
        "divergence_threshold": st.none() | finite,
        "check_finite": st.booleans(),
    }
)


@given(values=st.lists(anything, max_size=25), settings=settings_of)
def test_it_stops_where_and_why_a_plain_model_of_the_rules_says(
    values: List[float], settings: Dict[str, Any]
) -> None:
    stopping, run = judge(values, **settings)
    where, why = model(values, **settings)
    assert (stopping.stopped_step, stopping.stopping_reason) == (where, why)
    assert run.stopped == ([stopping.stopping_text] if where else [])


@given(
    values=st.lists(anything, max_size=25),
    settings=settings_of,
    at=st.integers(0, 25),
    data=st.data(),
)
def test_a_restart_anywhere_and_logs_that_come_again_change_nothing(
    values: List[float], settings: Dict[str, Any], at: int, data: Any
) -> None:
    whole, _ = judge(values, **settings)
    first, run = EarlyStopping("loss", **settings), FakeRun()
    for step, value in enumerate(values[:at], start=1):
        if not run.stopped:
            tell(first, run, step, loss=value)
    second = EarlyStopping("loss", **settings)
    state = json.dumps(first.state_dict(), allow_nan=False)
    second.load_state_dict(json.loads(state))
    if run.stopped:
        return
    run = FakeRun()
    again = data.draw(st.integers(0, at))
    for step, value in list(enumerate(values, start=1))[again:]:
        if not run.stopped:
            tell(second, run, step, loss=value)
            tell(second, run, step, evalLoss=1.0)  # an evaluation of the same step
    assert second.stopped_step == whole.stopped_step
    assert second.stopping_reason is whole.stopping_reason
    assert second.state_dict() == whole.state_dict()


def test_the_text_says_what_was_seen_where_and_what_the_best_was() -> None:
    stopping, run = judge([3.0, 2.0, 2.5, 2.25], patience=2)
    text = "loss is 2.25 at step 4: no better for 2 values, the best was 2 at step 2"
    assert run.stopped == [text]
    assert (stopping.best_score, stopping.best_step, stopping.wait_count) == (2.0, 2, 2)
    stopping, run = EarlyStopping("loss", patience=1), FakeRun()
    tell(stopping, run, 0, loss=1.0)
    tell(stopping, run, 5, loss=1.0)
    assert run.stopped[0].endswith("no better for 1 values, the best was 1 at step 0")
    assert judge([1.0], stopping_threshold=1.5)[1].stopped == [
        "loss is 1 at step 1, better than 1.5"
    ]
    assert judge([9.0], divergence_threshold=5)[1].stopped == ["loss is 9 at step 1, worse than 5"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "inf", 1e309, 10**400])
def test_a_value_that_is_not_finite_stops_at_once_however_it_is_written(value: Any) -> None:
    stopping, run = judge([value], start_from_step=10)
    assert stopping.stopping_reason is Reason.NON_FINITE
    assert run.stopped[0].startswith("loss is ")


@pytest.mark.parametrize("value", [None, "1.5", "", True, [1], "information"])
def test_what_is_no_number_is_a_log_without_the_metric(value: Any) -> None:
    stopping, run = judge([1.0, value, value, value, value], patience=1)
    assert not run.stopped
    assert stopping.wait_count == 0


def test_patience_counts_only_the_logs_that_have_the_metric() -> None:
    stopping, run = EarlyStopping(patience=2), FakeRun()
    for step in range(1, 100):
        tell(stopping, run, step, loss=1.0)
        if step in (10, 20):
            tell(stopping, run, step, evalLoss=1.0)
    assert not run.stopped
    tell(stopping, run, 100, evalLoss=1.0)
    assert len(run.stopped) == 1


def test_a_field_that_only_the_wire_knows_can_be_watched() -> None:
    stopping, run = EarlyStopping("bleuScore", mode="max", patience=1), FakeRun()
    tell(stopping, run, 1, bleuScore=0.5)
    tell(stopping, run, 2, bleuScore=0.4)
    assert stopping.stopping_reason is Reason.PATIENCE_EXHAUSTED


def test_a_metric_that_never_comes_is_warned_of_once_with_what_did_come(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopping, run = EarlyStopping(grace=3), FakeRun()
    for step in range(1, 9):
        tell(stopping, run, step, loss=1.0, learningRate=0.1, evalLoss=None, note="hi")
    end(stopping, run)
    [record] = caplog.records
    assert record.getMessage() == (
        "EarlyStopping: no log had 'eval_loss' (3 logs had: loss, learning_rate)"
    )


def test_at_the_end_of_a_shorter_run_too_but_only_if_it_completed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for status in ("failed", "cancelled", None):
        stopping, run = EarlyStopping(), FakeRun()
        tell(stopping, run, 1, loss=1.0)
        end(stopping, run, status)
    assert caplog.records == []
    stopping, run = EarlyStopping(), FakeRun()
    tell(stopping, run, 1, loss=1.0)
    end(stopping, run)
    assert "no log had 'eval_loss' (1 logs had: loss)" in caplog.text


def test_a_run_that_it_judged_nothing_of_is_not_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    end(EarlyStopping(strict=True), FakeRun())  # not a single log came
    stopping, run = EarlyStopping(), FakeRun("a")
    tell(stopping, run, 1, loss=1.0)
    end(stopping, FakeRun("refused"))
    assert caplog.records == []
    assert stopping._run is run
    end(stopping, run)
    assert len(caplog.records) == 1
    assert stopping._run is None  # it may be forgotten


def test_strict_raises_instead() -> None:
    stopping, run = EarlyStopping(strict=True, grace=2), FakeRun()
    tell(stopping, run, 1, loss=1.0)
    with pytest.raises(ArkorUsageError, match="no log had 'eval_loss'"):
        tell(stopping, run, 2, loss=1.0)
    stopping, run = EarlyStopping(strict=True), FakeRun()
    tell(stopping, run, 1, loss=1.0)
    with pytest.raises(ArkorUsageError, match="no log had 'eval_loss'"):
        end(stopping, run)


def test_no_warning_where_the_metric_came_before_a_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = EarlyStopping(grace=1), EarlyStopping(grace=1)
    tell(first, FakeRun(), 1, evalLoss=1.0)
    second.load_state_dict(first.state_dict())
    run = FakeRun()
    tell(second, run, 2, loss=1.0)
    end(second, run)
    assert caplog.records == []


def test_one_object_refuses_a_second_run_and_begins_anew_after_the_first() -> None:
    stopping = EarlyStopping("loss", patience=1)
    first, second = FakeRun("a"), FakeRun("b")
    tell(stopping, first, 5, loss=1.0)
    with pytest.raises(ArkorUsageError, match="belongs to job a, which is still followed"):
        tell(stopping, second, 1, loss=1.0)
    with pytest.raises(ArkorUsageError, match="make one for each run"):
        stopping.load_state_dict(stopping.state_dict())
    tell(stopping, first, 6, loss=1.0)
    assert first.stopped
    assert stopping.stopped_step == 6
    end(stopping, first)
    assert stopping.stopped_step == 6  # to be read after the run
    tell(stopping, second, 1, loss=9.0)
    assert not second.stopped
    assert stopping.stopping_reason is Reason.NOT_STOPPED
    fresh = EarlyStopping("loss", patience=1)
    tell(fresh, FakeRun("b"), 1, loss=9.0)
    assert stopping.state_dict() == fresh.state_dict()


def test_the_values_of_one_run_are_not_smoothed_into_the_next() -> None:
    used, fresh = EarlyStopping("loss", smoothing=3), EarlyStopping("loss", smoothing=3)
    first = FakeRun("a")
    tell(used, first, 1, loss=1.0)
    end(used, first)
    for stopping in (used, fresh):
        tell(stopping, FakeRun("b"), 1, loss=2.0)
    assert used.state_dict() == fresh.state_dict()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mode": "auto"}, "mode: got str 'auto'; give 'min' if less is better, or 'max'"),
        ({"monitor": ""}, "monitor: got str ''; give the name of a metric"),
        ({"patience": -1}, "patience: got int -1; give a whole number from 0"),
        ({"patience": True}, "patience: got bool True"),
        ({"smoothing": 0}, "smoothing: got int 0; give a whole number from 1"),
        ({"min_delta": -0.1}, "min_delta: got float -0.1; give a number from 0"),
        ({"min_delta": True}, "min_delta: got bool True"),
        ({"min_delta": math.nan}, "min_delta: got float nan"),
        ({"start_from_step": 1.5}, "start_from_step: got float 1.5; give a whole number from 0"),
        ({"stopping_threshold": "1"}, "stopping_threshold: got str '1'; give a number, or None"),
        ({"min_delta": 10**400}, "min_delta: got int 1000000"),
        ({"stopping_threshold": 10**400}, "stopping_threshold: got int 1000000"),
        ({"grace": 0}, "grace: got int 0; give a whole number from 1"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_with_what_would(
    settings: Dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError) as error:
        EarlyStopping(**settings)
    assert isinstance(error.value, ArkorUsageError)
    assert str(error.value).startswith(told)


def test_two_metrics_keep_their_state_apart_whatever_their_order() -> None:
    names = ("loss", "eval_loss")
    train, held_out = (EarlyStopping(name) for name in names)
    assert list(stateful([train, held_out])) == [
        "EarlyStopping:loss:min",
        "EarlyStopping:eval_loss:min",
    ]
    assert set(stateful([held_out, train])) == set(stateful([train, held_out]))
    assert EarlyStopping("loss", mode="max").state_key == "EarlyStopping:loss:max"


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        {"jobId": "job-1"},
        {
            "jobId": "job-1",
            "bestScore": "a text",
            "bestStep": 1,
            "waitCount": 9,
            "lastStep": 9,
            "window": [],
        },
    ],
)
def test_a_state_that_cannot_be_read_costs_what_it_held_and_not_the_run(
    state: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stopping, run = EarlyStopping("loss", patience=1), FakeRun()
    fresh = stopping.state_dict()
    stopping.load_state_dict(state)
    assert "EarlyStopping: the saved state cannot be read and is ignored: " in caplog.text
    assert stopping.state_dict() == fresh
    tell(stopping, run, 1, loss=1.0)
    assert stopping.best_step == 1


def test_a_run_that_follows_the_same_job_again_has_stopped_nowhere_yet() -> None:
    stopping, first = EarlyStopping("loss", divergence_threshold=5, cancel=False), FakeRun()
    tell(stopping, first, 1, loss=6.0)
    end(stopping, first, None)
    assert (stopping.stopped_step, stopping.stopping_text) == (1, first.aborted[0])
    tell(stopping, FakeRun(), 2, loss=1.0)
    assert (stopping.stopped_step, stopping.stopping_text) == (None, "")
    assert stopping.stopping_reason is Reason.NOT_STOPPED


def test_a_forked_child_may_use_what_serves_a_run_of_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping = EarlyStopping("loss")
    tell(stopping, FakeRun("a"), 1, loss=1.0)
    state = stopping.state_dict()
    monkeypatch.setattr("os.getpid", lambda: -1)
    stopping.load_state_dict(state)
    tell(stopping, FakeRun("a"), 2, loss=1.0)
    assert stopping.wait_count == 1


def test_whatever_keeps_the_cloud_from_being_asked_is_logged_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(FakeRun):
        def stop(self, reason: str) -> bool:
            super().stop(reason)
            raise LookupError("no credentials")

    stopping, run = EarlyStopping("loss", divergence_threshold=5), Broken()
    tell(stopping, run, 1, loss=6.0)
    tell(stopping, run, 2, loss=1.0)
    assert run.stopped == [stopping.stopping_text] * 2
    assert "could not be stopped (loss is 6 at step 1, worse than 5): no credentials" in caplog.text


# -- whole runs ---------------------------------------------------------------------------------


def run_of(client: Any, emulator: Emulator, callbacks: Any, **options: Any) -> Any:
    return follow(emulator.create_job(), callbacks=callbacks, client=client, **options)


def status_of(client: Any, run: Any) -> str:
    status: str = client.jobs.get(run.job.id).status
    return status


@pytest.mark.arkor(engine=ScriptedEngine(steps=5000, plateau=10, silent_at=50))
def test_a_plateau_ends_the_run_and_cancels_the_job(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    stopping = EarlyStopping("loss", patience=5)
    after: List[int] = []
    later = {"on_log": lambda ctx: after.append(ctx.step)}
    run = run_of(arkor_client, arkor_emulator, [stopping, later])
    result = run.wait(PATIENCE)
    assert result.status == "cancelled"
    assert result.stop_reason == stopping.stopping_text
    assert "no better for 5 values, the best was" in stopping.stopping_text
    assert stopping.stopping_reason is Reason.PATIENCE_EXHAUSTED
    assert (stopping.best_step, stopping.stopped_step) == (10, 15)
    assert after == list(range(1, 16))  # what comes later in the list gets the last log too
    assert status_of(arkor_client, run) == "cancelled"


@pytest.mark.arkor(engine=ScriptedEngine(steps=30, diverges=5, manual=True))
def test_without_cancel_the_job_goes_on_and_can_be_followed_again(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    stopping = EarlyStopping("loss", divergence_threshold=5.0, cancel=False)
    run = run_of(arkor_client, arkor_emulator, stopping)
    arkor_emulator.step(run.job.id, 10)
    with pytest.raises(RunAborted) as aborted:
        run.wait(PATIENCE)
    assert aborted.value.reason == stopping.stopping_text
    assert stopping.stopping_reason is Reason.DIVERGENCE_THRESHOLD
    assert status_of(arkor_client, run) == "running"
    where = stopping.stopped_step
    assert where is not None
    again = follow(run.job.id, callbacks=stopping, client=arkor_client)
    arkor_emulator.step(run.job.id, 1)
    with pytest.raises(RunAborted):
        again.wait(PATIENCE)
    assert stopping.stopped_step == where + 1


@pytest.mark.arkor(
    engine=ScriptedEngine(steps=5000, plateau=1, silent_at=50),
    faults=[Fault("status", route="cancel_job", status=503, count=3)],
)
def test_a_cloud_that_cannot_be_asked_to_cancel_is_asked_again_and_harms_nothing(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopping = EarlyStopping("loss", patience=1)
    run = run_of(arkor_client, arkor_emulator, stopping)
    result = run.wait(PATIENCE)
    assert result.status == "cancelled"
    assert result.stop_reason == stopping.stopping_text
    assert stopping.stopped_step == 2
    refused = [r for r in caplog.records if "could not be stopped" in r.getMessage()]
    assert len(refused) == 3
    assert status_of(arkor_client, run) == "cancelled"


@pytest.mark.arkor(engine=ScriptedEngine(steps=20, plateau=8, manual=True))
def test_patience_survives_a_restart(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, tmp_path: Any
) -> None:
    store = FileCursorStore(tmp_path)
    first = EarlyStopping("loss", patience=4)
    heard: List[int] = []

    def interrupt(ctx: Any) -> None:
        heard.append(ctx.step)
        if ctx.step == 10:
            ctx.run.abort("restart")

    run = run_of(arkor_client, arkor_emulator, [first, {"on_log": interrupt}], cursor_store=store)
    arkor_emulator.step(run.job.id, 11)
    with pytest.raises(RunAborted):
        run.wait(PATIENCE)
    run.close()
    second = EarlyStopping("loss", patience=4)
    again = follow(run.job.id, callbacks=second, client=arkor_client, cursor_store=store)
    arkor_emulator.step(run.job.id, 5)
    assert again.wait(PATIENCE).status == "cancelled"
    assert (second.best_step, second.stopped_step) == (8, 12)


@pytest.mark.arkor(engine=ScriptedEngine(steps=4))
def test_strict_ends_a_run_that_never_has_the_metric_by_an_error(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    stopping = EarlyStopping("accuracy", strict=True, grace=2)
    run = run_of(arkor_client, arkor_emulator, stopping, error_policy=ErrorPolicy.abort())
    with pytest.raises(ArkorUsageError, match=r"no log had 'accuracy' \(2 logs had: loss\)"):
        run.wait(PATIENCE)
