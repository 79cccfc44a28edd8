"""The example of early stopping, run as its reader runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "early_stopping.py"


def test_it_stops_when_the_held_out_loss_rises_and_names_the_best_checkpoint() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    losses = [float(loss) for loss in re.findall(r"held out (\d+\.\d+)", done.stdout)]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + 2
    assert "status: cancelled: eval_loss is" in done.stdout
    assert "why:    patience exhausted" in done.stdout
    assert f"best:   the checkpoint of step {20 * (best + 1)}, {min(losses):.3f}" in done.stdout
    assert f"saved:  {1000 - 20 * len(losses)} of 1000 steps" in done.stdout
