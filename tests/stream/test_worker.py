"""What the worker owes the error policy, and how callbacks are called."""

from __future__ import annotations

import concurrent.futures
import contextvars
import gc
import logging
import threading
import weakref
from typing import Any, List

import pytest

from arkor_sync.callbacks import Callback
from arkor_sync.errors import ArkorConnectionError, ConflictError, CursorStoreError
from arkor_sync.stores import SavedCursor
from arkor_sync.stream.error_policy import Action, ErrorPolicy, Redeliver, Skip, StopTraining
from support.clocks import FakeClock
from support.fake_cloud import Hold, Seen, completed, failed, log, logs, make_run, started
from support.run_threads import has_ended
from support.waiting import PATIENCE


class Boom(Exception):
    pass


def failing(*steps: int, times: int = 1, error: Any = Boom) -> Any:
    """Make an on_log that fails so often on these steps, and remembers its calls."""
    left = dict.fromkeys(steps, times)
    calls: List[Any] = []

    def on_log(ctx: Any) -> None:
        calls.append((ctx.step, ctx.attempt))
        if left.get(ctx.step):
            left[ctx.step] -= 1
            raise error(f"boom at {ctx.step}") if isinstance(error, type) else error

    on_log.calls = calls  # type: ignore[attr-defined]
    return on_log


def follow(*connections: Any, on_log: Any, policy: ErrorPolicy, **options: Any) -> Any:
    run, jobs = make_run(*connections, callbacks={"on_log": on_log}, error_policy=policy, **options)
    run.start()
    return run, jobs


# What each action does


def test_abort_is_the_default_and_raises_the_users_own_exception() -> None:
    error = Boom("mine")
    on_log = failing(2, error=error)
    run, jobs = make_run([logs(1, 3) + completed()], callbacks={"on_log": on_log})
    with pytest.raises(Boom) as caught:
        run.start().wait(PATIENCE)
    assert caught.value is error
    assert caught.value.__notes__ == [
        "job job-1: on_log raised, step 2, event 2, attempt 1",
        "job job-1 goes on; follow('job-1') attaches to it again",
    ]
    assert on_log.calls == [(1, 1), (2, 1)]
    assert run.failure is not None
    assert (run.failure.callback, run.failure.event.step) == ("on_log", 2)
    assert run.health().acknowledged_id == "1"
    assert jobs.resumed == [None], "a callback's error is no reason to reconnect"


def test_log_goes_on_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    on_log = failing(2)
    run, _ = follow([logs(1, 3) + completed()], on_log=on_log, policy=ErrorPolicy.log())
    assert run.wait(PATIENCE).status == "completed"
    assert [step for step, _ in on_log.calls] == [1, 2, 3]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "on_log raised, step 2, event 2, attempt 1; logged, going on" in record.getMessage()
    assert record.exc_info is not None
    assert "boom at 2" in str(record.exc_info[1])


def test_retry_calls_again_with_the_event_in_hand_and_keeps_the_order() -> None:
    clock = FakeClock(random=1.0)
    on_log = failing(2, times=3)
    policy = ErrorPolicy().on(Boom, do=Action.RETRY, attempts=4, base=0.5, cap=1.5)
    run, jobs = follow([logs(1, 3) + completed()], on_log=on_log, policy=policy, clock=clock)
    assert run.wait(PATIENCE).status == "completed"
    assert on_log.calls == [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4), (3, 1)]
    assert clock.waits == [0.5, 1.0, 1.5]
    assert jobs.resumed == [None]


def test_an_exception_has_no_other_callbacks_exception_as_its_context() -> None:
    def first(ctx: Any) -> None:
        raise OSError("logged")

    def second(ctx: Any) -> None:
        raise Boom("ends the run")

    policy = ErrorPolicy().on(OSError, do=Action.LOG)
    run, _ = make_run(
        [logs(1, 3)], callbacks=[{"on_log": first}, {"on_log": second}], error_policy=policy
    )
    with pytest.raises(Boom) as caught:
        run.start().wait(PATIENCE)
    assert caught.value.__context__ is None


def test_an_iterator_that_is_used_up_is_an_exception_like_any_other() -> None:
    error = StopIteration()
    policy = ErrorPolicy.reconnect(attempts=2)
    # The first connection stays open, so that the second is the one that was asked for again.
    run, jobs = follow(
        [logs(1, 3), Hold()],
        [logs(1, 3), Hold()],
        on_log=failing(2, times=9, error=error),
        policy=policy,
    )
    with pytest.raises(StopIteration) as caught:
        run.wait(PATIENCE)
    assert caught.value is error
    assert jobs.resumed == [None, "1"]


