"""The example of many runs in a thread pool, run as its reader runs it."""

from __future__ import annotations

import re

import pytest

from support.example_runs import printed_by


@pytest.mark.slow
def test_the_best_of_all_is_named_and_a_job_that_fails_harms_no_other() -> None:
    printed = printed_by("many_runs.py")
    lines = printed.splitlines()
    [failure] = [line for line in lines if line.startswith("job ")]
    assert "(triage at 0.005) failed: the data set could not be read" in failure
    assert len(re.findall(r"^triage at \S+: completed$", printed, re.M)) == 7
    rows = re.findall(r"^(triage at \S+) +50 +\S+ +(\S+) +(?:25|50)$", printed, re.M)
    losses = {name: float(loss) for name, loss in rows}
    assert len(losses) == 7
    assert "7 jobs completed, 1 failed" in lines
    best = min(losses, key=lambda name: losses[name])
    assert lines[-1] == f"the best: {best}, held out {losses[best]:.3f}"
