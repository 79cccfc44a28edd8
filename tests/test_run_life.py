"""What a run leaves behind when its start, its end or its waiting is disturbed."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import operator
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from arkor_sync import (
    Action,
    ErrorPolicy,
    FileCursorStore,
    Run,
    RunAborted,
    RunError,
    SavedCursor,
)
from arkor_sync._common.locks import Flag, ProcessLock
from arkor_sync._common.threads import OwnThread
from support.fake_cloud import Hold, completed, logs, make_run
from support.run_threads import has_ended
from support.waiting import PATIENCE, Background, shortest, until

KINDS = ["abort", "reader", "worker"]
SOON = 1.0  # seconds


class Interruption(BaseException):
    """What one thread sets for another, as the time limit of a job system does."""


class Broken(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise LookupError("it has no text")


class Unshown:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise LookupError("it has no text")


class UnruledStore:
    """A store that keeps nothing, and whose leases cannot be given back."""

    def __init__(self, error: BaseException) -> None:
        self.released = 0
        self._error = error

    def load(self, job_id: str) -> SavedCursor:
        return SavedCursor()

    def save(self, job_id: str, saved: SavedCursor) -> None:
        pass

    def lease(self, job_id: str) -> Callable[[], None]:
        return self._release

    def _release(self) -> None:
        self.released += 1
        raise self._error


# A start that fails.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_start_that_fails_is_undone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, error: BaseException
) -> None:
    calls: List[str] = []
    store, event = FileCursorStore(tmp_path), threading.Event()

    def begin() -> Run:
        callbacks = {"on_log": lambda ctx: calls.append("log"), "on_end": calls.append}
        run, _ = make_run(
            [logs(1, 5) + completed()], callbacks=callbacks, cursor_store=store, abort_event=event
        )
        return run

    start = OwnThread.start

    def start_or_not(thread: OwnThread) -> None:
        if thread.name.startswith(f"arkor-{kind}-"):
            raise error
        start(thread)

    monkeypatch.setattr(OwnThread, "start", start_or_not)
    run = begin()
    with pytest.raises(RunError if isinstance(error, Exception) else KeyboardInterrupt) as caught:
        run.start()
    if isinstance(error, Exception):
        assert "job job-1 is not followed: this process cannot start another thread" in str(
            caught.value
        )
        assert caught.value.__cause__ is error
    assert has_ended(run)
    assert calls == []
    monkeypatch.undo()
    assert begin().start().wait(PATIENCE).status == "completed", "the lease was given back"
    assert calls.count("log") == 5


def test_a_run_that_cannot_be_made_gives_its_lease_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = FileCursorStore(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("arkor_sync.run.Worker", None)
        with pytest.raises(TypeError):
            make_run(cursor_store=store)
    run, _ = make_run([completed()], cursor_store=store)
    assert run.start().wait(PATIENCE).status == "completed"


# An end that fails.


@pytest.mark.parametrize("error", [OSError("the database is gone"), SystemExit(3), Broken()])
def test_a_lease_that_cannot_be_given_back_is_logged(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    store = UnruledStore(error)
    run, _ = make_run([logs(1, 2) + completed()], cursor_store=store)
    assert run.start().wait(PATIENCE).status == "completed"
    assert store.released == 1
    assert "the lease of job job-1 could not be given back" in caplog.text
    assert has_ended(run)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Interruption(), Broken()])
def test_a_done_callback_that_raises_skips_no_other(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    called: List[int] = []

    def fail(run: Run) -> None:
        called.append(1)
        raise error

    hold = Hold()
    run, _ = make_run([hold, completed()])
    run.add_done_callback(fail)
    run.add_done_callback(lambda run: called.append(2))
    run.add_done_callback(fail)
    run.add_done_callback(lambda run: called.append(3))
    run.start()
    hold.let_go()
    assert run.wait(PATIENCE).status == "completed"
    until(lambda: len(called) == 4)
    assert called == [1, 2, 1, 3]
    assert caplog.text.count("a done callback of job job-1 failed") == 2
    assert has_ended(run)


def test_an_interruption_in_a_done_callback_reaches_whoever_waits_after_the_others() -> None:
    entered, let_go = threading.Event(), threading.Event()
    called: List[str] = []

    def stuck(ctx: Any) -> None:
        entered.set()
        let_go.wait(PATIENCE)

    def interrupt(run: Run) -> None:
        raise KeyboardInterrupt

    run, _ = make_run([logs(1, 1)], callbacks={"on_log": stuck}, abort_grace=0.01)
    run.add_done_callback(interrupt)
    run.add_done_callback(lambda run: called.append(threading.current_thread().name))
    run.start()
    assert entered.wait(PATIENCE)
    run.abort()
    with pytest.raises(KeyboardInterrupt):
        run.wait(PATIENCE)
    assert called == [threading.current_thread().name]
    let_go.set()
    assert has_ended(run)


# Objects of the program that cannot be shown.


def test_an_exception_that_cannot_be_shown_is_retried_as_any_other() -> None:
    calls: List[int] = []

    def on_log(ctx: Any) -> None:
        calls.append(ctx.attempt)
        if ctx.attempt < 3:
            raise Broken

    policy = ErrorPolicy().on(Exception, do=Action.RETRY, attempts=3)
    run, _ = make_run([logs(1, 1) + completed()], callbacks={"on_log": on_log}, error_policy=policy)
    assert run.start().wait(PATIENCE).status == "completed"
    assert calls == [1, 2, 3]


@pytest.mark.parametrize("action", Action)
def test_no_action_fails_because_an_exception_cannot_be_shown(action: Action) -> None:
    def on_log(ctx: Any) -> None:
        raise Broken

    policy = ErrorPolicy(dead_letter=lambda failure: None).on(
        Exception, do=action, attempts=2 if action in (Action.RETRY, Action.RECONNECT) else 1
    )
    run, jobs = make_run([logs(1, 1) + completed()], callbacks={"on_log": on_log})
    run, jobs = make_run(
        [logs(1, 1) + completed()],
        [logs(1, 1) + completed()],
        callbacks={"on_log": on_log},
        error_policy=policy,
    )
    jobs.cancel_error = Broken()
    run.start()
    if action is Action.LOG:
        assert run.wait(PATIENCE).status == "completed"
    else:
        with pytest.raises(Broken):
            run.wait(PATIENCE)
    assert has_ended(run)


def test_a_reason_that_cannot_be_shown_hangs_nothing() -> None:
    hold = Hold()
    run, _ = make_run([hold])
    run.start()
    run.abort(Unshown())
    with pytest.raises(RunAborted, match="whose text cannot be made"):
        run.wait(PATIENCE)
    assert has_ended(run)


def test_a_task_in_the_background_that_exits_does_not_keep_the_run_from_ending() -> None:
    import asyncio

    tasks: List[Any] = []

    async def exit_when_cancelled() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            raise SystemExit(3)

    async def on_log(ctx: Any) -> None:
        tasks.append(asyncio.ensure_future(exit_when_cancelled()))
        await asyncio.sleep(0)

    run, _ = make_run([logs(1, 1) + completed()], callbacks={"on_log": on_log})
    assert run.start().wait(PATIENCE).status == "completed"
    assert has_ended(run)


# A signal handler, and a second Ctrl-C.


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Sets what SIGUSR1 does."""
    before = signal.getsignal(signal.SIGUSR1)

    def handle(function: Callable[[], object]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: function())

    yield handle
    signal.signal(signal.SIGUSR1, before)


