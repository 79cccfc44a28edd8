"""A context of the program around the callbacks of one event and the saving of its position."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, Optional

import pytest

from arkor_sync import (
    Action,
    ArkorUsageError,
    CursorStoreError,
    ErrorPolicy,
    HuggingFaceDataset,
    RunAborted,
    SavedCursor,
    StoreUnavailableError,
    _run_record,
    create_trainer,
)
from arkor_sync.stores.leased import LeasedStore
from arkor_sync.stream.error_policy import Redeliver, Skip, StopTraining
from support.clocks import FakeClock
from support.fake_cloud import Hold, completed, log, logs, make_run, started
from support.memory_backend import MemoryBackend
from support.waiting import PATIENCE


class Boom(Exception):
    pass


class Transactions:
    """A database that keeps what is written inside a transaction only if that ends well.

    It is a cursor store, too. `around` is its transaction.
    """

    def __init__(self) -> None:
        self.rows: List[Any] = []
        self.position: Optional[str] = None
        self.cursor = SavedCursor()
        self.finished = False
        self.saved: Dict[str, Any] = {}
        self.log: List[str] = []
        self.commit_fails = 0
        self.answers_lost = 0
        self.save_fails = 0
        self.enter_fails = 0
        self.threads: List[str] = []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.threads.append(threading.current_thread().name)
        if self.enter_fails:
            self.enter_fails -= 1
            raise Boom("no connection")
        self.log.append("begin")
        before = list(self.rows), self.position, self.finished, self.saved, self.cursor
        try:
            yield
            if self.commit_fails:
                self.commit_fails -= 1
                raise Boom("deferred constraint")
        except BaseException as error:
            self.rows, self.position, self.finished, self.saved, self.cursor = before
            self.log.append(f"rollback {type(error).__name__}")
            raise
        self.log.append("commit")
        if self.answers_lost and self.position == "1":
            self.answers_lost -= 1
            raise Boom("the connection broke after COMMIT")

    def load(self, job_id: str) -> SavedCursor:
        return self.cursor

    def save(self, job_id: str, saved: SavedCursor) -> None:
        if self.save_fails:
            self.save_fails -= 1
            raise CursorStoreError("no room")
        self.cursor = saved
        self.position, self.finished = saved.acknowledged_id, saved.finished
        self.saved = saved.state

    def lease(self, job_id: str) -> Any:
        return lambda: self.log.append("release")


@pytest.fixture
def database() -> Transactions:
    return Transactions()


def follow(database: Transactions, *connections: Any, callbacks: Any, **options: Any) -> Any:
    options.setdefault("cursor_store", database)
    options.setdefault("clock", FakeClock())
    run, jobs = make_run(*connections, callbacks=callbacks, around=database.transaction, **options)
    run.start()
    return run, jobs


def test_callbacks_and_position_are_one_for_each_event(database: Transactions) -> None:
    positions = []

    def on_log(ctx: Any) -> None:
        positions.append(database.position)
        database.rows.append(ctx.step)

    run, _ = follow(database, [started() + logs(1, 2) + completed()], callbacks={"on_log": on_log})
    assert run.wait(PATIENCE).status == "completed"
    assert database.rows == [1, 2]
    assert positions == ["0", "1"], "the position of the event before is committed by then"
    assert (database.position, database.finished) == ("end", True)
    assert database.log == ["begin", "commit"] * 4 + ["release"]
    assert {name[:12] for name in database.threads} == {"arkor-worker"}


def test_what_a_failed_callback_wrote_is_undone_and_all_are_called_again(
    database: Transactions,
) -> None:
    calls: List[Any] = []

    def first(ctx: Any) -> None:
        calls.append(("first", ctx.step, ctx.attempt))
        database.rows.append(("first", ctx.step))

    def second(ctx: Any) -> None:
        calls.append(("second", ctx.step, ctx.attempt))
        database.rows.append(("second", ctx.step))
        if ctx.attempt < 3:
            raise Boom

    policy = ErrorPolicy().on(Boom, do=Action.RETRY, attempts=3, base=0.5)
    run, jobs = follow(
        database,
        [logs(1, 1) + completed()],
        callbacks=[{"on_log": first}, {"on_log": second}],
        error_policy=policy,
    )
    assert run.wait(PATIENCE).status == "completed"
    assert calls == [(who, 1, attempt) for attempt in (1, 2, 3) for who in ("first", "second")]
    assert database.rows == [("first", 1), ("second", 1)]
    assert database.log[:6] == ["begin", "rollback Boom"] * 2 + ["begin", "commit"]
    assert jobs.resumed == [None]


def test_the_argument_is_built_once_for_each_attempt(
    database: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: List[Any] = []
    build = _run_record.build_context

    def count(event: Any, attempt: int, *rest: Any) -> Any:
        if event.type == "training.log":
            built.append((event.id, attempt))
        return build(event, attempt, *rest)

    monkeypatch.setattr(_run_record, "build_context", count)
    got: List[Any] = []

    def on_log(ctx: Any) -> None:
        got.append((ctx.event.id, ctx.attempt))
        if len(got) == 1:
            raise Boom

    policy = ErrorPolicy.abort().on(Boom, do=Action.RETRY, attempts=2, base=0.0)
    events = [started() + logs(1, 2) + completed()]
    callbacks = {"on_log": on_log}
    run, _ = follow(database, events, callbacks=callbacks, error_policy=policy)
    run.wait(PATIENCE)
    assert built == got
    assert [attempt for _, attempt in got] == [1, 2, 1]


def test_a_callback_that_is_given_up_is_left_out_and_the_others_effects_stay(
    database: Transactions, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(ctx: Any) -> None:
        database.rows.append("bad")
        raise Boom

    run, _ = follow(
        database,
        [logs(1, 2) + completed()],
        callbacks=[
            {"on_log": lambda ctx: database.rows.append(ctx.step)},
            {"on_log": bad},
            {"on_log": lambda ctx: database.rows.append(-ctx.step)},
        ],
        error_policy=ErrorPolicy.log(),
    )
    assert run.wait(PATIENCE).status == "completed"
    assert database.rows == [1, -1, 2, -2]
    assert run.health().given_up == 2
    assert caplog.text.count("logged, going on") == 2


def test_the_attempts_of_a_rule_are_counted_for_each_callback(database: Transactions) -> None:
    failures: List[Any] = []

    def failing(name: str) -> Any:
        def on_log(ctx: Any) -> None:
            raise Boom(name)

        return {"on_log": on_log}

    def note(failure: Any) -> None:
        failures.append((str(failure.error), failure.attempt))

    policy = ErrorPolicy(dead_letter=note).on(
        Boom, do=Action.RETRY, attempts=2, base=0, then=Action.LOG
    )
    run, _ = follow(
        database,
        [logs(1, 1) + completed()],
        callbacks=[failing("a"), failing("b")],
        error_policy=policy,
    )
    assert run.wait(PATIENCE).status == "completed"
    assert failures == [("a", 2), ("b", 2)]


@pytest.mark.parametrize("fault", ["commit_fails", "enter_fails"])
def test_an_error_of_the_context_counts_as_the_callbacks(
    database: Transactions, fault: str
) -> None:
    setattr(database, fault, 1)
    policy = ErrorPolicy().on(Boom, do=Action.RETRY, attempts=2, base=0, callbacks="on_log")
    attempts: List[int] = []

    def on_log(ctx: Any) -> None:
        attempts.append(ctx.attempt)
        database.rows.append(ctx.step)

    run, _ = follow(
        database, [logs(1, 1) + completed()], callbacks={"on_log": on_log}, error_policy=policy
    )
    assert run.wait(PATIENCE).status == "completed"
    assert database.rows == [1]
    assert attempts == ([1, 2] if fault == "commit_fails" else [2])


def test_a_commit_whose_answer_is_lost_is_not_made_twice(database: Transactions) -> None:
    database.answers_lost = 1
    run, _ = follow(
        database,
        [logs(1, 2) + completed()],
        callbacks={"on_log": lambda ctx: database.rows.append(ctx.step)},
    )
    assert run.wait(PATIENCE).status == "completed"
    assert database.rows == [1, 2]
    assert database.answers_lost == 0


def test_a_save_that_fails_undoes_the_callbacks_and_the_policy_decides(
    database: Transactions,
) -> None:
    database.save_fails = 2
    policy = ErrorPolicy().on(
        CursorStoreError, do=Action.RETRY, attempts=3, base=0, callbacks="cursor_store"
    )
    run, _ = follow(
        database,
        [logs(1, 1) + completed()],
        callbacks={"on_log": lambda ctx: database.rows.append(ctx.step)},
        error_policy=policy,
    )
    assert run.wait(PATIENCE).status == "completed"
    assert database.rows == [1]
    assert database.log[:4] == ["begin", "rollback CursorStoreError"] * 2


def test_a_save_that_is_given_up_leaves_the_position_and_keeps_the_effects(
    database: Transactions,
) -> None:
    database.save_fails = 1
    run, _ = follow(
        database,
        [logs(1, 1) + completed()],
        callbacks={"on_log": lambda ctx: database.rows.append((ctx.step, database.position))},
        error_policy=ErrorPolicy.log(),
    )
    assert run.wait(PATIENCE).status == "completed"
    assert database.rows == [(1, None)]
    assert database.position == "end"


def test_the_run_that_ends_with_an_error_has_undone_the_event(database: Transactions) -> None:
    def on_log(ctx: Any) -> None:
        database.rows.append(ctx.step)
        if ctx.step == 2:
            raise Boom

    run, _ = follow(database, [logs(1, 3) + completed()], callbacks={"on_log": on_log})
    with pytest.raises(Boom):
        run.wait(PATIENCE)
    assert (database.rows, database.position) == ([1], "1")
    assert run.health().acknowledged_id == "1"
    assert run.health().delivered == 1
    assert database.log[-2:] == ["rollback Boom", "release"]


def test_skip_is_a_word_and_no_error(database: Transactions) -> None:
    def on_log(ctx: Any) -> None:
        database.rows.append(ctx.step)
        raise Skip

    run, _ = follow(
        database,
        [logs(1, 1) + completed()],
        callbacks=[{"on_log": on_log}, {"on_log": lambda ctx: database.rows.append("next")}],
    )
    assert run.wait(PATIENCE).status == "completed"
    assert database.rows == [1, "next"]


def test_a_stop_ends_the_context_well_and_then_the_run(database: Transactions) -> None:
    def on_log(ctx: Any) -> None:
        database.rows.append(ctx.step)
        if ctx.step == 2:
            raise StopTraining("enough")

    run, _ = follow(
        database,
        [logs(1, 3) + completed()],
        callbacks=[{"on_log": on_log}, {"on_log": lambda ctx: database.rows.append(-ctx.step)}],
    )
    result = run.wait(PATIENCE)
    assert (result.status, result.stop_reason) == ("cancelled", "enough")
    assert database.rows == [1, -1, 2]
    assert database.position == "2"


def test_redeliver_undoes_and_calls_again(database: Transactions) -> None:
    def on_log(ctx: Any) -> None:
        database.rows.append(ctx.step)
        if ctx.attempt == 1:
            raise Redeliver(delay=5)

    run, _ = follow(database, [logs(1, 1) + completed()], callbacks={"on_log": on_log})
    assert run.wait(PATIENCE).status == "completed"
    assert database.rows == [1]


def test_reconnect_asks_for_the_event_again_with_all_its_callbacks(database: Transactions) -> None:
    attempts: List[Any] = []

    def on_log(ctx: Any) -> None:
        attempts.append((ctx.step, ctx.attempt))
        database.rows.append(ctx.step)
        if ctx.step == 2 and ctx.attempt == 1:
            raise Boom

    policy = ErrorPolicy().on(Boom, do=Action.RECONNECT, attempts=3, base=0)
    run, jobs = follow(
        database,
        [logs(1, 2), Hold()],
        [log(2) + completed()],
        callbacks=[{"on_log": lambda ctx: database.rows.append(-ctx.step)}, {"on_log": on_log}],
        error_policy=policy,
    )
    assert run.wait(PATIENCE).status == "completed"
    assert jobs.resumed == [None, "1"]
    assert attempts == [(1, 1), (2, 1), (2, 2)]
    assert database.rows == [-1, 1, -2, 2]


def test_a_context_that_swallows_the_error_loses_no_event(database: Transactions) -> None:
    calls: List[int] = []

    def on_log(ctx: Any) -> None:
        calls.append(ctx.attempt)
        if ctx.attempt == 1:
            raise Boom

    run, _ = make_run(
        [logs(1, 1) + completed()],
        callbacks={"on_log": on_log},
        around=lambda: suppress(Boom),
        cursor_store=database,
        error_policy=ErrorPolicy().on(Boom, do=Action.RETRY, attempts=2, base=0),
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert calls == [1, 2]
    assert database.position == "end"


class Counting:
    """A callback that keeps state, and fails once."""

    def __init__(self, fails_at: int) -> None:
        self.seen: List[int] = []
        self._fails_at = fails_at

    def state_dict(self) -> Any:
        return self.seen

    def load_state_dict(self, state: Any) -> None:
        self.seen = list(state)

    def on_log(self, ctx: Any) -> None:
        self.seen.append(ctx.step)
        if ctx.step == self._fails_at and ctx.attempt == 1:
            raise Boom


def test_the_state_of_callbacks_goes_back_with_what_is_undone(database: Transactions) -> None:
    from arkor_sync import Callback

    class Mine(Counting, Callback):
        pass

    counting = Mine(2)
    policy = ErrorPolicy().on(Boom, do=Action.RETRY, attempts=2, base=0)
    run, _ = follow(database, [logs(1, 3) + completed()], callbacks=[counting], error_policy=policy)
    assert run.wait(PATIENCE).status == "completed"
    assert counting.seen == [1, 2, 3]
    assert database.saved == {
        "test_the_state_of_callbacks_goes_back_with_what_is_undone.<locals>.Mine": [1, 2, 3]
    }


def test_the_end_of_the_run_is_inside_too(database: Transactions) -> None:
    run, _ = follow(
        database,
        [completed()],
        callbacks={"on_end": lambda ctx: database.rows.append(ctx.result.status)},
    )
    run.wait(PATIENCE)
    assert database.rows == ["completed"]
    assert database.log == ["begin", "commit"] * 2 + ["release"]


def test_without_a_store_or_a_callback_nothing_is_entered(database: Transactions) -> None:
    run, _ = follow(
        database,
        [logs(1, 3) + completed()],
        callbacks={"on_completed": lambda ctx: database.rows.append("done")},
        cursor_store=None,
    )
    run.wait(PATIENCE)
    assert database.rows == ["done"]
    assert database.log == ["begin", "commit"]


def test_an_abort_while_a_callback_waits_undoes_the_event(database: Transactions) -> None:
    import concurrent.futures

    waiting = threading.Event()
    never: concurrent.futures.Future[None] = concurrent.futures.Future()

    def on_log(ctx: Any) -> Any:
        database.rows.append(ctx.step)
        waiting.set()
        return never

    run, _ = follow(database, [logs(1, 1)], callbacks={"on_log": on_log})
    assert waiting.wait(PATIENCE)
    run.abort("enough")
    with pytest.raises(RunAborted):
        run.wait(PATIENCE)
    assert (database.rows, database.position) == ([], None)
    assert "rollback Interrupted" in database.log


def test_an_abort_while_the_context_is_entered_calls_no_callback(database: Transactions) -> None:
    entered, aborted = threading.Event(), threading.Event()
    begin = database.transaction

    @contextmanager
    def transaction() -> Iterator[None]:
        with begin():
            entered.set()
            assert aborted.wait(PATIENCE)
            yield

    database.transaction = transaction  # type: ignore[method-assign]
    called: List[Any] = []
    callbacks = {"on_log": called.append, "on_end": lambda ctx: database.rows.append("end")}
    run, _ = follow(database, [logs(1, 1)], callbacks=callbacks)
    assert entered.wait(PATIENCE)
    run.abort("enough")
    aborted.set()
    with pytest.raises(RunAborted):
        run.wait(PATIENCE)
    assert (called, database.rows, database.position) == ([], ["end"], None)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(ArkorUsageError, match=r"around: got .*; give a function that"):
        create_trainer(
            name="a",
            model="unsloth/gemma-4-E4B-it",
            dataset=HuggingFaceDataset("a/b"),
            around=suppress(Boom),  # type: ignore[arg-type]
        )


class Away:
    """A transaction of a server that is away when it begins, or when it ends, so many times.

    Attributes:
        entered: How often it was begun.
        server: The server.
    """

    def __init__(self, times: float, at_exit: bool = False) -> None:
        self.entered = 0
        self.server = MemoryBackend()
        self._times = times
        self._at_exit = at_exit

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.entered += 1
        away = self.entered <= self._times
        if away and not self._at_exit:
            raise StoreUnavailableError("the server is away")
        with self.server.transaction():
            yield
            if away:
                raise StoreUnavailableError("the server has gone away")


@pytest.mark.parametrize("at_exit", [False, True])
def test_a_store_that_is_away_for_a_moment_is_no_matter_of_the_policy(at_exit: bool) -> None:
    around = Away(3, at_exit)
    attempts: List[int] = []
    run, _ = make_run(
        [log(1), completed()],
        callbacks={"on_log": lambda ctx: attempts.append(ctx.attempt)},
        around=around,
        cursor_store=LeasedStore(around.server),
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert attempts == ([1, 2, 3, 4] if at_exit else [4])


def test_a_store_that_stays_away_for_longer_than_a_lease_is_one() -> None:
    around = Away(float("inf"))
    store = LeasedStore(around.server, ttl=1.0)
    run, _ = make_run(
        [log(1), completed()], callbacks={"on_log": print}, around=around, cursor_store=store
    )
    with pytest.raises(StoreUnavailableError):
        run.start().wait(PATIENCE)
    assert around.entered > 1


def test_a_callback_that_says_so_of_a_store_of_its_own_is_one_at_once() -> None:
    def on_log(ctx: Any) -> None:
        raise StoreUnavailableError("that of the callback")

    around = Away(0)
    store = LeasedStore(around.server)
    run, _ = make_run(
        [log(1), completed()], callbacks={"on_log": on_log}, around=around, cursor_store=store
    )
    with pytest.raises(StoreUnavailableError, match="that of the callback"):
        run.start().wait(PATIENCE)
    assert around.entered == 1
