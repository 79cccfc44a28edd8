"""The example of a Django site, run as its reader runs it: a web process and one that follows."""

from __future__ import annotations

import re

import pytest

from support.example_runs import run
from support.extras import need_extra


@pytest.mark.slow
def test_two_presses_are_one_job_that_another_process_follows() -> None:
    need_extra("django")
    done = run("django_site/run.py")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed = done.stdout
    web, follower = re.findall(r"^(?:web|follower) process (\d+)", printed, re.M)
    assert web != follower
    # Before Django 5.1 a request of this site is no transaction, whose end would be waited for.
    import django

    status = "submitting" if django.VERSION >= (5, 1) else "submitted"
    assert re.findall(r"^pressed: run (\d) is (\w+)", printed, re.M)[0] == ("1", status)
    assert re.findall(r"^run 1: step (\d+), loss 0\.\d+$", printed, re.M) == ["20", "40", "60"]
    assert re.search(r"^support-bot: completed, step 60, loss 0\.\d+$", printed, re.M)
    assert "jobs at Arkor: 1" in printed
    assert printed.endswith("the follower has handed over, and ended with 0\n")