def test_retry_exhausted_does_what_then_says() -> None:
    on_log = failing(2, times=99)
    policy = ErrorPolicy().on(Boom, do=Action.RETRY, attempts=3, then=Action.LOG)
    run, _ = follow([logs(1, 3) + completed()], on_log=on_log, policy=policy)
    assert run.wait(PATIENCE).status == "completed"
    assert on_log.calls == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1)]


def test_cancel_aborts_and_asks_the_cloud_to_stop() -> None:
    policy = ErrorPolicy().on(Boom, do=Action.CANCEL)
    run, jobs = follow([logs(1, 3)], on_log=failing(2), policy=policy)
    with pytest.raises(Boom):
        run.wait(PATIENCE)
    assert jobs.cancelled == 1


def test_cancel_that_the_cloud_does_not_hear_is_said_beside_the_users_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = ErrorPolicy().on(Boom, do=Action.CANCEL)
    run, jobs = make_run([logs(1, 3)], callbacks={"on_log": failing(2)}, error_policy=policy)
    jobs.cancel_error = ArkorConnectionError("no route")
    with pytest.raises(Boom) as caught:
        run.start().wait(PATIENCE)
    assert "it may still run: no route" in caught.value.__notes__[1]
    assert "it may still run" in caplog.text


def test_reconnect_on_an_event_without_an_id_tries_again_in_hand() -> None:
    on_log = failing(1)
    run, jobs = follow(
        [log(1, id=None) + completed()], on_log=on_log, policy=ErrorPolicy.reconnect(attempts=2)
    )
    assert run.wait(PATIENCE).status == "completed"
    assert on_log.calls == [(1, 1), (1, 2)]
    assert jobs.resumed == [None]


def test_reconnect_on_a_terminal_event_has_it_delivered_again() -> None:
    calls: List[int] = []

    def on_completed(ctx: Any) -> None:
        calls.append(ctx.attempt)
        if ctx.attempt < 3:
            raise Boom

    run, jobs = make_run(
        [logs(1, 2) + completed()],
        [completed()],
        [completed()],
        callbacks={"on_completed": on_completed},
        error_policy=ErrorPolicy.reconnect(attempts=3),
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert calls == [1, 2, 3]
    assert jobs.resumed == [None, "2", "2"]


def test_reconnect_after_the_reader_has_died_tries_again_in_hand() -> None:
    from arkor_sync.errors import AuthenticationError

    died = threading.Event()
    calls: List[int] = []

    def on_log(ctx: Any) -> None:
        assert died.wait(PATIENCE)
        calls.append(ctx.attempt)
        if ctx.attempt == 1:
            raise Boom

    run, _ = make_run(
        [logs(1, 1)],
        AuthenticationError(401, "expired"),
        callbacks={"on_log": on_log},
        error_policy=ErrorPolicy.reconnect(attempts=2),
    )
    run.start()
    assert has_ended(run, "reader")
    died.set()
    with pytest.raises(AuthenticationError):
        run.wait(PATIENCE)
    assert calls == [1, 2]


# Bounds, letters, and broken policies


def test_the_budget_ends_a_run_whose_callback_is_simply_broken() -> None:
    on_log = failing(*range(1, 100))
    run, _ = follow([logs(1, 99)], on_log=on_log, policy=ErrorPolicy.log(budget=3))
    with pytest.raises(Boom, match="boom at 4"):
        run.wait(PATIENCE)
    assert run.health().given_up == 3


def test_the_dead_letter_is_written_before_the_cursor_moves() -> None:
    letters: List[Any] = []

    def dead_letter(failure: Any) -> None:
        letters.append((failure.callback, failure.event.step, run.health().acknowledged_id))

    policy = ErrorPolicy(otherwise=Action.LOG, dead_letter=dead_letter)
    run, _ = make_run(
        [logs(1, 2) + completed()], callbacks={"on_log": failing(2)}, error_policy=policy
    )
    run.start().wait(PATIENCE)
    assert letters == [("on_log", 2, "1")]


@pytest.mark.parametrize("broken", ["policy", "dead letter"])
def test_a_policy_that_raises_ends_the_run_chained(broken: str) -> None:
    def bad(failure: Any) -> bool:
        raise OSError("disk full")

    if broken == "policy":
        policy = ErrorPolicy().on(Boom, do=Action.LOG, when=bad)
    else:
        policy = ErrorPolicy(otherwise=Action.LOG, dead_letter=bad)  # type: ignore[arg-type]
    run, _ = follow([logs(1, 2)], on_log=failing(1), policy=policy)
    with pytest.raises(OSError, match="disk full") as caught:
        run.wait(PATIENCE)
    assert isinstance(caught.value.__cause__, Boom)
    assert run.health().acknowledged_id is None


def test_the_run_does_not_keep_a_logged_exception_alive() -> None:
    class Heavy(Exception):
        pass

    seen: List[Any] = []

    def on_log(ctx: Any) -> None:
        error = Heavy()
        seen.append(weakref.ref(error))
        raise error

    logging.getLogger("arkor_sync.stream.worker").disabled = True  # pytest keeps the records
    try:
        run, _ = follow([logs(1, 3) + completed()], on_log=on_log, policy=ErrorPolicy.log())
        run.wait(PATIENCE)
    finally:
        logging.getLogger("arkor_sync.stream.worker").disabled = False
    assert has_ended(run, "worker")
    gc.collect()
    assert [ref() for ref in seen] == [None, None, None]


# The callback's own words


def test_skip_is_no_error() -> None:
    on_log = failing(2, error=Skip())
    run, _ = follow([logs(1, 3) + completed()], on_log=on_log, policy=ErrorPolicy.abort())
    assert run.wait(PATIENCE).status == "completed"
    assert run.health().given_up == 0


def test_redeliver_calls_again_after_its_own_delay_whatever_the_policy() -> None:
    clock = FakeClock()
    on_log = failing(2, times=2, error=Redeliver(delay=5))
    run, _ = follow(
        [logs(1, 3) + completed()], on_log=on_log, policy=ErrorPolicy.abort(), clock=clock
    )
    assert run.wait(PATIENCE).status == "completed"
    assert on_log.calls == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1)]
    assert clock.waits == [5.0, 5.0]


