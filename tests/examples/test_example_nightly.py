"""The example of a nightly job, run as cron runs it: no terminal, and all in one log."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest

from support.example_runs import EXAMPLES, run
from support.servers import Webhook

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) +(nightly|arkor_sync\.[\w.]+): "
)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the example, since it locks itself: no other test then waits for it."""
    monkeypatch.delenv("SLACK_WEBHOOK_URL", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "a folder"
    (folder / "data").mkdir(parents=True)
    shutil.copy(EXAMPLES / "data" / "support_triage.jsonl", folder / "data")
    return Path(shutil.copy(EXAMPLES / "nightly.py", folder))


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[List[Any]]:
    """Stand in for Slack, and return what is posted."""
    with Webhook(200, b"ok") as webhook:
        monkeypatch.setenv("SLACK_WEBHOOK_URL", f"{webhook.url}/hook")
        yield webhook.posted


def work_for_ever(script: Path) -> None:
    """Have it train for longer than any test takes."""
    text = script.read_text("utf-8")
    assert text.count("max_steps=60") == 1
    script.write_text(text.replace("max_steps=60", "max_steps=1_000_000"), "utf-8")


def log_of(script: Path, *arguments: str) -> Tuple[int, List[str]]:
    """Run it; return its exit code, and its lines and the run's. All must be log lines."""
    done = run(script, *arguments, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    lines = done.stdout.splitlines()
    for line in lines:
        assert LINE.match(line)
    parts = [re.split(" (?:nightly|arkor_sync.run): ", line, maxsplit=1) for line in lines]
    return done.returncode, [text for _, *found in parts for text in found]


@pytest.mark.slow
def test_a_training_that_completes_exits_0(script: Path) -> None:
    code, lines = log_of(script)
    assert code == 0, lines
    assert re.fullmatch(r"job \S+ \(nightly-triage\) was submitted", lines[0])
    assert re.fullmatch(r"job \S+ started", lines[1])
    assert [line.partition(",")[0] for line in lines[2:-1]] == ["step 20", "step 40", "step 60"]
    assert re.fullmatch(r"job \S+ completed: final loss 0\.\d+", lines[-1])
    assert sorted(path.name for path in script.parent.iterdir()) == ["data", "nightly.py"]


def test_a_training_that_fails_exits_1_and_tells_slack(script: Path, slack: List[Any]) -> None:
    text = script.read_text("utf-8")
    split = '{"enabled": True, "testSize": 0.999}'  # it leaves no record to learn from
    script.write_text(text.replace("max_steps=60", f"max_steps=60, dataset_split={split}"), "utf-8")
    code, lines = log_of(script)
    assert code == 1, lines
    assert " failed: " in lines[-1]
    assert [message["text"] for message in slack] == ["nightly-triage failed"]


def test_one_that_takes_too_long_is_cancelled_and_exits_1(script: Path) -> None:
    work_for_ever(script)
    code, lines = log_of(script, "--limit", "0")
    assert code == 1, lines
    assert lines[-1].endswith(" cancelled: not done after 0 s")


def test_a_cloud_that_cannot_be_reached_exits_2_with_one_line(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "http://127.0.0.1:9")
    code, [line] = log_of(script, "--cloud")
    assert code == 2
    assert line.startswith("no result: ")
    assert "refused" in line


def test_a_cloud_that_cannot_be_reached_is_told(
    script: Path, slack: List[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "http://127.0.0.1:9")
    assert log_of(script, "--cloud")[0] == 2
    [message] = slack
    assert message["text"] == "nightly.py failed with ArkorConnectionError"


@pytest.mark.slow
def test_while_one_is_at_work_another_submits_nothing_and_exits_2(script: Path) -> None:
    usual = script.read_text("utf-8")
    work_for_ever(script)
    with subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE) as first:
        assert first.stderr is not None
        first.stderr.readline()  # it has begun
        second = log_of(script)
        first.terminate()
    assert first.returncode == 128 + signal.SIGTERM, "it was at work until then"
    assert second == (2, ["the last one is still at work; nothing was submitted"])
    script.write_text(usual, "utf-8")
    assert log_of(script)[0] == 0
