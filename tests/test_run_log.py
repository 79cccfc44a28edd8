"""What the log tells of a run: its life, and that a job goes on which nobody follows any more."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import signal
import sys
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional
from weakref import WeakValueDictionary

import pytest

from arkor_sync import (
    Action,
    ArkorConnectionError,
    AuthenticationError,
    ConflictError,
    ErrorPolicy,
    ReconnectExhausted,
    ReconnectPolicy,
    Run,
    RunAborted,
    SavedCursor,
    StopTraining,
)
from arkor_sync._common import process
from arkor_sync._common.log import try_to_log
from arkor_sync.errors import add_note
from support.clocks import FakeClock
from support.fake_cloud import (
    Hold,
    checkpoint,
    completed,
    failed,
    job,
    log,
    logs,
    make_run,
    started,
)
from support.hang_phases import until_waited_for
from support.run_threads import has_ended
from support.waiting import PATIENCE, until

GOES_ON = "job job-1 goes on; follow('job-1') attaches to it again"
LOST = ArkorConnectionError("the network is gone")


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "arkor_sync.run")


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> List[str]:
    """List the lines of the run's logger, of one level."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "arkor_sync.run" and record.levelno == level
    ]


def warnings(caplog: pytest.LogCaptureFixture) -> List[str]:
    return lines(caplog, logging.WARNING)


# Its life.


@pytest.mark.parametrize(
    ("end", "record", "line"),
    [
        (completed(), None, "job job-1 completed"),
        (completed(metrics={"finalLoss": 0.25}), None, "job job-1 completed: final loss 0.25"),
        (failed(), None, "job job-1 failed: CUDA out of memory"),
        (failed(metrics={"finalLoss": 9.0}), None, "job job-1 failed: CUDA out of memory"),
        (failed(error="two\nlines"), None, "job job-1 failed: two lines"),
        (failed(), job("cancelled"), "job job-1 was cancelled"),
    ],
    ids=["completed", "with a loss", "failed", "failed with a loss", "in two lines", "cancelled"],
)
def test_each_step_is_one_line(
    caplog: pytest.LogCaptureFixture, end: bytes, record: Any, line: str
) -> None:
    run, _ = make_run(
        [started() + logs(1, 3) + checkpoint(3, "c") + end], records=[record or job()]
    )
    run.start().wait(PATIENCE)
    run.close()
    assert lines(caplog) == ["job job-1 started", line]
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("reason", "line"), [("", "job job-1 was stopped"), ("dear", "job job-1 was stopped: dear")]
)
def test_a_stop_says_why(caplog: pytest.LogCaptureFixture, reason: str, line: str) -> None:
    def on_log(ctx: Any) -> None:
        raise StopTraining(reason)

    run, _ = make_run([started() + log(1)], callbacks={"on_log": on_log})
    run.start().wait(PATIENCE)
    assert lines(caplog) == ["job job-1 started", line]
    assert warnings(caplog) == []


