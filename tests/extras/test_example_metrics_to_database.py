"""The example that writes metrics to a database, run as its reader runs it."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "metrics_to_database.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_prints_what_the_database_answers_and_exits_0() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "metrics.db has 108 metrics" in done.stdout
    rows = re.findall(r"(triage with batches of \d) +completed +4 +(\d\.\d+)", done.stdout)
    assert len(rows) == 3
    losses = [float(loss) for _, loss in rows]
    assert losses == sorted(losses)


def test_a_file_that_is_given_is_kept_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    assert [run(str(path)).returncode for _ in range(2)] == [0, 0]
    with closing(sqlite3.connect(path)) as database:
        [(runs,)] = database.execute("SELECT COUNT(*) FROM arkor_runs WHERE status = 'completed'")
    assert runs == 6
