"""A notebook of a real Jupyter kernel: which cell shows the curve, the prints and the results."""

from __future__ import annotations

import contextlib
from queue import Empty
from typing import Any, Dict, Iterator, List, Tuple

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from arkor_sync import ArkorUsageError
from arkor_sync._common.clock import Clock
from arkor_sync.handlers import NotebookPlot
from support.example_runs import EXAMPLES
from support.waiting import PATIENCE

SETUP = """
import threading
from arkor_sync import CloudApiClient, ProjectState, TokenCredentials, follow
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.handlers import NotebookPlot

told = {3: threading.Event()}

def say(ctx):
    print("step", ctx.step)
    if ctx.step in told:
        told[ctx.step].set()

engine = ScriptedEngine(steps=6, manual=True, checkpoints=[4])
emulator = Emulator(engine).start()
scope = ProjectState(emulator.org_slug, emulator.project_slug, emulator.project_id)
client = CloudApiClient(emulator.url, TokenCredentials(emulator.token), scope=scope)
job = emulator.create_job(name="<triage>")
"""
FOLLOW = f"""
run = follow(job, callbacks=[NotebookPlot(every=0), {{"on_log": say}}], client=client)
emulator.step(job, 4)
assert told[3].wait({PATIENCE})
"""
WAIT = f"""
emulator.step(job, 100)
result = run.wait({PATIENCE})
print(result.status)
"""


class Notebook:
    """The cells of a notebook, and what each shows: as a front end puts it together.

    Attributes:
        updates: How often an output was replaced in its place.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._outputs: Dict[str, List[Dict[str, Any]]] = {}  # by the request that runs the cell
        self._displays: Dict[str, List[Dict[str, Any]]] = {}  # by display id
        self.updates = 0

    def run(self, source: str) -> str:
        """Run a cell to its end, which must be a good one; return its id."""
        cell: str = self._client.execute(source)
        self._outputs[cell] = []
        while self._read() != (cell, "idle"):
            pass
        errors = [each for each in self._outputs[cell] if "traceback" in each]
        assert not errors, "\n".join(errors[0]["traceback"])
        return cell

    def printed(self, cell: str) -> str:
        return "".join(each.get("text", "") for each in self._outputs[cell])

    def shown(self, cell: str) -> List[Dict[str, str]]:
        return [each["data"] for each in self._outputs[cell] if "data" in each]

    def _read(self) -> Tuple[str, str]:
        """Take in a message; return the cell that it belongs to, and the state of the kernel."""
        deadline = Clock.now() + PATIENCE
        while True:
            with contextlib.suppress(Empty):
                message = self._client.get_iopub_msg(timeout=1)
                break
            assert Clock.now() < deadline, "the kernel says nothing"
        content = message["content"]
        cell = message["parent_header"].get("msg_id", "")
        display_id = content.get("transient", {}).get("display_id")
        if message["msg_type"] == "update_display_data":
            self.updates += 1
            for output in self._displays[display_id]:
                output["data"] = content["data"]
        elif message["msg_type"] in ("stream", "display_data", "execute_result", "error"):
            self._outputs[cell].append(content)
            if display_id is not None:
                self._displays.setdefault(display_id, []).append(content)
        return cell, content.get("execution_state", "")


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook(kernel: Any) -> Iterator[Notebook]:
    """Give a notebook with a local Arkor, and a job that is about to begin."""
    made = Notebook(kernel)
    made.run(SETUP)
    yield made
    made.run("emulator.stop()")


def test_the_curve_is_replaced_in_its_place_in_the_cell_that_waits_and_prints_are_below_it(
    notebook: Notebook,
) -> None:
    cell = notebook.run(FOLLOW + WAIT)
    after = notebook.run("print('after')")
    [curve] = notebook.shown(cell)
    assert notebook.updates >= 2
    assert curve["text/plain"] == "<triage>: completed at step 6"
    assert (
        "<title>&lt;triage&gt;: loss over 6 steps that were logged, completed"
        in (curve["text/html"])
    )
    assert ">checkpoint</text>" in curve["text/html"]
    steps = "".join(f"step {step}\n" for step in range(1, 7))
    assert notebook.printed(cell) == f"{steps}completed\n"
    assert notebook.printed(after) == "after\n"
    assert notebook.shown(after) == []


def test_when_a_later_cell_waits_prints_appear_there_and_the_curve_stays_where_it_is(
    notebook: Notebook,
) -> None:
    first = notebook.run(FOLLOW)
    between = notebook.run("print('between')")
    last = notebook.run(WAIT)
    assert notebook.printed(first) == "step 1\nstep 2\nstep 3\n"
    assert notebook.printed(between) == "between\n"
    assert notebook.printed(last) == "step 4\nstep 5\nstep 6\ncompleted\n"
    [curve] = notebook.shown(first)
    assert curve["text/plain"] == "<triage>: completed at step 6"
    assert notebook.shown(between) == notebook.shown(last) == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("result", ["&lt;triage&gt;", "completed", "<dt>Final train loss</dt>", "<svg "]),
        ("run", ["&lt;triage&gt;", "completed", "<dt>Checkpoints</dt><dd>1</dd>", "<svg "]),
        ("run.history", ["<svg ", "<summary>6 steps</summary>"]),
        ("client.jobs.list()[0]", ["&lt;triage&gt;", "completed", "<dt>Model</dt>"]),
    ],
)
def test_what_a_cell_returns_shows_itself(
    notebook: Notebook, expression: str, expected: List[str]
) -> None:
    notebook.run(FOLLOW + WAIT)
    [shown] = notebook.shown(notebook.run(expression))
    for text in expected:
        assert text in shown["text/html"]
    assert "emulator-token" not in shown["text/html"]


def test_the_example_shows_a_curve_the_answers_and_what_is_known_of_the_run() -> None:
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert all(cell.get("outputs", []) == [] for cell in notebook.cells)
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    setup, training, *shown, stop = outputs
    assert setup == stop == []
    [curve] = [each for each in training if each.output_type == "display_data"]
    assert curve.data["text/plain"] == "notebook: completed at step 60"
    printed = "".join(each.text for each in training if each.get("name") == "stdout")
    assert [line.split(":")[0] for line in printed.splitlines()] == [
        "checkpoint 20",
        "checkpoint 40",
        "checkpoint 60",
    ]
    for [output] in shown:
        assert output.data["text/html"].startswith('<div class="arkor-card">')
    assert len(shown) == 4


def test_outside_of_a_notebook_an_error_says_what_to_use_instead() -> None:
    with pytest.raises(
        ArkorUsageError, match=r"no Jupyter kernel; .* ProgressBar\(\), .* LossPlot"
    ):
        NotebookPlot()