def test_a_start_that_is_delivered_again_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def on_started(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise ValueError("once more")

    run, jobs = make_run(
        [started(), Hold()],
        [started() + completed()],
        callbacks={"on_started": on_started},
        error_policy=ErrorPolicy.reconnect(),
    )
    run.start().wait(PATIENCE)
    assert len(jobs.resumed) == 2
    assert lines(caplog) == ["job job-1 started", "job job-1 completed"]


def test_a_stream_that_is_open_again_is_told_with_how_long_it_took(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = ReconnectPolicy(base=2.0, cap=2.0, jitter=0)
    run, _ = make_run(
        [logs(1, 1), LOST],
        LOST,
        LOST,
        [logs(2, 2) + completed()],
        reconnect=policy,
        clock=FakeClock(),
    )
    run.start().wait(PATIENCE)
    first, end = lines(caplog)
    assert first == "job job-1: the event stream is open again after 6.0 s (attempts: 3)"
    assert end == "job job-1 completed"


# The job goes on.


class BrokenStore:
    """A store that can save nothing."""

    def load(self, job_id: str) -> SavedCursor:
        return SavedCursor()

    def save(self, job_id: str, saved: SavedCursor) -> None:
        raise OSError("no space")

    def lease(self, job_id: str) -> Callable[[], None]:
        return lambda: None


def raising(error: BaseException) -> Dict[str, Any]:
    def on_log(ctx: Any) -> None:
        raise error

    return {"on_log": on_log}


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An error that takes no attributes."""

    text: str


@dataclasses.dataclass
class End:
    """A run that ends while its job goes on.

    Attributes:
        why: What the log says why it ended.
        connections: What the stream brings.
        options: How it is followed.
        act: What the program does when the stream has brought that.
    """

    why: str
    connections: List[Any]
    options: Dict[str, Any] = dataclasses.field(default_factory=dict)
    act: Optional[Callable[[Run], object]] = None


ABORT_EVENT = "abort_event was set"
LEFT: Dict[str, Callable[[], End]] = {
    "abort": lambda: End("abort() or close()", [], act=lambda run: run.abort()),
    "abort with a reason": lambda: End("lunch", [], act=lambda run: run.abort("lunch")),
    "close": lambda: End("abort() or close()", [], act=lambda run: run.close()),
    "with": lambda: End("abort() or close()", [], act=lambda run: run.__exit__()),
    "a callback raises": lambda: End(
        "ValueError", [[logs(1, 1)]], {"callbacks": raising(ValueError("mine"))}
    ),
    "a callback exits": lambda: End(
        "SystemExit", [[logs(1, 1)]], {"callbacks": raising(SystemExit(3))}
    ),
    "an error without attributes": lambda: End(
        "Frozen", [[logs(1, 1)]], {"callbacks": raising(Frozen("mine"))}
    ),
    "a callback aborts": lambda: End(
        "abort() or close()",
        [[logs(1, 1)]],
        {"callbacks": {"on_log": lambda ctx: ctx.run.abort()}},
    ),
    "too many attempts": lambda: End(
        "ReconnectExhausted",
        [LOST, LOST],
        {"reconnect": ReconnectPolicy(max_attempts=1)},
    ),
    "refused": lambda: End("AuthenticationError", [AuthenticationError(401, "no")]),
    "the position cannot be saved": lambda: End(
        "OSError", [[logs(1, 1)]], {"cursor_store": BrokenStore()}
    ),
    "on_reconnect raises": lambda: End(
        "ValueError",
        [LOST],
        {"callbacks": {"on_reconnect": raising(ValueError("mine"))["on_log"]}},
    ),
    "the exit of the interpreter": lambda: End(
        "the interpreter exits", [], act=lambda run: run.at_exit(PATIENCE)
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_a_run_that_ends_while_its_job_goes_on_says_so_once(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    end = LEFT[name]()
    hold = Hold()
    connections = end.connections or [[hold]]
    run, _ = make_run(*connections, **end.options)
    with run.start():
        if end.act is not None:
            assert hold.reached.wait(PATIENCE)
            end.act(run)
        with pytest.raises(BaseException) as caught:
            run.wait(PATIENCE)
        with pytest.raises(type(caught.value)):
            run.wait(PATIENCE)
    assert warnings(caplog) == [f"{GOES_ON} (why this run ended: {end.why})"]
    said = str(caught.value) + str(getattr(caught.value, "__notes__", ""))
    assert (GOES_ON in said) == (type(caught.value) is not Frozen)
    assert said.count(GOES_ON) <= 1


def test_ctrl_c_says_so_once_also_where_the_run_is_closed_after_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_log(ctx: Any) -> None:
        until_waited_for()
        os.kill(os.getpid(), signal.SIGINT)

    run, _ = make_run([logs(1, 1), Hold()], callbacks={"on_log": on_log})
    with pytest.raises(KeyboardInterrupt) as caught, run.start():
        run.wait(PATIENCE)
    assert caught.value.__notes__ == [GOES_ON]  # type: ignore[attr-defined]
    assert warnings(caplog) == [f"{GOES_ON} (why this run ended: KeyboardInterrupt)"]


def test_a_callback_that_does_not_end_hides_it_from_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entered, release = threading.Event(), threading.Event()

    def stuck(ctx: Any) -> None:
        entered.set()
        assert release.wait(PATIENCE)

    run, _ = make_run([logs(1, 1)], callbacks={"on_log": stuck})
    run.start()
    assert entered.wait(PATIENCE)
    run.close(timeout=0.02)
    assert warnings(caplog)[-1] == f"{GOES_ON} (why this run ended: abort() or close())"
    release.set()
    run.close()
    assert caplog.text.count(GOES_ON) == 1


ENDED: Dict[str, Callable[[], Any]] = {
    "completed": lambda: make_run([completed()]),
    "failed": lambda: make_run([failed()]),
    "the last callback raises": lambda: make_run(
        [completed()], callbacks={"on_completed": raising(ValueError("mine"))["on_log"]}
    ),
    "the last callback aborts": lambda: make_run(
        [completed()], callbacks={"on_completed": lambda ctx: ctx.run.abort()}
    ),
    "on_end raises": lambda: make_run(
        [completed()], callbacks={"on_end": raising(ValueError("mine"))["on_log"]}
    ),
    "stopped": lambda: make_run(
        [logs(1, 1)], callbacks={"on_log": lambda ctx: ctx.run.stop("enough")}
    ),
    "cancelled by the policy": lambda: make_run(
        [logs(1, 1)],
        callbacks=raising(ValueError("mine")),
        error_policy=ErrorPolicy(otherwise=Action.CANCEL),
    ),
    "cancelled, and then aborted": lambda: make_run(
        [logs(1, 1)], callbacks={"on_log": lambda ctx: (ctx.run.cancel(), ctx.run.abort())[0]}
    ),
}


@pytest.mark.parametrize("name", ENDED)
def test_of_a_job_that_has_ended_or_was_cancelled_it_is_not_said(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    run, _ = ENDED[name]()
    error: Optional[Exception] = None
    with run.start():
        try:
            run.wait(PATIENCE)
        except (ValueError, RunAborted) as raised:
            error = raised
    assert "goes on" not in f"{caplog.text} {error} {getattr(error, '__notes__', '')}"


def test_of_a_job_that_cannot_be_cancelled_because_it_has_ended_it_is_not_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hold = Hold()
    run, jobs = make_run([hold])
    jobs.cancel_error = ConflictError(409, "it has ended")
    with run.start():
        assert hold.reached.wait(PATIENCE)
        with pytest.raises(ConflictError):
            run.cancel()
    assert "goes on" not in caplog.text


def test_exhausted_attempts_are_the_users_to_read(caplog: pytest.LogCaptureFixture) -> None:
    run, _ = make_run(LOST, LOST, reconnect=ReconnectPolicy(max_attempts=1))
    with pytest.raises(ReconnectExhausted, match="lost 2 times in a row"):
        run.start().wait(PATIENCE)


# What is spent.


def test_a_spent_budget_is_named(caplog: pytest.LogCaptureFixture) -> None:
    run, _ = make_run(
        [logs(1, 9)],
        callbacks=raising(ValueError("mine")),
        error_policy=ErrorPolicy.log(budget=2),
    )
    with pytest.raises(ValueError, match="mine") as caught:
        run.start().wait(PATIENCE)
    spent = (
        "the error budget of the run is spent: 2 errors were logged, budget=2, and on_log raised "
        "once more"
    )
    assert spent in caught.value.__notes__  # type: ignore[attr-defined]
    assert warnings(caplog)[0] == f"{spent} (job job-1)"


def test_a_rule_that_aborts_is_no_spent_budget(caplog: pytest.LogCaptureFixture) -> None:
    policy = ErrorPolicy.log(budget=0).on(ValueError, do=Action.ABORT)
    run, _ = make_run([logs(1, 9)], callbacks=raising(ValueError("mine")), error_policy=policy)
    with pytest.raises(ValueError, match="mine") as caught:
        run.start().wait(PATIENCE)
    assert "budget" not in caplog.text + str(caught.value.__notes__)  # type: ignore[attr-defined]


def test_a_note_at_an_error_that_takes_none_does_no_harm() -> None:
    error = Frozen("mine")
    add_note(error, "a note")
    assert str(error) == str(Frozen("mine"))


class RaisingLog(logging.Filter):
    """A part of the program's logging that raises, as one does that forgot `handleError`."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise OSError("the disk of the log is full")


@pytest.fixture
def raising_log() -> Iterator[None]:
    broken, logger = RaisingLog(), logging.getLogger("arkor_sync.run")
    logger.addFilter(broken)
    yield
    logger.removeFilter(broken)


@pytest.mark.usefixtures("raising_log")
def test_a_run_ends_although_the_log_raises(capfd: pytest.CaptureFixture[str]) -> None:
    run, _ = make_run([logs(1, 1)], callbacks=raising(ValueError("mine")))
    with pytest.raises(ValueError, match="mine"):
        run.start().wait(PATIENCE)
    assert "the disk of the log is full" in capfd.readouterr().err
    assert run.done()


@pytest.mark.usefixtures("raising_log")
def test_a_run_that_nobody_waits_for_ends_although_the_log_raises(
    capfd: pytest.CaptureFixture[str],
) -> None:
    run, _ = make_run([logs(1, 1)], callbacks=raising(ValueError("mine")))
    run.start()
    until(lambda: has_ended(run))
    assert "the disk of the log is full" in capfd.readouterr().err
    with pytest.raises(ValueError, match="mine"):
        run.wait()


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "none"])
def test_what_a_log_raises_is_lost_only_where_there_is_no_standard_error(
    closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log(*_: Any) -> None:
        raise OSError("the disk of the log is full")

    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    try_to_log(log, "a line")
    assert "the disk of the log is full" in errors.getvalue()
    errors.close()
    monkeypatch.setattr(sys, "stderr", errors if closed else None)
    try_to_log(log, "a line")  # it does not raise, and nothing is printed elsewhere


def test_a_run_ends_and_is_closed_while_the_log_is_blocked() -> None:
    """A signal handler that closes a run may hold the lock of a log handler."""
    written = io.StringIO()
    handler, logger = logging.StreamHandler(written), logging.getLogger("arkor_sync.run")
    logger.addHandler(handler)
    hold = Hold()
    run, _ = make_run([hold])
    run.start()
    handler.acquire()
    try:
        run.close(PATIENCE)
        assert has_ended(run)
    finally:
        handler.release()
        logger.removeHandler(handler)
    assert written.getvalue() == f"{GOES_ON} (why this run ended: abort() or close())\n"
    with pytest.raises(RunAborted):
        run.wait()


def test_an_exit_hook_whose_log_raises_skips_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Owner:
        def __init__(self) -> None:
            self.asked = False

        def after_fork(self) -> None: ...

        def at_exit(self, timeout: float) -> str:
            self.asked = True
            return "a thread is still running"

    owners = [Owner(), Owner()]
    told: List[Any] = []
    monkeypatch.setattr(process, "_registered", WeakValueDictionary())
    for owner in owners:
        process.register_hooks(owner)
    monkeypatch.setattr(process.logger, "warning", raising_call)
    monkeypatch.setattr(sys, "excepthook", lambda *error: told.append(error[0]))
    process._at_exit()
    assert [owner.asked for owner in owners] == [True, True]
    assert told == [OSError, OSError]


def test_exit_hooks_are_called_in_the_opposite_order(monkeypatch: pytest.MonkeyPatch) -> None:
    class Owner:
        def __init__(self, name: str) -> None:
            self.name = name

        def after_fork(self) -> None: ...

        def at_exit(self, timeout: float) -> None:
            asked.append(self.name)

    asked: List[str] = []
    monkeypatch.setattr(process, "_registered", WeakValueDictionary())
    owners = [Owner("store"), Owner("dropped"), Owner("first run"), Owner("second run")]
    for owner in (*owners, owners[0]):  # one is registered twice
        process.register_hooks(owner)
    del owners[1], owner
    process._at_exit()
    assert asked == ["second run", "first run", "store"]
    process._at_exit()  # as `multiprocessing` may do
    assert len(asked) == 3


def raising_call(*_: Any) -> None:
    raise OSError("the disk of the log is full")


def test_of_a_job_that_had_ended_before_it_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    ended = job("completed", completedAt="t9")
    run, _ = make_run([logs(1, 1)], begin=ended, callbacks=raising(ValueError("mine")))
    with pytest.raises(ValueError, match="mine") as caught:
        run.start().wait(PATIENCE)
    assert GOES_ON not in getattr(caught.value, "__notes__", [])
    assert warnings(caplog) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_whose_last_log_lines_raise_settles_the_run() -> None:
    broken, logger = RaisingLog(), logging.getLogger("arkor_sync.stream.worker")
    run, _ = make_run([completed()])
    run._worker.skipped.count = 1  # there is a line to write at the end
    logger.addFilter(broken)
    try:
        assert run.start().wait(PATIENCE).status == "completed"
        assert has_ended(run)
    finally:
        logger.removeFilter(broken)
