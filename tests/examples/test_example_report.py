"""The example that leaves a report, run as its reader runs it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from support.example_runs import EXAMPLES, python, run


@pytest.mark.slow
def test_it_shows_its_progress_and_says_where_everything_is(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    done = run("report.py", str(folder))
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "support-triage: step 0/100 (0%)"
    assert lines[-1].startswith("support-triage: completed at step 100/100 (100%), loss 0.")
    written = [Path(line.partition("written: ")[2]) for line in done.stdout.splitlines()]
    assert sorted(written) == sorted(folder.iterdir())
    report = (folder / "report.html").read_text("utf-8")
    assert "Thank you for the praise. We tell the colleague who helped you." in report
    assert len(list(csv.DictReader((folder / "history.csv").read_text().splitlines()))) >= 100


def test_without_matplotlib_the_picture_is_an_svg(tmp_path: Path) -> None:
    code = f"""
import importlib.util, runpy, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "matplotlib" else find_spec(name)
sys.modules["matplotlib"] = None
sys.argv = ["report.py", {str(tmp_path)!r}]
runpy.run_path({str(EXAMPLES / "report.py")!r}, run_name="__main__")
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "loss.svg").read_text("utf-8").startswith("<svg ")
