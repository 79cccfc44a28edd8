"""The loss chart in a notebook's cell: what is shown when, and what must not harm the run.

What a real kernel does with it is in `tests/extras/test_notebook.py`.
"""

from __future__ import annotations

import pickle
import re
import sys
import threading
from types import SimpleNamespace
from typing import Any, Dict, List, NamedTuple

import pytest

from arkor_sync import ArkorUsageError, Callback, FileCursorStore, RunAborted, follow
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.handlers import NotebookPlot
from support.waiting import PATIENCE


class Shown(NamedTuple):
    """A call of `IPython.display.display`."""

    thread: str
    bundle: Dict[str, str]
    display_id: str
    update: bool


class Kernel:
    """What IPython has in a kernel, as far as the chart uses it; `error` is what it raises."""

    def __init__(self) -> None:
        self.shown: List[Shown] = []
        self.error: Any = None
        self.shell = SimpleNamespace(config={"IPKernelApp": {}})

    def display(self, bundle: Any, *, raw: bool, display_id: str, update: bool) -> None:
        assert raw
        if self.error is not None:
            raise self.error
        name = threading.current_thread().name
        self.shown.append(Shown(name, bundle, display_id, update))

    @property
    def texts(self) -> List[str]:
        return [each.bundle["text/plain"] for each in self.shown]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    ipython = SimpleNamespace(get_ipython=lambda: made.shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=made.display))
    return made


def run_of(emulator: Emulator, client: Any, *callbacks: Any, **more: Any) -> Any:
    job_id = emulator.create_job(name=more.pop("name", "triage"))
    return follow(job_id, callbacks=callbacks, client=client, **more)


@pytest.mark.arkor(engine=ScriptedEngine(steps=20, checkpoints=[10]))
def test_it_is_shown_when_the_job_has_started_and_then_replaced_in_its_place(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, kernel: Kernel
) -> None:
    plot = NotebookPlot(every=0)
    run = run_of(arkor_emulator, arkor_client, plot)
    assert run.wait(PATIENCE).status == "completed"
    first, *others = kernel.shown
    assert first.thread.startswith("arkor-worker-")  # it is the thread that belongs to a cell
    assert first.bundle["text/plain"] == "triage: running"
    assert not first.update
    assert {each.thread for each in others} == {"arkor-NotebookPlot"}
    assert {each.display_id for each in others} == {first.display_id}
    assert all(each.update for each in others)
    assert kernel.texts[-1] == "triage: completed at step 20"
    html = kernel.shown[-1].bundle["text/html"]
    assert html.startswith('<div class="arkor-live"><style>')
    assert ">checkpoint</text>" in html
    assert plot._places == plot._drawn == plot.state_dict() == {}


@pytest.mark.arkor(engine=ScriptedEngine(steps=50))
def test_it_is_replaced_no_more_often_than_it_may(
    arkor_emulator: Emulator, arkor_client: Any, kernel: Kernel
) -> None:
    run_of(arkor_emulator, arkor_client, NotebookPlot(every=1e9)).wait(PATIENCE)
    assert len([text for text in kernel.texts if "completed" in text]) == 1
    assert len(kernel.shown) <= 3  # the first one may be drawn again with what came meanwhile


@pytest.mark.arkor(engine=ScriptedEngine(steps=5, fails_at=5, error="no\n\x1b[1m<memory>"))
def test_each_run_has_a_chart_of_its_own_which_says_how_it_ended(
    arkor_emulator: Emulator, arkor_client: Any, kernel: Kernel
) -> None:
    plot = NotebookPlot()
    runs = [run_of(arkor_emulator, arkor_client, plot, name=name) for name in ("<a>", "b")]
    for run in runs:
        run.wait(PATIENCE)
    assert len({each.display_id for each in kernel.shown}) == 2
    last = {each.display_id: each.bundle for each in kernel.shown}
    assert sorted(each["text/plain"] for each in last.values()) == [
        "<a>: failed: no <memory> at step 4",
        "b: failed: no <memory> at step 4",
    ]
    for each in last.values():
        assert "failed: no &lt;memory&gt;</text>" in each["text/html"]
        assert "<memory>" not in each["text/html"]
        assert "<a>" not in each["text/html"]


@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_notebook_that_cannot_show_it_harms_nothing_and_is_told_of_once(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    kernel: Kernel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kernel.error = OSError("the kernel goes away")
    run = run_of(arkor_emulator, arkor_client, NotebookPlot(every=0))
    assert run.wait(PATIENCE).status == "completed"
    assert run.health().given_up == 0
    assert caplog.text.count("could not be drawn: OSError: the kernel goes away") == 1
    assert len(caplog.records) == 1


@pytest.mark.arkor(engine=ScriptedEngine(steps=30, checkpoints=[10]))
def test_a_run_that_is_carried_on_keeps_its_curve(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Any, kernel: Kernel
) -> None:
    class Die(Callback):
        def on_log(self, ctx: Any) -> None:
            if ctx.step == 15:
                ctx.run.abort("killed")

    job_id = arkor_emulator.create_job(name="triage")
    more: Dict[str, Any] = {
        "client": arkor_client,
        "cursor_store": FileCursorStore(tmp_path / "cursors"),
        "abort_grace": PATIENCE,
    }
    with pytest.raises(RunAborted):
        follow(job_id, callbacks=[NotebookPlot(), Die()], **more).wait(PATIENCE)
    # If the job has ended before it is followed, nothing is said to go on.
    told = r"triage: aborted: killed(; the job goes on)? at step 15"
    assert re.fullmatch(told, kernel.texts[-1])
    follow(job_id, callbacks=[NotebookPlot()], **more).wait(PATIENCE)
    assert "loss over 30 steps" in kernel.shown[-1].bundle["text/html"]
    assert ">checkpoint</text>" in kernel.shown[-1].bundle["text/html"]


def test_a_copy_has_the_settings_and_shows_no_run(kernel: Kernel) -> None:
    plot = NotebookPlot(every=3, timeout=4)
    plot._places["job-1"] = "arkor-1"
    copy = pickle.loads(pickle.dumps(plot))
    assert (copy._every, copy._timeout, copy._places) == (3, 4, {})


def test_what_cannot_work_is_refused(kernel: Kernel) -> None:
    wrong: Any = "soon"
    with pytest.raises(ArkorUsageError, match="every: got str 'soon'; give a number of seconds"):
        NotebookPlot(every=wrong)
    with pytest.raises(ArkorUsageError, match="timeout: got int -1; give a number of seconds"):
        NotebookPlot(timeout=-1)


def test_outside_of_a_notebook_the_error_says_what_to_use_instead(kernel: Kernel) -> None:
    kernel.shell.config.clear()  # IPython in a terminal
    with pytest.raises(
        ArkorUsageError, match=r"no Jupyter kernel; .* ProgressBar\(\), .* LossPlot"
    ):
        NotebookPlot()


def test_without_ipython_the_error_names_the_extra(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(
        ArkorUsageError, match=r"NotebookPlot needs .*pip install '.*(notebook|ipython)"
    ):
        NotebookPlot()