def at_each_call(
    begin: Callable[[], Run], call: Callable[[Run], object], interrupt: Callable[[Run], object]
) -> None:
    """Make a run and call something on it, again and again, each time interrupted one call later.

    Python runs signal handlers when a function is entered, as it does a trace function.
    """
    for place in itertools.count(1):
        run, seen = begin(), 0

        def trace(frame: Any, event: str, argument: Any, place: int = place, run: Run = run) -> Any:
            nonlocal seen
            path = frame.f_code.co_filename
            if event == "call" and ("arkor_sync" in path or path.endswith("threading.py")):
                seen += 1
                if seen == place:
                    sys.settrace(None)
                    interrupt(run)
            return trace

        sys.settrace(trace)
        try:
            call(run)
        finally:
            sys.settrace(None)
        run.close()
        assert has_ended(run)
        with pytest.raises(RunAborted):
            run.wait(PATIENCE)
        if seen < place:
            assert place > 5, "it was interrupted at so many places"
            return


def reading_run() -> Run:
    hold = Hold()
    run, _ = make_run([hold])
    run.start()
    assert hold.reached.wait(PATIENCE)
    return run


@pytest.mark.parametrize("name", ["cancel", "abort", "close"])
def test_abort_in_a_signal_handler_never_waits_for_its_own_thread(name: str) -> None:
    """The handler runs in the midst of whatever its thread was doing, with its locks in hand."""
    call = operator.methodcaller(name)
    Background(at_each_call, reading_run, call, lambda run: run.abort("a signal")).result()


