"""The life of a run as its user sees it: waiting, aborting, closing, stopping."""

from __future__ import annotations

import gc
import os
import signal
import threading
from typing import Any, List

import pytest

from arkor_sync import (
    ArkorConnectionError,
    ArkorTimeoutError,
    ArkorUsageError,
    Callbacks,
    ConflictError,
    ErrorPolicy,
    ForkedRunError,
    ReconnectPolicy,
    RunAborted,
    WaitTimeout,
)
from arkor_sync.stream.reader import Reader
from support.clocks import FakeClock
from support.fake_cloud import Hold, Seen, completed, failed, job, log, logs, make_run, started
from support.hang_phases import until_waited_for
from support.run_threads import has_ended
from support.waiting import PATIENCE


def threads_of_runs() -> List[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("arkor-")]


def test_wait_with_a_timeout_leaves_the_run_going() -> None:
    hold = Hold()
    run, _ = make_run([logs(1, 1), hold, completed()])
    run.start()
    with pytest.raises(WaitTimeout, match="job-1 is still"):
        run.wait(0.02)
    with pytest.raises(TimeoutError):
        run.result(0)
    assert not run.done()
    hold.let_go()
    assert run.wait(PATIENCE).status == "completed"
    assert run.done()


@pytest.mark.parametrize("timeout", ["10", -1, float("nan"), True])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(timeout: Any) -> None:
    hold = Hold()
    run, _ = make_run([hold, completed()])
    run.start()
    for method in (run.wait, run.result, run.close):
        with pytest.raises(ArkorUsageError, match=r"^timeout: got .*; give a number of seconds "):
            method(timeout)
    hold.let_go()
    assert run.wait(PATIENCE).status == "completed", "close has not aborted it"


def test_wait_in_a_callback_is_refused_instead_of_waiting_for_itself() -> None:
    run, _ = make_run([logs(1, 1)], callbacks={"on_log": lambda ctx: ctx.run.wait()})
    with pytest.raises(ArkorUsageError, match="wait for itself"):
        run.start().wait(PATIENCE)


def test_abort_in_a_callback_lets_it_finish_and_then_ends_the_run() -> None:
    done: List[int] = []

    def on_log(ctx: Any) -> None:
        ctx.run.abort("seen enough")
        done.append(ctx.step)

    run, jobs = make_run([logs(1, 5)], callbacks={"on_log": on_log})
    with pytest.raises(RunAborted, match="seen enough") as caught:
        run.start().wait(PATIENCE)
    assert caught.value.reason == "seen enough"
    assert done == [1]
    assert jobs.cancelled == 0, "abort leaves the job alone"


def test_abort_in_the_last_callback_leaves_the_result_standing() -> None:
    run, _ = make_run([completed()], callbacks={"on_completed": lambda ctx: ctx.run.abort()})
    assert run.start().wait(PATIENCE).status == "completed"


def test_close_in_a_callback_does_not_wait_for_itself() -> None:
    run, _ = make_run([logs(1, 2)], callbacks={"on_log": lambda ctx: ctx.run.close()})
    with pytest.raises(RunAborted):
        run.start().wait(PATIENCE)


def test_an_abort_event_ends_the_run() -> None:
    event = threading.Event()
    hold = Hold()
    run, _ = make_run([logs(1, 1), hold], abort_event=event)
    run.start()
    assert hold.reached.wait(PATIENCE)
    event.set()
    with pytest.raises(RunAborted, match="abort_event was set"):
        run.wait(PATIENCE)


def test_leaving_the_with_block_ends_the_threads_and_is_idempotent() -> None:
    hold = Hold()
    run, _ = make_run([logs(1, 1), hold], abort_event=threading.Event())
    with run.start():
        assert hold.reached.wait(PATIENCE)
        assert len(threads_of_runs()) == 3
    assert threads_of_runs() == []
    run.close()
    with pytest.raises(RunAborted):
        run.wait(PATIENCE)


def test_a_run_that_has_ended_leaves_no_thread() -> None:
    run, _ = make_run([logs(1, 1) + completed()], abort_event=threading.Event())
    run.start().wait(PATIENCE)
    run.close()
    assert threads_of_runs() == []


def test_close_says_when_a_thread_does_not_end(caplog: pytest.LogCaptureFixture) -> None:
    entered, release = threading.Event(), threading.Event()

    def stuck(ctx: Any) -> None:
        entered.set()
        assert release.wait(PATIENCE)

    run, _ = make_run([logs(1, 1)], callbacks={"on_log": stuck})
    run.start()
    assert entered.wait(PATIENCE)
    run.close(timeout=0.02)
    assert "did not end within 0.0 s" in caplog.text
    release.set()
    run.close()


def test_ctrl_c_while_waiting_aborts_and_surfaces() -> None:
    def on_log(ctx: Any) -> None:
        until_waited_for()
        os.kill(os.getpid(), signal.SIGINT)

    run, _ = make_run([logs(1, 1), Hold()], callbacks={"on_log": on_log})
    run.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        run.wait(PATIENCE)
    assert caught.value.__notes__ == ["job job-1 goes on; follow('job-1') attaches to it again"]
    with pytest.raises(RunAborted, match="KeyboardInterrupt"):
        run.wait(PATIENCE)
    run.close()
    assert threads_of_runs() == []


