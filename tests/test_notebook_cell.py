"""Callbacks print in the cell of a notebook that waits for their run.

The shell here is what `ipykernel` has, as far as it is used. A real one is in `tests/extras`.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any, List, Optional

import pytest

from arkor_sync import WaitTimeout, follow
from arkor_sync._common.notebook import notebook_shell
from arkor_sync._notebook_cell import WaitingCell
from arkor_sync._settlement import Settlement
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.waiting import PATIENCE, Background


class Shell:
    """A kernel's shell; `cell` is the one that runs, and `told` all cells that it was told of."""

    def __init__(self) -> None:
        self.config = {"IPKernelApp": {}}
        self.cell = "cell 1"
        self.told: List[str] = []
        self.error: Optional[Exception] = None
        self.unknown: Optional[Exception] = None

    def get_parent(self) -> str:
        if self.unknown is not None:
            raise self.unknown
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


def fail(*_: object) -> Any:
    raise OSError("no shell")


@pytest.mark.parametrize(
    "module",
    [
        ModuleType("IPython"),  # as while another thread imports it
        SimpleNamespace(get_ipython=None),
        SimpleNamespace(get_ipython=fail),
        SimpleNamespace(get_ipython=object),  # a shell without a configuration
        SimpleNamespace(get_ipython=lambda: SimpleNamespace(config=None)),
    ],
    ids=range(5),
)
def test_whatever_has_the_name_of_ipython_is_no_notebook_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert notebook_shell() is None
    assert WaitingCell().callbacks == {}


def test_a_shell_that_does_not_know_the_cell_does_not_end_the_waiting(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    shell.unknown = OSError("no cell")
    cell = WaitingCell()
    with cell:
        cell.callbacks["on_log"](None)
    assert shell.told == []
    assert caplog.text.count("cannot print in the cell that waits: no cell") == 1


def test_a_signal_handler_may_wait_for_the_run_while_its_thread_begins_to(shell: Shell) -> None:
    cell = WaitingCell()

    def wait_twice() -> None:
        with cell._lock, cell:
            assert cell._parent == "cell 1"

    Background(wait_twice).result()


def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have(shell: Shell) -> None:
    settlement = Settlement(None)

    def wait_in_the_child() -> None:
        with settlement.cell:
            pass

    with settlement.cell._lock:  # this thread is the one that does not exist there
        settlement.renew_lock()
        Background(wait_in_the_child).result()


def test_the_warning_is_logged_when_the_lock_is_free(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = WaitingCell()
    warned: List[str] = []

    def take_the_lock() -> None:
        with cell._lock:
            pass

    def warning(text: str, *_: object) -> None:
        Background(take_the_lock).result()
        warned.append(text)

    monkeypatch.setattr("arkor_sync._notebook_cell.logger.warning", warning)
    monkeypatch.setattr(Shell, "set_parent", fail)
    with cell:
        cell.callbacks["on_log"](None)
    assert len(warned) == 1
