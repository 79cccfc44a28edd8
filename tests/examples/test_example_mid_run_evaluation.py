"""The example of an evaluation while the training goes on, run as its reader runs it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from support.example_runs import printed_by


@pytest.mark.slow
def test_each_checkpoint_gets_a_score_and_the_run_stops_at_a_perfect_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    printed = printed_by("mid_run_evaluation.py")
    scores = [float(s) for s in re.findall(r"^checkpoint \d+: score ([\d.]+)", printed, re.M)]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1] == 1.0
    step = 20 * len(scores)
    assert f"status: cancelled: checkpoint {step} scored 1, and 1 was enough" in printed
    assert f"best checkpoint: {step}, score 1.0" in printed
    [path] = tmp_path.glob("arkor-*/answers.csv")
    assert f"written: {path}" in printed
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["error"] for row in rows] == [""] * 4 * len(scores)
    assert rows[-1]["answer"].startswith("category: delivery")