def test_redeliver_is_bounded_and_then_an_error() -> None:
    on_log = failing(1, times=99, error=Redeliver(attempts=3))
    run, _ = follow([logs(1, 1)], on_log=on_log, policy=ErrorPolicy.abort())
    with pytest.raises(Redeliver):
        run.wait(PATIENCE)
    assert on_log.calls == [(1, 1), (1, 2), (1, 3)]


def test_stop_training_cancels_and_ends_with_a_result_that_says_why() -> None:
    on_log = failing(2, error=StopTraining("diverged"))
    run, jobs = follow([logs(1, 9)], on_log=on_log, policy=ErrorPolicy.abort())
    result = run.wait(PATIENCE)
    assert (result.status, result.stop_reason) == ("cancelled", "diverged")
    assert jobs.cancelled == 1
    assert on_log.calls == [(1, 1), (2, 1)]
    assert run.health().acknowledged_id == "2"


def test_stop_training_that_the_cloud_does_not_hear_is_an_error() -> None:
    run, jobs = make_run([logs(1, 1)], callbacks={"on_log": failing(1, error=StopTraining("x"))})
    jobs.cancel_error = ArkorConnectionError("no route")
    with pytest.raises(ArkorConnectionError, match="no route"):
        run.start().wait(PATIENCE)


def test_stop_training_on_a_job_past_cancelling_follows_it_to_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    on_log = failing(1, error=StopTraining("x"))
    run, jobs = make_run([logs(1, 1)], [completed()], callbacks={"on_log": on_log})
    jobs.cancel_error = ConflictError(409, "already completed")
    assert run.start().wait(PATIENCE).status == "completed"
    assert run.health().acknowledged_id == "end"
    assert "job job-1 had ended before it could be stopped (x)" in caplog.text


def test_stop_training_at_the_end_of_the_job_changes_nothing() -> None:
    def on_completed(ctx: Any) -> None:
        raise StopTraining("too late")

    run, jobs = make_run([completed()], callbacks={"on_completed": on_completed})
    result = run.start().wait(PATIENCE)
    assert (result.status, result.stop_reason) == ("completed", None)
    assert jobs.cancelled == 0


# How callbacks are called


def test_every_callback_of_an_event_is_called_in_the_order_given() -> None:
    order: List[str] = []

    class Mine(Callback):
        def on_log(self, ctx: Any) -> None:
            order.append("object")

    run, _ = make_run(
        [logs(1, 1) + completed()],
        callbacks=[{"on_log": lambda ctx: order.append("first")}, Mine(), {"on_log": order.append}],
    )
    run.start().wait(PATIENCE)
    assert order[:2] == ["first", "object"]
    assert len(order) == 3


