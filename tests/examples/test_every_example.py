"""What holds for every example: the README lists it, and Ctrl-C ends it without a traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.example_runs import EXAMPLES
from support.waiting import PATIENCE

ALL = sorted(EXAMPLES.glob("*.py"))
NEED_EXTRAS = {"metrics_to_database"}
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


def test_the_readme_lists_every_example_once_and_none_that_does_not_exist() -> None:
    _, _, section = (EXAMPLES.parent / "README.md").read_text("utf-8").partition("\n## Recipes\n")
    section = section.partition("\n## ")[0]
    listed = re.findall(r"^\* \[(\w+\.\w+)\]\(examples/\1\): ", section, re.MULTILINE)
    assert sorted(listed) == [path.name for path in [*ALL, *EXAMPLES.glob("*.ipynb")]]


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else pytest.mark.slow)
        for path in ALL
        if path.stem not in NEED_EXTRAS
    ],
)
def test_ctrl_c_ends_it_without_a_traceback_and_leaves_no_emulator_behind(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
