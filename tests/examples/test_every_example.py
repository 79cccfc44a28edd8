"""What holds for every example: the README names it, a test runs it, and Ctrl-C ends it quietly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.example_runs import EXAMPLES
from support.extras import need, need_packaged_model
from support.waiting import PATIENCE

ALL = sorted(EXAMPLES.glob("*.py"))
NEEDED = {"metrics_to_database": "sqlalchemy"}
QUICK = {"nightly", "quickstart"}  # the others train for seconds until their first line

# Runs an example, and stops the process when it has printed a line: Ctrl-C comes then, and neither
# before it has begun nor after it has ended.
STANDS_STILL = """
import os, runpy, signal, sys

def stand_still(stream):
    write = stream.write

    def write_a_line(text):
        count = write(text)
        if "\\n" in text and begun:
            begun.pop()
            os.kill(os.getpid(), signal.SIGSTOP)
        return count

    stream.write = write_a_line

begun = [True]
stand_still(sys.stdout)
stand_still(sys.stderr)
signal.signal(signal.SIGINT, signal.default_int_handler)  # the test may run in the background
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_readme_names_every_example_and_none_that_does_not_exist() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    named = re.findall(r"\bexamples/(\w+\.(?:py|ipynb))", readme)
    assert set(named) == {path.name for path in EXAMPLES.iterdir() if path.is_file()}


def test_the_command_of_a_folder_installs_all_that_it_needs_and_runs_it() -> None:
    for readme in EXAMPLES.glob("*/README.md"):
        text = readme.read_text("utf-8")
        commands = re.findall(r"```sh\n(.*?)\n```", text, re.DOTALL)
        assert len(commands) == 1, readme
        run = f"python examples/{readme.parent.name}/run.py"
        assert re.fullmatch(rf"pip install '\.\[[\w,]+\]'[^\n&]* && {run}", commands[0]), readme


def test_every_example_has_a_test_that_runs_it() -> None:
    tests = [
        path.read_text("utf-8")
        for room in ("examples", "extras")
        for path in (EXAMPLES.parent / "tests" / room).glob("test_*.py")
    ]
    for path in filter(Path.is_file, EXAMPLES.iterdir()):
        assert any(f'"{path.name}"' in text for text in tests), path.name


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else pytest.mark.slow)
        for path in ALL
    ],
)
def test_ctrl_c_ends_it_without_a_traceback_and_leaves_no_emulator_behind(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if example.stem in NEEDED:
        need(NEEDED[example.stem])
    if example.stem == "local_lora":
        need_packaged_model()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "here").mkdir()
    with subprocess.Popen(
        [sys.executable, "-u", "-c", STANDS_STILL, str(example)],
        cwd=tmp_path / "here",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, printed
    for bad in ("Traceback", "Warning", "interpreter exits"):
        assert bad not in printed
    assert list((tmp_path / "here").iterdir()) == []
    assert list(tmp_path.glob("arkor-emulator-*")) == []