def test_one_callback_given_up_does_not_keep_the_next_from_being_called() -> None:
    second = Seen()
    run, _ = make_run(
        [logs(1, 2) + completed()],
        callbacks=[{"on_log": failing(1, 2)}, second.table()],
        error_policy=ErrorPolicy.log(),
    )
    run.start().wait(PATIENCE)
    assert second.steps == [1, 2]


def test_a_retry_repeats_only_the_callback_that_failed() -> None:
    first, second = Seen(), Seen()
    run, _ = make_run(
        [logs(1, 1) + completed()],
        callbacks=[first.table(), {"on_log": failing(1)}, second.table()],
        error_policy=ErrorPolicy().on(Boom, do=Action.RETRY, attempts=2),
    )
    run.start().wait(PATIENCE)
    assert first.steps == [1]
    assert second.steps == [1]
    assert second.contexts[0].attempt == 1


def test_contexts_carry_the_wire_fields() -> None:
    seen = Seen()
    full = {"loss": 1.5, "evalLoss": 2, "learningRate": 0.1, "epoch": 0.5, "samplesPerSecond": 3.0}
    run, _ = make_run(
        [started() + log(1, **full) + log(2, loss=None) + completed()], callbacks=seen.table()
    )
    run.start().wait(PATIENCE)
    first, one, two, last = seen.contexts
    assert (first.job.status, first.job.started_at) == ("running", "t0")
    assert (one.loss, one.eval_loss, one.learning_rate) == (1.5, 2, 0.1)
    assert (one.epoch, one.samples_per_second) == (0.5, 3.0)
    assert (two.loss, two.eval_loss, two.learning_rate) == (None, None, None)
    assert two.job.status == "running"
    assert last.job.completed_at == "t9"
    assert last.run is run


def test_a_failed_job_is_a_result() -> None:
    seen = Seen()
    run, _ = make_run([failed(step=7)], callbacks=seen.table())
    result = run.start().wait(PATIENCE)
    assert (result.status, result.job.error) == ("failed", "CUDA out of memory")
    assert result.artifacts == []
    (ctx,) = seen.contexts
    assert (ctx.error, ctx.step) == ("CUDA out of memory", 7)


def test_callbacks_never_run_at_the_same_time_and_futures_are_awaited() -> None:
    inside: List[int] = []
    most: List[int] = []
    lock = threading.Lock()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:

        def work(step: int) -> None:
            with lock:
                inside.append(step)
                most.append(len(inside))
            with lock:
                inside.remove(step)

        run, _ = make_run(
            [logs(1, 50) + completed()],
            callbacks={"on_log": lambda ctx: pool.submit(work, ctx.step)},
        )
        run.start().wait(PATIENCE)
    assert len(most) == 50
    assert max(most) == 1


def test_a_failed_future_is_the_callbacks_failure() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def work() -> None:
            raise Boom("in the pool")

        run, _ = make_run([logs(1, 1)], callbacks={"on_log": lambda ctx: pool.submit(work)})
        with pytest.raises(Boom, match="in the pool"):
            run.start().wait(PATIENCE)


def test_coroutines_are_awaited_on_one_loop() -> None:
    import asyncio

    loops: List[Any] = []

    async def on_log(ctx: Any) -> None:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())

    run, _ = make_run([logs(1, 3) + completed()], callbacks={"on_log": on_log})
    run.start().wait(PATIENCE)
    assert len(loops) == 3
    assert len({id(loop) for loop in loops}) == 1


def test_callbacks_see_the_context_variables_of_whoever_follows() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    seen: List[str] = []

    async def on_completed(ctx: Any) -> None:
        seen.append(tenant.get())

    tenant.set("acme")
    run, _ = make_run(
        [logs(1, 1) + completed()],
        callbacks={"on_log": lambda ctx: seen.append(tenant.get()), "on_completed": on_completed},
    )
    tenant.set("another")
    run.start().wait(PATIENCE)
    assert seen == ["acme", "acme"]


def test_a_stop_that_the_cloud_refuses_is_the_policys_business() -> None:
    calls: List[int] = []

    def on_log(ctx: Any) -> None:
        calls.append(ctx.attempt)
        if ctx.attempt == 3:
            jobs.cancel_error = None
        raise StopTraining("enough")

    policy = ErrorPolicy().on(ArkorConnectionError, do=Action.RETRY, attempts=3)
    run, jobs = make_run([log(1)], callbacks={"on_log": on_log}, error_policy=policy)
    jobs.cancel_error = ArkorConnectionError("no route")
    assert run.start().wait(PATIENCE).stop_reason == "enough"
    assert calls == [1, 2, 3]
    run, jobs = make_run([log(1), Hold()], callbacks={"on_log": on_log})
    jobs.cancel_error = ArkorConnectionError("no route")
    with pytest.raises(ArkorConnectionError, match="no route"):
        run.start().wait(PATIENCE)
    assert run.failure is not None


