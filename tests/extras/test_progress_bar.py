"""The progress bar that tqdm draws, in what looks like a terminal or a notebook."""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import pty
import re
import select
import struct
import sys
import termios
import threading
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import pytest
import tqdm.auto

from arkor_sync import Callback, RunAborted, follow
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.handlers import ProgressBar
from support.forking import fork
from support.waiting import PATIENCE

OFTEN = 1e9

# tqdm's lock has multiprocessing start a process and keep a pipe to it, once, from 3.14 on.
tqdm.auto.tqdm.get_lock()


class Terminal(io.StringIO):
    """What a terminal was sent; it may break after some writes."""

    encoding = "utf-8"  # type: ignore[assignment]

    def __init__(self, breaks_after: float = float("inf")) -> None:
        super().__init__()
        self.left = breaks_after

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)

    @property
    def frames(self) -> List[str]:
        return [each for each in self.getvalue().replace("\n", "\r").split("\r") if each.strip()]


def run_of(emulator: Emulator, client: Any, *callbacks: Any, **config: Any) -> Any:
    job_id = emulator.create_job(config=config, name="triage")
    return follow(job_id, callbacks=callbacks, client=client)


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_bar_grows_to_its_end_and_stays(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    out = Terminal()
    bar = ProgressBar(file=out, refresh_rate=OFTEN)
    run = run_of(arkor_emulator, arkor_client, bar, maxSteps=20)
    assert run.wait(PATIENCE).status == "completed"
    assert any(
        frame.startswith("triage:  50%|") and "| 10/20, loss" in frame for frame in out.frames
    )
    assert out.frames[-1].startswith("triage: 100%|")
    assert "| 20/20, loss 1.42, took " in out.frames[-1]
    assert out.getvalue().endswith("\n")
    assert tqdm.auto.tqdm.monitor is None  # no thread of tqdm's was left or started
    assert not [each for each in threading.enumerate() if "TMonitor" in type(each).__name__]


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_bar_that_is_not_to_stay_is_wiped_out(
    arkor_emulator: Emulator, arkor_client: Any
) -> None:
    out = Terminal()
    run_of(arkor_emulator, arkor_client, ProgressBar(file=out, leave=False)).wait(PATIENCE)
    assert out.getvalue().endswith("\r")
    assert out.getvalue().rstrip("\r").rsplit("\r", 1)[-1].strip() == ""
    assert "\n" not in out.getvalue()


@pytest.mark.arkor(engine=ScriptedEngine(steps=20, fails_at=10))
def test_a_failed_run_leaves_a_line_even_when_the_bar_goes(
    arkor_emulator: Emulator, arkor_client: Any
) -> None:
    out = Terminal()
    bar = ProgressBar(file=out, leave=False)
    run_of(arkor_emulator, arkor_client, bar, maxSteps=20).wait(PATIENCE)
    assert out.frames[-1] == "triage: failed at step 9/20 (45%): CUDA out of memory"


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
@pytest.mark.parametrize("config", [{}, {"maxSteps": 5}])
def test_without_a_known_end_the_step_is_shown(
    arkor_emulator: Emulator, arkor_client: Any, config: Dict[str, Any]
) -> None:
    out = Terminal()
    run_of(arkor_emulator, arkor_client, ProgressBar(file=out), **config).wait(PATIENCE)
    assert out.frames[-1].startswith("triage: step 20, loss 1.42, took ")
    assert "%" not in out.frames[-1]


@pytest.mark.arkor(engine=ScriptedEngine(steps=200))
def test_a_bar_is_refreshed_no_more_often_than_it_may(
    arkor_emulator: Emulator, arkor_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arkor_sync.handlers.display.progress._now", lambda: 1.0)
    out = Terminal()
    run_of(arkor_emulator, arkor_client, ProgressBar(file=out), maxSteps=200).wait(PATIENCE)
    shown = {frame.split("%")[0] for frame in out.frames}
    assert shown == {"triage:   0", "triage: 100"}


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
@pytest.mark.parametrize("breaks_after", [0, 1, 6])
def test_a_terminal_that_goes_away_is_given_up_and_the_run_goes_on(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    caplog: pytest.LogCaptureFixture,
    breaks_after: int,
) -> None:
    steps: List[int] = []

    class After(Callback):
        def on_log(self, ctx: Any) -> None:
            steps.append(ctx.step)

    bar = ProgressBar(file=Terminal(breaks_after), refresh_rate=OFTEN)
    run = run_of(arkor_emulator, arkor_client, bar, After(), maxSteps=20)
    assert run.wait(PATIENCE).status == "completed"
    assert steps == list(range(1, 21))
    assert run.health().given_up == 0
    assert caplog.text.count("its stream failed: BrokenPipeError") == 1


def test_a_notebook_gets_a_bar_though_it_is_no_terminal(
    arkor_emulator: Emulator, arkor_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    run_of(arkor_emulator, arkor_client, ProgressBar(), maxSteps=10).wait(PATIENCE)
    assert "\rtriage: 100%|" in out.getvalue()
    shell.config.clear()  # IPython in a terminal, its output in a pipe
    run_of(arkor_emulator, arkor_client, ProgressBar(), maxSteps=10).wait(PATIENCE)
    assert out.getvalue().splitlines()[-1].startswith("triage: completed at step 10/10")


class Screen(Terminal):
    """A terminal that also moves its cursor, as a person sees it."""

    def seen(self) -> List[str]:
        rows: Dict[int, str] = {}
        row = column = 0
        for part in re.findall(r"\x1b\[A|\n|\r|[^\n\r\x1b]+", self.getvalue()):
            if part == "\x1b[A":
                row -= 1
            elif part == "\n":
                row, column = row + 1, 0
            elif part == "\r":
                column = 0
            else:
                line = rows.get(row, "").ljust(column)
                rows[row] = line[:column] + part + line[column + len(part) :]
                column += len(part)
        return [rows[row].rstrip() for row in sorted(rows) if rows[row].strip()]


@pytest.mark.arkor(engine=ScriptedEngine(steps=10, manual=True))
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("completes", [True, False])
def test_the_bars_of_several_runs_do_not_write_over_each_other(
    arkor_emulator: Emulator, arkor_client: Any, order: Tuple[int, ...], completes: bool
) -> None:
    out = Screen()
    bar = ProgressBar(file=out, refresh_rate=OFTEN)
    told: Dict[str, threading.Event] = {}
    runs = []
    for name in ("a", "b", "c"):
        job_id = arkor_emulator.create_job(name=name, config={"maxSteps": 10})
        told[job_id] = threading.Event()
        after = {"on_log": lambda ctx: ctx.step == 3 and told[ctx.job.id].set()}
        runs.append(follow(job_id, callbacks=[bar, after], client=arkor_client))
        arkor_emulator.step(job_id, 4)
        assert told[job_id].wait(PATIENCE)
    expected = []
    for index in order:
        run, name = runs[index], "abc"[index]
        if not completes:
            run.abort()
            expected += [f"{name}:  30%|█", f"{name}: aborted"]
            with pytest.raises(RunAborted):
                run.wait(PATIENCE)
        else:
            arkor_emulator.step(run.job.id, 20)
            assert run.wait(PATIENCE).status == "completed"
            expected += [f"{name}: 100%|█"]
    seen = out.seen()
    assert len(seen) == len(expected), seen
    assert all(line.startswith(start) for line, start in zip(seen, expected)), seen


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (24, 0), (0, 100), (24, 100)])
def test_a_terminal_that_does_not_know_its_size_shows_the_bar(
    arkor_emulator: Emulator, arkor_client: Any, rows: int, columns: int
) -> None:
    main, other = pty.openpty()
    try:
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        with open(other, "w", closefd=False) as out:
            run_of(arkor_emulator, arkor_client, ProgressBar(file=out), maxSteps=20).wait(PATIENCE)
        shown = b""
        while b"20/20" not in shown and select.select([main], [], [], PATIENCE)[0]:
            shown += os.read(main, 1 << 16)
    finally:
        os.close(main)
        os.close(other)
    assert b"100%" in shown
    assert b"20/20" in shown


@pytest.mark.arkor(engine=ScriptedEngine(steps=3))
def test_a_forked_child_does_not_draw_the_bar_again(
    arkor_emulator: Emulator, arkor_client: Any
) -> None:
    out, codes = Terminal(), []

    def exit_as_an_interpreter_does() -> None:
        before = out.getvalue()
        for each in list(tqdm.auto.tqdm._instances):
            each.close()
        assert out.getvalue() == before

    def on_log(ctx: Any) -> None:
        codes.append(fork(exit_as_an_interpreter_does)())

    bar = ProgressBar(file=out, refresh_rate=OFTEN)
    run_of(arkor_emulator, arkor_client, bar, {"on_log": on_log}, maxSteps=3).wait(PATIENCE)
    assert codes == [0, 0, 0]