def test_stop_from_outside_cancels_and_returns_a_result_that_says_why() -> None:
    hold = Hold()
    run, jobs = make_run([logs(1, 1), hold])
    run.start()
    assert hold.reached.wait(PATIENCE)
    assert run.stop("over budget")
    result = run.wait(PATIENCE)
    assert (result.status, result.stop_reason) == ("cancelled", "over budget")
    assert jobs.cancelled == 1
    assert run.outcome is result
    assert not run.stop("again")


def test_stop_in_a_callback() -> None:
    run, jobs = make_run(
        [logs(1, 3), Hold()], callbacks={"on_log": lambda ctx: ctx.run.stop("enough")}
    )
    assert run.start().wait(PATIENCE).stop_reason == "enough"
    assert jobs.cancelled == 1


def test_stop_that_the_cloud_does_not_hear_leaves_the_run_going() -> None:
    hold = Hold()
    run, jobs = make_run([logs(1, 1), hold, completed()])
    jobs.cancel_error = ArkorConnectionError("no route")
    run.start()
    with pytest.raises(ArkorConnectionError):
        run.stop("x")
    hold.let_go()
    result = run.wait(PATIENCE)
    assert (result.status, result.stop_reason) == ("completed", None)


def test_cancel_raises_what_the_cloud_says_and_changes_nothing() -> None:
    hold = Hold()
    run, jobs = make_run([logs(1, 1), hold, completed()])
    jobs.cancel_error = ConflictError(409, "already completed")
    run.start()
    with pytest.raises(ConflictError, match="already completed"):
        run.cancel()
    hold.let_go()
    assert run.wait(PATIENCE).status == "completed"


def test_cancel_does_not_change_the_jobs_copy_and_does_not_end_the_wait() -> None:
    hold = Hold()
    run, jobs = make_run([logs(1, 1), hold], [Hold()])
    run.start()
    assert hold.reached.wait(PATIENCE)
    run.cancel()
    with pytest.raises(WaitTimeout):
        run.wait(0.05)
    assert run.job.status == "queued"
    assert jobs.cancelled == 1
    run.close()


def test_done_callbacks_are_called_once_settled_and_at_once_afterwards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: List[Any] = []
    run, _ = make_run([completed()])

    def broken(run: Any) -> None:
        raise RuntimeError("mine")

    run.add_done_callback(broken)
    run.add_done_callback(lambda run: seen.append((run.done(), run.outcome.status)))
    run.start().wait(PATIENCE)
    assert has_ended(run, "worker")
    run.add_done_callback(lambda run: seen.append("late"))
    assert seen == [(True, "completed"), "late"]
    assert "a done callback of job job-1 failed" in caplog.text


def test_health_while_running_names_the_callback() -> None:
    entered, release = threading.Event(), threading.Event()

    def on_log(ctx: Any) -> None:
        entered.set()
        assert release.wait(PATIENCE)

    run, _ = make_run([logs(1, 3), Hold()], callbacks={"on_log": on_log})
    run.start()
    assert entered.wait(PATIENCE)
    health = run.health()
    assert health.callback == "on_log"
    assert health.callback_age == 0
    assert health.last_acknowledged_age is None
    release.set()
    run.close()
    assert run.health().state == "settled"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_told_that_the_run_is_not_its_own() -> None:
    hold = Hold()
    run, _ = make_run([logs(1, 1), hold, completed()])
    run.start()
    assert hold.reached.wait(PATIENCE)
    child = os.fork()
    if child == 0:  # it must leave by os._exit, past everything that pytest would do
        code = 1
        try:
            run.close()
            run.abort()
            run.wait(1)
        except ForkedRunError as error:
            code = 0 if "followed by process" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    hold.let_go()
    assert run.wait(PATIENCE).status == "completed"


