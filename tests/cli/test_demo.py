"""`demo`: it trains here, in seconds, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any, List

from support.command_line import COMMAND, CommandLine


def files_below(*folders: Path) -> List[Path]:
    return [path for folder in folders for path in folder.rglob("*")]


def test_it_trains_and_answers(nobody: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    ended = nobody("demo", TMPDIR=str(tmp_path / "tmp"))
    losses = [float(loss) for loss in re.findall(r"step +\d+ +loss +([\d.]+)", ended.stdout)]
    assert len(losses) == 6
    assert losses[-1] < losses[0] / 3
    assert re.findall(r"(checkpoint \d+|final model) is asked: (.*)", ended.stdout) == [
        (name, "I was charged twice, and I cancelled last week.")
        for name in ("checkpoint 10", "checkpoint 20", "final model")
    ]
    answers = re.findall(r"it answers: (.*)", ended.stdout)
    assert len(answers) == 3
    assert answers[0] != answers[-1] == "billing: That charge is refunded within three days."
    assert "(demo) completed: final loss" in ended.stdout
    assert ended.stderr == ""
    assert files_below(nobody.home, nobody.cwd, tmp_path / "tmp") == []


def test_json(nobody: CommandLine) -> None:
    told = nobody("demo", "--json").json
    assert told["status"] == "completed"
    assert [each["step"] for each in told["losses"]] == [5, 10, 15, 20, 25, 30]
    assert [each["step"] for each in told["answers"]] == [10, 20, None]
    assert all(each["answer"] for each in told["answers"])


def test_an_account_of_the_user_is_not_touched(nobody: CommandLine) -> None:
    """A wrong address in the environment does not matter: nothing is asked there."""
    ended = nobody("demo", ARKOR_CLOUD_API_URL="http://127.0.0.1:1", ARKOR_TOKEN="secret")
    assert "completed" in ended.stdout


def leave(nobody: CommandLine, number: signal.Signals) -> Any:
    process = subprocess.Popen(
        [*COMMAND, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=nobody.cwd,
        env=nobody.environment({}),
        encoding="utf-8",
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, stderr = process.communicate()
    return process.returncode, stderr


def test_signals_leave_it_in_order(nobody: CommandLine) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        code, stderr = leave(nobody, number)
        assert code in (128 + number, 0)  # 0: it was faster
        assert "goes on" not in stderr
        assert "Traceback" not in stderr
