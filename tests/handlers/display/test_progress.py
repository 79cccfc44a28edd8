"""The progress of a run in plain lines, and what no stream may do to the run."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any, List, Optional

import pytest

from arkor_sync import (
    ArkorUsageError,
    Callback,
    ErrorPolicy,
    FileCursorStore,
    RunAborted,
    StopTraining,
    follow,
)
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.handlers import ProgressBar
from arkor_sync.handlers.display import progress as module
from arkor_sync.stream.error_policy import Action
from support.waiting import PATIENCE

OFTEN = 1e9


def run_of(emulator: Emulator, client: Any, *callbacks: Any, **more: Any) -> Any:
    config = {"maxSteps": more.pop("max_steps")} if "max_steps" in more else {}
    job_id = emulator.create_job(config=config, name=more.pop("name", "triage"))
    return follow(job_id, callbacks=callbacks, client=client, abort_grace=PATIENCE, **more)


def log(step: int, timestamp: Optional[str] = None, **metrics: Any) -> Any:
    event = SimpleNamespace(timestamp=timestamp)
    return SimpleNamespace(
        step=step, loss=metrics.get("loss"), eval_loss=metrics.get("eval_loss"), event=event
    )


def progress(max_steps: Any = None, name: str = "triage") -> Any:
    job: Any = SimpleNamespace(name=name, config={"maxSteps": max_steps})
    return module.Progress(job)


# What is said.


def test_the_rate_and_the_time_left_are_those_of_the_clouds_clock() -> None:
    told = progress(100)
    for step in range(10, 60, 10):
        told.update(log(step, f"2026-01-01T00:00:{step // 2:02d}Z", loss=0.123456))
    assert told.step_text() == "step 50/100 (50%)"
    assert told.metrics_text() == "loss 0.1235, 2 steps/s, 25 s left"


def test_a_slow_run_is_told_in_seconds_a_step() -> None:
    told = progress(10)
    told.update(log(1, "2026-01-01T00:00:00Z"))
    told.update(log(2, "2026-01-01T00:20:00.5Z", eval_loss=1))
    assert told.metrics_text() == "eval loss 1, 1.2e+03 s/step, 2 h 40 min left"


def test_a_step_that_comes_again_and_one_that_goes_back_count_once() -> None:
    told = progress(100)
    for step, second in ((10, 1), (20, 2), (20, 3), (20, 9)):
        told.update(log(step, f"2026-01-01T00:00:{second:02d}Z"))
    assert (told.step, told.rate) == (20, 10)
    told.update(log(15, "2026-01-01T00:00:10Z"))  # it trains on from a checkpoint
    assert (told.step, told.rate) == (15, None)


@pytest.mark.parametrize("limit", [None, 0, -1, "100", 1.5, True])
def test_without_a_number_of_steps_there_is_no_share_and_no_time_left(limit: Any) -> None:
    told = progress(limit)
    told.update(log(10, "2026-01-01T00:00:01Z"))
    told.update(log(20, "2026-01-01T00:00:02Z"))
    assert told.step_text() == "step 20"
    assert told.metrics_text() == "10 steps/s"


def test_a_run_that_goes_on_past_its_steps_has_no_known_end() -> None:
    told = progress(10)
    told.update(log(11))
    assert told.step_text() == "step 11"


def test_times_that_cannot_be_read_are_those_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    told = progress()
    for step, second in ((1, 100.0), (2, 104.0), (3, 104.0)):
        clock = "arkor_sync.handlers.display.progress._now"
        monkeypatch.setattr(clock, lambda second=second: second)
        told.update(log(step, "t1"))
    assert told.rate == 0.5
    told = progress()
    for step in (1, 2):
        told.update(log(step, "2026-01-01T00:00:00Z"))
    assert told.rate is None  # at the same moment


def test_a_number_that_no_float_can_hold_is_infinite() -> None:
    told = progress()
    told.update(log(1, loss=10**400, eval_loss=-(10**400)))
    assert told.metrics_text() == "loss inf, eval loss -inf"


# How it is written.


@pytest.mark.arkor(engine=ScriptedEngine(steps=40, eval_loss=lambda s: 2 if s == 40 else None))
def test_lines_come_now_and_then_and_at_the_end(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr(module, "_now", lambda: float(next(seconds)))
    out = io.StringIO()
    run = run_of(arkor_emulator, arkor_client, ProgressBar(file=out), max_steps=40)
    assert run.wait(PATIENCE).status == "completed"
    first, second, last = out.getvalue().splitlines()
    assert first == "triage: step 0/40 (0%)"
    assert second.startswith("triage: step 30/40 (75%), loss 1.058")
    assert last.startswith("triage: completed at step 40/40 (100%), loss 0.8383, eval loss 2, took")


def test_lines_go_to_standard_error(
    arkor_emulator: Emulator, arkor_client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(arkor_emulator, arkor_client, ProgressBar()).wait(PATIENCE)
    written = capsys.readouterr()
    assert "triage: completed at step " in written.err
    assert written.out == ""


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(ArkorUsageError, match="refresh_rate"):
        ProgressBar(refresh_rate=rate)


def test_a_terminal_without_the_extra_gets_plain_lines(
    arkor_emulator: Emulator, arkor_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    out = Terminal()
    run_of(arkor_emulator, arkor_client, ProgressBar(file=out)).wait(PATIENCE)
    assert "triage: completed at step 6, loss" in out.getvalue()
    assert "\r" not in out.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_that_can_do_nothing_gets_plain_lines(
    arkor_emulator: Emulator, arkor_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    run_of(arkor_emulator, arkor_client, ProgressBar(file=out)).wait(PATIENCE)
    assert "\r" not in out.getvalue()


def test_a_name_can_neither_move_the_cursor_nor_break_the_line_nor_the_encoding(
    arkor_emulator: Emulator, arkor_client: Any
) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    name = "a\n\x1b[2Jb\r\u202ec \u65e5\u672c \ud800" + "x" * 500
    run_of(arkor_emulator, arkor_client, ProgressBar(file=out), name=name).wait(PATIENCE)
    for line in raw.getvalue().decode("ascii").splitlines():
        assert line.startswith("a b c ?? ?xxx")
        assert len(line) < 130


# Every end leaves its line.


class Do(Callback):
    """Ends the run at its second step, in one way or another."""

    def __init__(self, how: Any) -> None:
        self.how = how

    def on_log(self, ctx: Any) -> None:
        if ctx.step == 2:
            self.how(ctx)


def raising(error: Exception) -> Any:
    def how(_: Any) -> None:
        raise error

    return how


@pytest.mark.arkor(engine=ScriptedEngine(steps=9, silent_at=4))
@pytest.mark.parametrize(
    ("how", "line"),
    [
        (raising(StopTraining("it\ndiverged")), "stopped at step 2, loss 2.762: it diverged"),
        (raising(StopTraining("")), "stopped at step 2, loss 2.762"),
        (
            raising(LookupError("no key")),
            "running at step 2, loss 2.762: the run ended with LookupError: no key",
        ),
        (
            lambda ctx: ctx.run.abort("lunch"),
            "aborted at step 2, loss 2.762: lunch; the job goes on",
        ),
        (
            lambda ctx: ctx.run.abort(KeyboardInterrupt()),
            "aborted at step 2, loss 2.762: KeyboardInterrupt; the job goes on",
        ),
        (lambda ctx: ctx.run.abort(), "aborted at step 2, loss 2.762: the job goes on"),
    ],
)
def test_a_run_that_does_not_complete_leaves_a_line_that_says_so(
    arkor_emulator: Emulator, arkor_client: Any, how: Any, line: str
) -> None:
    out = io.StringIO()
    run = run_of(arkor_emulator, arkor_client, ProgressBar(file=out, leave=False), Do(how))
    try:
        run.wait(PATIENCE)
    except (RunAborted, LookupError):
        assert "stopped" not in line
    assert out.getvalue().splitlines()[-1] == f"triage: {line}"


@pytest.mark.arkor(engine=ScriptedEngine(steps=9, fails_at=4, error="CUDA\nout of memory"))
def test_a_failed_run_says_why(arkor_emulator: Emulator, arkor_client: Any) -> None:
    out = io.StringIO()
    run_of(arkor_emulator, arkor_client, ProgressBar(file=out), max_steps=9).wait(PATIENCE)
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("triage: failed at step 3/9 (33%), loss 2.652, took ")
    assert last.endswith(": CUDA out of memory")


TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 1\nMemoryError: 20 MiB\n'


@pytest.mark.arkor(engine=ScriptedEngine(steps=9, fails_at=4, error=TRACEBACK))
def test_of_a_traceback_its_last_line_is_told(arkor_emulator: Emulator, arkor_client: Any) -> None:
    out = io.StringIO()
    run_of(arkor_emulator, arkor_client, ProgressBar(file=out)).wait(PATIENCE)
    assert out.getvalue().endswith(": MemoryError: 20 MiB\n")
    assert "Traceback" not in out.getvalue()


@pytest.mark.arkor(engine=ScriptedEngine(events=[{"type": "training.failed", "error": "no GPU"}]))
def test_a_run_that_never_began_says_why(arkor_emulator: Emulator, arkor_client: Any) -> None:
    out = io.StringIO()
    run_of(arkor_emulator, arkor_client, ProgressBar(file=out)).wait(PATIENCE)
    assert out.getvalue() == "triage: failed: no GPU\n"


# Nothing counts twice.


@pytest.mark.arkor(
    engine=ScriptedEngine(steps=20),
    faults=[Fault("cut_mid_event", event="7"), Fault("cut_clean", event="12")],
)
def test_lost_streams_and_redelivered_events_count_once(
    arkor_emulator: Emulator, arkor_client: Any
) -> None:
    failures: List[int] = []

    class Stumble(Callback):
        def on_log(self, ctx: Any) -> None:
            if ctx.step == 9 and ctx.attempt < 3:
                failures.append(ctx.attempt)
                raise LookupError

    out = io.StringIO()
    bar = ProgressBar(file=out, refresh_rate=OFTEN)
    policy = ErrorPolicy().on(LookupError, do=Action.RECONNECT, attempts=3, base=0)
    run = run_of(arkor_emulator, arkor_client, bar, Stumble(), max_steps=20, error_policy=policy)
    run.wait(PATIENCE)
    steps = [int(line.split("step ")[1].split("/")[0]) for line in out.getvalue().splitlines()]
    assert steps == [*range(21), 20]
    assert failures == [1, 2]


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_another_process_goes_on_where_the_first_was(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Any
) -> None:
    job_id = arkor_emulator.create_job(config={"maxSteps": 20})
    store = FileCursorStore(tmp_path)
    more = {"client": arkor_client, "cursor_store": store, "abort_grace": PATIENCE}
    leave = Do(lambda ctx: ctx.run.abort())
    with pytest.raises(RunAborted):
        follow(job_id, callbacks=[ProgressBar(file=io.StringIO()), leave], **more).wait(PATIENCE)
    out = io.StringIO()
    bar = ProgressBar(file=out, refresh_rate=OFTEN)
    follow(job_id, callbacks=[bar], **more).wait(PATIENCE)
    assert out.getvalue().splitlines()[0].startswith("job: step 3/20 (15%)")
    assert out.getvalue().splitlines()[-1].startswith("job: completed at step 20/20")


@pytest.mark.arkor(engine=ScriptedEngine(steps=30))
def test_one_object_serves_several_runs_at_a_time(
    arkor_emulator: Emulator, arkor_client: Any
) -> None:
    out = io.StringIO()
    bar = ProgressBar(file=out, refresh_rate=OFTEN)
    runs = [run_of(arkor_emulator, arkor_client, bar, name=f"run {i}") for i in range(4)]
    for run in runs:
        run.wait(PATIENCE)
    for i in range(4):
        mine = [line for line in out.getvalue().splitlines() if line.startswith(f"run {i}: ")]
        assert len(mine) == 32
        assert "completed at step 30, loss" in mine[-1]
    assert bar._displays == {}


# A broken stream.


class Breaks(io.StringIO):
    """A stream that breaks after some lines."""

    def __init__(self, error: BaseException, after: int = 5, terminal: bool = False) -> None:
        super().__init__()
        self.error, self.after, self.terminal = error, after, terminal

    def write(self, text: str) -> int:
        self.after -= 1
        if self.after < 0:
            raise self.error
        return super().write(text)

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.arkor(engine=ScriptedEngine(steps=20, checkpoints=[10]))
@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space"), ValueError("closed")]
)
def test_a_stream_that_breaks_is_given_up_and_the_run_goes_on(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    steps: List[int] = []
    after = {"on_log": lambda ctx: steps.append(ctx.step)}
    bar = ProgressBar(file=Breaks(error), refresh_rate=OFTEN)
    run = run_of(arkor_emulator, arkor_client, bar, after)
    assert run.wait(PATIENCE).status == "completed"
    assert steps == list(range(1, 21))
    assert run.health().given_up == 0
    [record] = [each for each in caplog.records if "ProgressBar" in each.message]
    assert "nothing more is written for 'triage', because its stream failed" in record.message


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_stream_that_is_closed_in_the_middle_of_a_run_harms_nothing(
    arkor_emulator: Emulator, arkor_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    out = io.StringIO()
    bar = ProgressBar(file=out, refresh_rate=OFTEN)
    run = run_of(arkor_emulator, arkor_client, bar, Do(lambda ctx: out.close()))
    assert run.wait(PATIENCE).status == "completed"
    assert caplog.text.count("its stream failed") == 1
    assert run_of(arkor_emulator, arkor_client, bar).wait(PATIENCE).status == "completed"


def test_a_process_without_standard_error_is_shown_nothing(
    arkor_emulator: Emulator,
    arkor_client: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert run_of(arkor_emulator, arkor_client, ProgressBar()).wait(PATIENCE).status == "completed"
    assert "ProgressBar" not in caplog.text
