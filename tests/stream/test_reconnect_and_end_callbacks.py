"""What a run itself tells its callbacks: that the stream was lost, and that the run is over."""

from __future__ import annotations

import concurrent.futures
import threading
from pathlib import Path
from typing import Any, List

import pytest

from arkor_sync.errors import ArkorConnectionError, ReconnectExhausted, RunAborted
from arkor_sync.stores import FileCursorStore
from arkor_sync.stream.error_policy import Action, ErrorPolicy, StopTraining
from arkor_sync.stream.reconnect import ReconnectPolicy
from support.clocks import FakeClock
from support.fake_cloud import Hold, checkpoint, completed, failed, log, logs, make_run, started
from support.waiting import PATIENCE


class Heard:
    """Writes down the contexts and the threads of both hooks."""

    def __init__(self) -> None:
        self.losses: List[Any] = []
        self.ends: List[Any] = []
        self.threads: List[str] = []

    def table(self) -> Any:
        return {"on_reconnect": self.on_reconnect, "on_end": self.on_end}

    def on_reconnect(self, ctx: Any) -> None:
        self.losses.append(ctx)
        self.threads.append(threading.current_thread().name)

    def on_end(self, ctx: Any) -> None:
        assert not ctx.run.done(), "wait() may not return before on_end has"
        self.ends.append(ctx)
        self.threads.append(threading.current_thread().name)


LOST = ArkorConnectionError("reset by peer")


def test_a_lost_stream_is_told_on_the_worker_thread_and_counts_as_no_event() -> None:
    heard = Heard()
    told = threading.Event()
    table = {**heard.table(), "on_reconnect": lambda ctx: (heard.on_reconnect(ctx), told.set())[0]}
    run, _ = make_run(
        [started(), logs(1, 3), LOST],
        [lambda: told.wait(PATIENCE), log(4) + completed()],
        callbacks=table,
        reconnect=ReconnectPolicy(base=2.0, jitter=0.0),
    )
    assert run.start().wait(PATIENCE).status == "completed"
    [ctx] = heard.losses
    assert (ctx.error, ctx.failures, ctx.delay) == ("reset by peer", 1, 2.0)
    assert ctx.run is run
    assert set(heard.threads) == {"arkor-worker-job-1"}
    assert run.health().delivered == 6
    assert run.health().acknowledged_id == "end"


def test_losses_while_a_callback_runs_are_told_once_with_the_last() -> None:
    heard = Heard()
    all_lost = Hold()
    told = threading.Event()

    def on_log(ctx: Any) -> None:
        assert all_lost.reached.wait(PATIENCE)

    run, _ = make_run(
        [log(1), LOST],
        LOST,
        LOST,
        [all_lost],
        callbacks=[{"on_log": on_log}, heard.table(), {"on_reconnect": lambda ctx: told.set()}],
    )
    with run.start():
        assert told.wait(PATIENCE)
    assert [ctx.failures for ctx in heard.losses] == [3]


def test_an_error_in_on_reconnect_is_the_policys_business() -> None:
    def on_reconnect(ctx: Any) -> None:
        raise LookupError("pager")

    run, _ = make_run([log(1), LOST], [Hold()], callbacks={"on_reconnect": on_reconnect})
    with pytest.raises(LookupError, match="pager"):
        run.start().wait(PATIENCE)
    assert run.failure is not None
    assert run.failure.callback == "on_reconnect"


