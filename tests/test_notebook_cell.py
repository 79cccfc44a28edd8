"""Callbacks print in the cell of a notebook that waits for their run.

The shell here is what `ipykernel` has, as far as it is used. A real one is in `tests/extras`.
"""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any, List, Optional

import pytest

from arkor_sync import WaitTimeout, follow
from arkor_sync._notebook_cell import WaitingCell
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.waiting import PATIENCE


class Shell:
    """A kernel's shell; `cell` is the one that runs, and `told` all cells that it was told of."""

    def __init__(self) -> None:
        self.config = {"IPKernelApp": {}}
        self.cell = "cell 1"
        self.told: List[str] = []
        self.error: Optional[Exception] = None

    def get_parent(self) -> str:
        return self.cell

    def set_parent(self, cell: str) -> None:
        assert threading.current_thread().name.startswith("arkor-worker-")
        self.told.append(cell)
        if self.error is not None:
            raise self.error


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: made))
    return made


def wait_for_the_rest(emulator: Emulator, run: Any) -> None:
    """Wait as `run.wait()` does, but have the next event come while it waits, and not before."""
    steps = iter([100])

    def check() -> None:
        for step in steps:
            emulator.step(run.job.id, step)

    assert run._settlement.wait(None, PATIENCE, check)
    assert run.wait(0).status == "completed"


@pytest.mark.arkor(engine=ScriptedEngine(steps=6, manual=True))
def test_the_worker_changes_to_each_cell_that_waits_before_the_next_callback(
    arkor_emulator: Emulator, arkor_client: Any, shell: Shell
) -> None:
    job_id = arkor_emulator.create_job()
    seen: List[Any] = []
    second = threading.Event()

    def on_log(ctx: Any) -> None:
        seen.append((ctx.step, list(shell.told)))
        if ctx.step == 2:
            second.set()

    run = follow(job_id, callbacks={"on_log": on_log}, client=arkor_client)
    arkor_emulator.step(job_id, 3)  # the start and two logs
    assert second.wait(PATIENCE)
    shell.cell = "cell 2"
    with pytest.raises(WaitTimeout):
        run.wait(0)  # nothing comes while it waits
    shell.cell = "cell 3"
    wait_for_the_rest(arkor_emulator, run)
    assert seen == [(1, []), (2, []), *((step, ["cell 3"]) for step in range(3, 7))]


@pytest.mark.arkor(engine=ScriptedEngine(steps=6, manual=True))
def test_a_shell_that_fails_harms_nothing(
    arkor_emulator: Emulator, arkor_client: Any, shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    shell.error = OSError("the kernel goes away")
    run = follow(arkor_emulator.create_job(), client=arkor_client)
    wait_for_the_rest(arkor_emulator, run)
    assert run.health().given_up == 0
    assert shell.told == ["cell 1"]
    assert caplog.text.count("cannot print in the cell that waits: the kernel goes away") == 1


def test_outside_of_a_notebook_nothing_more_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert WaitingCell().callbacks == {}
    terminal = SimpleNamespace(config={}, get_parent=None, set_parent=None)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: terminal))
    assert WaitingCell().callbacks == {}
