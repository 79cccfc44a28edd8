"""What holds for every example: the README lists it, and Ctrl-C ends it without a traceback."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEED_EXTRAS = {"metrics_to_database"}


def test_the_readme_lists_every_example_once_and_none_that_does_not_exist() -> None:
    _, _, section = (ROOT / "README.md").read_text("utf-8").partition("\n## Examples\n")
    section = section.partition("\n## ")[0]
    listed = re.findall(r"^python examples/(\w+\.py)", section, re.MULTILINE)
    assert sorted(listed) == [path.name for path in EXAMPLES]


@pytest.mark.parametrize(
    "example",
    [path for path in EXAMPLES if path.stem not in NEED_EXTRAS],
    ids=lambda path: path.stem,
)
def test_ctrl_c_ends_it_without_a_traceback_and_leaves_no_emulator_behind(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "here").mkdir()
    code = f"""
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # the test may run in the background
sys.argv = [{str(example)!r}]
runpy.run_path({str(example)!r}, run_name="__main__")
"""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        cwd=tmp_path / "here",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130, first + rest
    for bad in ("Traceback", "Warning", "interpreter exits"):
        assert bad not in first + rest
    assert list((tmp_path / "here").iterdir()) == []
    assert list(tmp_path.glob("arkor-emulator-*")) == []