def test_a_ctrl_c_anywhere_inside_abort_leaves_a_run_that_can_be_closed() -> None:
    def abort(run: Run) -> None:
        with contextlib.suppress(Interruption):
            run.abort()

    def interrupt(run: Run) -> None:
        raise Interruption

    Background(at_each_call, reading_run, abort, interrupt).result()


def test_abort_in_a_real_signal_handler_inside_cancel(
    on_signal: Callable[[Callable[[], object]], None],
) -> None:
    hold = Hold()
    run, _ = make_run([hold])
    run.start()
    assert hold.reached.wait(PATIENCE)
    on_signal(lambda: run.abort("a signal"))
    flag = run._transport.interruption
    set_it = flag.set

    def signal_while_the_lock_is_held() -> None:
        flag.set = set_it  # type: ignore[method-assign]
        signal.raise_signal(signal.SIGUSR1)
        set_it()

    flag.set = signal_while_the_lock_is_held  # type: ignore[method-assign]
    run.cancel()
    with pytest.raises(RunAborted, match="a signal"):
        run.wait(PATIENCE)
    assert has_ended(run)


# An exception that another thread sets.


def late_by(block: Callable[[], object]) -> float:
    """Set an exception for a thread that blocks; return how long it took to get there."""
    blocking = Background(block)
    ident = blocking.thread.ident
    assert ident is not None
    until(lambda: not blocking.running() or is_blocked(ident))
    began = time.monotonic()
    kind = ctypes.py_object(Interruption)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), kind) == 1
    with pytest.raises(Interruption):
        blocking.result()
    return time.monotonic() - began


def is_blocked(ident: int) -> bool:
    """Whether a thread waits for a lock."""
    stack = traceback.extract_stack(sys._current_frames()[ident])
    return stack[-1].name in ("wait", "__call__")


def waiting_run() -> Run:
    run, _ = make_run([Hold()])
    return run.start()


def test_wait_sees_an_exception_that_another_thread_sets() -> None:
    def measure() -> float:
        run = waiting_run()
        late = late_by(run.wait)
        assert has_ended(run), "as with a Ctrl-C, the run is aborted"
        return late

    assert shortest(measure, SOON) < SOON


def test_wait_with_a_timeout_sees_one_too() -> None:
    def measure() -> float:
        run = waiting_run()
        late = late_by(lambda: run.wait(PATIENCE))
        run.close()
        return late

    assert shortest(measure, SOON) < SOON


def test_close_sees_one_while_a_callback_does_not_end() -> None:
    def measure() -> float:
        entered, let_go = threading.Event(), threading.Event()

        def stuck(ctx: Any) -> None:
            entered.set()
            let_go.wait(PATIENCE)

        run, _ = make_run([logs(1, 1)], callbacks={"on_log": stuck}, abort_grace=PATIENCE)
        run.start()
        assert entered.wait(PATIENCE)
        late = late_by(run.close)
        let_go.set()
        assert has_ended(run)
        return late

    assert shortest(measure, SOON) < SOON


def test_a_thread_that_waits_for_anothers_submission_sees_one_too() -> None:
    def measure() -> float:
        lock = ProcessLock()

        def hold_it() -> None:
            with lock():
                pass

        with lock():
            return late_by(hold_it)

    assert shortest(measure, SOON) < SOON


# What these are made of.


def test_a_flag_is_an_event() -> None:
    flag = Flag()
    assert not flag.is_set()
    assert not flag.wait(0)
    waiting = Background(flag.wait)
    flag.set()
    assert waiting.result()
    flag.set()
    assert flag.wait(0)
    flag.clear()
    assert not flag.wait(0.001)
