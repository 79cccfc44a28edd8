"""The README's first command, run as its reader runs it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.example_runs import EXAMPLES, printed_by, run


@pytest.mark.slow
def test_it_trains_shows_each_checkpoint_getting_better_and_exits_0() -> None:
    printed = printed_by("quickstart.py")
    losses = [float(loss) for loss in re.findall(r"step .* loss +(\d+\.\d+)", printed)]
    assert len(losses) == 20
    assert sum(losses[-4:]) < sum(losses[:4]) / 2
    answers = re.findall(r"it answers: (.*)", printed)
    assert len(answers) == 4
    assert "category: feedback" not in answers[0]
    assert "category: feedback" in answers[-1]
    assert "We tell the colleague who helped you." in answers[-1]
    assert "status: completed" in printed


def test_bad_data_is_one_clear_line_and_a_failed_run_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces"
    data = folder / "data" / "support_triage.jsonl"
    data.parent.mkdir(parents=True)
    shutil.copy(EXAMPLES / "quickstart.py", folder)
    data.write_text('{"messages": []}\nnot json\n')
    done = run(folder / "quickstart.py")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: dataset: got line 1 of {data}, without a list of messages; ")
    data.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    done = run(folder / "quickstart.py")
    assert done.returncode == 1
    assert "failed at step None" in done.stderr
    assert "leaves no record to learn from" in done.stderr
    assert "status: failed" in done.stdout


def test_a_cloud_that_cannot_be_reached_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "http://127.0.0.1:9")
    done = run("quickstart.py", "--cloud")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "http://127.0.0.1:9/v1/auth/anonymous" in line
    assert "refused" in line