def test_reconnect_of_on_reconnect_is_tried_again_in_hand() -> None:
    attempts: List[int] = []
    done = threading.Event()

    def on_reconnect(ctx: Any) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise LookupError
        done.set()

    run, jobs = make_run(
        [log(1), LOST],
        [lambda: done.wait(PATIENCE), completed()],
        callbacks={"on_reconnect": on_reconnect},
        error_policy=ErrorPolicy().on(LookupError, do=Action.RECONNECT, attempts=3),
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert attempts == [1, 2, 3]
    assert jobs.resumed == [None, "1"]


def test_a_run_may_be_stopped_because_its_stream_is_lost(tmp_path: Path) -> None:
    def on_reconnect(ctx: Any) -> None:
        raise StopTraining("too far away")

    store = FileCursorStore(tmp_path)
    run, jobs = make_run(
        [log(1), LOST], [Hold()], callbacks={"on_reconnect": on_reconnect}, cursor_store=store
    )
    assert run.start().wait(PATIENCE).stop_reason == "too far away"
    assert jobs.cancelled == 1
    assert store.load("job-1").delivered == 1, "what no event said is not acknowledged"


@pytest.mark.parametrize(("ending", "status"), [(completed(), "completed"), (failed(), "failed")])
def test_on_end_comes_last_with_the_result(ending: bytes, status: str) -> None:
    heard = Heard()
    order: List[str] = []
    table = {
        "on_completed": lambda ctx: order.append("completed"),
        "on_failed": lambda ctx: order.append("failed"),
        "on_end": lambda ctx: (order.append("end"), heard.on_end(ctx))[1],
    }
    run, _ = make_run([log(1) + ending], callbacks=table)
    result = run.start().wait(PATIENCE)
    assert order == [status, "end"]
    assert heard.ends[0].result is result
    assert heard.ends[0].error is None
    assert run.health().delivered == 2


def test_on_end_hears_the_very_error_that_wait_raises() -> None:
    heard = Heard()
    run, _ = make_run(
        *[LOST] * 3, callbacks=heard.table(), reconnect=ReconnectPolicy(max_attempts=2)
    )
    with pytest.raises(ReconnectExhausted) as caught:
        run.start().wait(PATIENCE)
    assert heard.ends[0].error is caught.value
    assert heard.ends[0].result is None


def test_on_end_comes_after_an_abort() -> None:
    heard = Heard()
    hold = Hold()
    run, _ = make_run([log(1), hold], callbacks=heard.table())
    run.start()
    assert hold.reached.wait(PATIENCE)
    run.abort("enough")
    with pytest.raises(RunAborted) as caught:
        run.wait(PATIENCE)
    assert heard.ends[0].error is caught.value
    assert caught.value.reason == "enough"


def test_on_end_comes_after_a_stop_with_the_result_that_says_why() -> None:
    heard = Heard()

    def on_log(ctx: Any) -> None:
        raise StopTraining("good enough")

    run, _ = make_run([logs(1, 3)], callbacks=[{"on_log": on_log}, heard.table()])
    result = run.start().wait(PATIENCE)
    assert heard.ends[0].result is result
    assert result.stop_reason == "good enough"


def test_an_error_in_on_end_is_raised_by_wait_unless_the_policy_says_otherwise() -> None:
    def on_end(ctx: Any) -> None:
        raise LookupError("no summary")

    run, _ = make_run([completed()], callbacks={"on_end": on_end})
    with pytest.raises(LookupError, match="no summary"):
        run.start().wait(PATIENCE)
    assert run.outcome is not None
    run, _ = make_run([completed()], callbacks={"on_end": on_end}, error_policy=ErrorPolicy.log())
    assert run.start().wait(PATIENCE).status == "completed"


def test_an_error_in_on_end_does_not_hide_the_one_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_log(ctx: Any) -> None:
        raise KeyError("first")

    def on_end(ctx: Any) -> None:
        raise LookupError("second")

    run, _ = make_run([log(1)], callbacks={"on_log": on_log, "on_end": on_end})
    with pytest.raises(KeyError, match="first"):
        run.start().wait(PATIENCE)
    assert run.failure is not None
    assert run.failure.callback == "on_log"
    assert "second" in caplog.text


# History.


def test_the_history_has_an_event_from_before_its_callbacks_and_only_once() -> None:
    lengths: List[int] = []

    def on_log(ctx: Any) -> None:
        lengths.append(len(ctx.run.history))
        if ctx.attempt < 3:
            raise LookupError

    policy = ErrorPolicy().on(LookupError, do=Action.RECONNECT, attempts=3)
    run, _ = make_run(
        [logs(1, 2), Hold()],
        [logs(1, 2), Hold()],
        [logs(1, 2), Hold()],
        [logs(2, 2), Hold()],
        [logs(2, 2) + checkpoint(2, "c") + completed()],
        callbacks={"on_log": on_log},
        error_policy=policy,
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert lengths == [1, 1, 1, 2, 2, 2]
    assert run.history.checkpoints == [2]
    assert [row["step"] for row in run.history.to_dicts()] == [1, 2]


def test_the_history_keeps_what_cannot_be_read_out() -> None:
    run, _ = make_run([log(1, loss=0.5) + b'id: x\ndata: {"type": 1}\n\n' + log(2) + completed()])
    assert run.start().wait(PATIENCE).status == "completed"
    assert run.history.metric("loss") == [(1, 0.5)]
    assert len(run.history) == 2


def test_on_end_has_not_been_running_since_the_last_event() -> None:
    clock = FakeClock()
    ages: List[Any] = []
    hold = Hold()
    run, _ = make_run(
        [hold],
        callbacks={"on_end": lambda ctx: ages.append(ctx.run.health().callback_age)},
        clock=clock,
    )
    run.start()
    assert hold.reached.wait(PATIENCE)
    run.abort()
    with pytest.raises(RunAborted):
        run.wait(PATIENCE)
    assert ages == [0.0]


def test_every_on_end_is_called_whatever_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    order: List[str] = []

    def first(ctx: Any) -> None:
        order.append("first")
        raise LookupError("first")

    def second(ctx: Any) -> None:
        order.append("second")
        raise SystemExit(3)

    run, _ = make_run(
        [completed()],
        callbacks=[{"on_end": first}, {"on_end": second}, {"on_end": lambda _: order.append("3")}],
    )
    with pytest.raises(LookupError, match="first"):
        run.start().wait(PATIENCE)
    assert order == ["first", "second", "3"]
    assert "SystemExit: 3" in caplog.text
    assert run.failure is not None
    assert str(run.failure.error) == "first"


def test_an_on_end_that_would_be_awaited_after_an_abort_keeps_no_other_from_its_own() -> None:
    called: List[str] = []
    hold = Hold()
    never: concurrent.futures.Future[None] = concurrent.futures.Future()
    run, _ = make_run(
        [hold],
        callbacks=[{"on_end": lambda _: never}, {"on_end": lambda _: called.append("later")}],
    )
    run.start()
    assert hold.reached.wait(PATIENCE)
    run.abort()
    with pytest.raises(RunAborted):
        run.wait(PATIENCE)
    assert called == ["later"]
