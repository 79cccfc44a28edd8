"""The example of early stopping, run as its reader runs it."""

from __future__ import annotations

import re

import pytest

from support.example_runs import printed_by


@pytest.mark.slow
def test_it_stops_when_the_held_out_loss_rises_and_names_the_best_checkpoint() -> None:
    printed = printed_by("early_stopping.py")
    losses = [float(loss) for loss in re.findall(r"held out (\d+\.\d+)", printed)]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + 2
    assert "status: cancelled: eval_loss is" in printed
    assert "why:    patience exhausted" in printed
    assert f"best:   the checkpoint of step {20 * (best + 1)}, {min(losses):.3f}" in printed
    assert re.search(r"it answers: \S", printed)
    assert f"saved:  {1000 - 20 * len(losses)} of 1000 steps" in printed