def test_a_run_that_was_waited_for_can_be_collected() -> None:
    import weakref

    run, _ = make_run([logs(1, 2) + completed()], callbacks=Seen().table())
    run.start().wait(PATIENCE)
    run.close()
    ref = weakref.ref(run)
    del run
    gc.collect()
    assert ref() is None


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("callbacks", {"on_chekpoint": print}, "did you mean 'on_checkpoint'"),
        ("callbacks", 5, "callbacks: got int 5; give Callbacks"),
        ("callbacks", {"on_log": 5}, "on_log: got int 5; give a function"),
        ("callbacks", {"on_log": lambda: None}, "called with one argument"),
        ("error_policy", "log", "error_policy: got str 'log'; give an ErrorPolicy"),
        ("reconnect", 5, "reconnect: got int 5; give a ReconnectPolicy"),
        ("abort_event", 5, "abort_event: got int 5; give a threading.Event"),
        ("stale_after", 0, "stale_after: got int 0; give a number above 0"),
        ("max_buffered_events", 0, "max_buffered_events: got int 0; give a number above 0"),
        ("abort_grace", -1, "abort_grace: got int -1; give seconds from 0"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_starts(
    name: str, value: Any, says: str
) -> None:
    with pytest.raises(ArkorUsageError, match=says):
        make_run(**{name: value})


def test_policies_that_repeat_without_bound_cannot_be_built() -> None:
    from arkor_sync import Action

    with pytest.raises(ValueError, match="without a bound"):
        ErrorPolicy().on(do=Action.RETRY)
    with pytest.raises(ValueError, match="max_attempts"):
        ReconnectPolicy(max_attempts=-1)
    with pytest.raises(ArkorUsageError, match="on_logg"):
        Callbacks(on_logg=print)  # type: ignore[arg-type]


def test_the_repr_of_a_run_says_which_and_how_it_stands() -> None:
    run, _ = make_run([completed()])
    assert repr(run) == "<Run job-1 queued following>"
    run.start().wait(PATIENCE)
    assert repr(run) == "<Run job-1 completed settled>"
    assert job().id in repr(run)


@pytest.mark.parametrize("timeout", [float("inf"), 1e11])
def test_waiting_for_ever_may_be_said_in_numbers(timeout: float) -> None:
    hold = Hold()
    run, _ = make_run([logs(1, 1), hold, completed()])
    run.start()
    assert hold.reached.wait(PATIENCE)
    threading.Timer(0.05, hold.let_go).start()
    assert run.wait(timeout).status == "completed"


def test_a_replayed_run_is_not_over_before_its_end() -> None:
    seen = Seen()
    over = job("completed", completedAt="t9")
    run, _ = make_run([started() + logs(1, 1) + completed()], callbacks=seen.table(), begin=over)
    run.start().wait(PATIENCE)
    assert [ctx.job.status for ctx in seen.contexts] == ["running", "running", "completed"]
    assert seen.contexts[0].job.completed_at is None


def test_a_delay_of_centuries_can_be_waited_for() -> None:
    from arkor_sync._common.clock import Clock

    event = threading.Event()
    threading.Timer(0.05, event.set).start()
    assert Clock().wait(event, 1e12)


def test_a_job_that_someone_else_cancelled_is_cancelled() -> None:
    seen = Seen()
    run, _ = make_run(
        [failed(error="Job cancelled")],
        callbacks=seen.table(),
        records=[job("cancelled", completedAt="t9")],
    )
    assert run.start().wait(PATIENCE).status == "cancelled"
    assert seen.calls == ["cancelled"]


def test_a_job_that_had_ended_before_is_not_waited_for_as_long_as_one_that_runs() -> None:
    ended = job("cancelled", completedAt="t9")
    clock = FakeClock()

    def silence() -> None:
        clock.time += 10.0
        raise ArkorTimeoutError("reading the stream: timed out")

    run, jobs = make_run(
        [logs(1, 2), silence], begin=ended, records=[ended], clock=clock, stale_after=300.0
    )
    assert run.start().wait(PATIENCE).status == "cancelled"
    assert run.health().delivered == 3, "what the stream still had comes first"
    assert jobs.looked_up == 1


def test_an_abort_is_never_taken_for_a_reader_that_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever thread is told first, the reader's end must find the worker informed."""
    stop = Reader.stop

    def stop_and_let_it_end(self: Reader) -> None:
        stop(self)
        assert self.join(PATIENCE)

    monkeypatch.setattr(Reader, "stop", stop_and_let_it_end)
    hold = Hold()
    run, _ = make_run([log(1), hold])
    run.start()
    assert hold.reached.wait(PATIENCE)
    run.abort("enough")
    with pytest.raises(RunAborted):
        run.wait(PATIENCE)


def test_a_stop_whose_callback_hangs_past_the_grace_still_has_its_result() -> None:
    running, let_go = threading.Event(), threading.Event()

    def on_log(ctx: Any) -> None:
        running.set()
        assert let_go.wait(PATIENCE)

    run, _ = make_run([log(1), Hold()], callbacks={"on_log": on_log}, abort_grace=0.01)
    run.start()
    assert running.wait(PATIENCE)
    try:
        assert run.stop("over budget")
        assert run.wait(PATIENCE).stop_reason == "over budget"
    finally:
        let_go.set()
        run.close(PATIENCE)


def test_health_in_the_middle_of_a_burst_is_exact() -> None:
    clock = FakeClock()
    seen: List[Any] = []

    def on_log(ctx: Any) -> None:
        health = ctx.run.health()
        seen.append((health.delivered, health.acknowledged_id, health.last_acknowledged_age))
        assert health.callback == "on_log"
        clock.time += 10

    run, _ = make_run(
        [logs(1, 2), logs(3, 4) + completed()], callbacks={"on_log": on_log}, clock=clock
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert seen == [(0, None, None), (1, "1", 0.0), (2, "2", 0.0), (3, "3", 0.0)]
    assert run.health().delivered == 5