# A position that cannot be saved


class FailingStore:
    """A cursor store whose saves fail, so often for each position."""

    def __init__(self, *positions: str, times: int = 1) -> None:
        self.saves: List[Any] = []
        self._left = dict.fromkeys(positions, times)

    def load(self, job_id: str) -> SavedCursor:
        return SavedCursor()

    def lease(self, job_id: str) -> Any:
        return lambda: None

    def save(self, job_id: str, saved: SavedCursor) -> None:
        position = str(saved.acknowledged_id)
        if self._left.get(position):
            self._left[position] -= 1
            raise CursorStoreError(f"no room for {position}")
        self.saves.append(position)


def test_a_save_that_fails_ends_the_run_by_default() -> None:
    store = FailingStore("2")
    run, _ = follow([logs(1, 3)], on_log=failing(), policy=ErrorPolicy.abort(), cursor_store=store)
    with pytest.raises(CursorStoreError, match="no room for 2") as caught:
        run.wait(PATIENCE)
    assert "cursor_store raised, step 2, event 2, attempt 1" in caught.value.__notes__[0]
    assert run.failure.callback == "cursor_store"
    assert store.saves == ["1"]
    assert run.health().delivered == 1


@pytest.mark.parametrize("do", [Action.RETRY, Action.RECONNECT])
def test_a_save_that_fails_is_tried_again_without_another_call(do: Action) -> None:
    clock = FakeClock(random=1.0)
    on_log = failing()
    policy = ErrorPolicy().on(CursorStoreError, do=do, attempts=3, base=0.5)
    store = FailingStore("2", times=2)
    run, jobs = follow(
        [logs(1, 3) + completed()], on_log=on_log, policy=policy, cursor_store=store, clock=clock
    )
    assert run.wait(PATIENCE).status == "completed"
    assert on_log.calls == [(1, 1), (2, 1), (3, 1)]
    assert store.saves == ["1", "2", "3", "end"]
    assert clock.waits == [0.5, 1.0]
    assert jobs.resumed == [None]


def test_a_save_that_fails_for_good_does_what_then_says() -> None:
    policy = ErrorPolicy().on(do=Action.RETRY, attempts=2, base=0, callbacks="cursor_store")
    run, _ = follow(
        [logs(1, 3)], on_log=failing(), policy=policy, cursor_store=FailingStore("2", times=9)
    )
    with pytest.raises(CursorStoreError):
        run.wait(PATIENCE)
    assert run.failure.attempt == 2


def test_a_save_that_fails_may_be_logged_and_the_next_one_saves_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    letters: List[Any] = []
    policy = ErrorPolicy(otherwise=Action.LOG, dead_letter=letters.append)
    store = FailingStore("2")
    run, _ = follow([logs(1, 3) + completed()], on_log=failing(), policy=policy, cursor_store=store)
    assert run.wait(PATIENCE).status == "completed"
    assert store.saves == ["1", "3", "end"]
    assert "cursor_store raised, step 2, event 2, attempt 1; logged, going on" in caplog.text
    assert [(each.callback, each.event.step) for each in letters] == [("cursor_store", 2)]
    assert run.health().given_up == 1


def test_a_rule_for_callbacks_says_nothing_about_saves() -> None:
    policy = ErrorPolicy().on(do=Action.LOG, callbacks=["on_log"])
    run, _ = follow([logs(1, 3)], on_log=failing(), policy=policy, cursor_store=FailingStore("1"))
    with pytest.raises(CursorStoreError):
        run.wait(PATIENCE)


def test_state_that_cannot_be_told_is_a_save_that_failed() -> None:
    class Stateful(Callback):
        def state_dict(self) -> Any:
            raise Boom("no state")

        def load_state_dict(self, state: Any) -> None:
            raise AssertionError

        def on_log(self, ctx: Any) -> None:
            pass

    run, _ = make_run(
        [logs(1, 3)],
        callbacks=Stateful(),
        error_policy=ErrorPolicy.abort(),
        cursor_store=FailingStore(),
    )
    with pytest.raises(Boom, match="no state"):
        run.start().wait(PATIENCE)
    assert run.failure is not None
    assert run.failure.callback == "cursor_store"
