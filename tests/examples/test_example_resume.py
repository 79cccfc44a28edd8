"""The example that carries on after a crash, run as its reader runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.example_runs import printed_by


def test_no_event_is_lost_at_most_one_comes_twice_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    killed, carried_on, verdict, count = printed_by("resume.py").splitlines()
    told = re.fullmatch(r"process (\d+) was told steps 1 to (\d+), and was killed", killed)
    then = re.fullmatch(r"process (\d+) was told steps (\d+) to 100", carried_on)
    assert told
    assert then
    assert told[1] != then[1]
    assert 40 <= int(told[2]) < 100
    again = int(told[2]) + 1 - int(then[2])
    assert again in (0, 1)
    assert verdict == f"lost: none; told twice: {[int(then[2])] if again else 'none'}"
    assert count == "the callback counted 100 steps"
    assert list(tmp_path.iterdir()) == []
