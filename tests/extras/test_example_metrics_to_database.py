"""The example that writes metrics to a database, run as its reader runs it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy  # noqa: F401 - the example needs it

from support.example_runs import printed_by, run

SCRIPT = "metrics_to_database.py"


def test_it_prints_what_the_database_answers_and_exits_0() -> None:
    printed = printed_by(SCRIPT)
    assert "metrics.db has 108 metrics" in printed
    rows = re.findall(r"(triage with batches of \d) +completed +4 +(\d\.\d+)", printed)
    assert len(rows) == 3
    losses = [float(loss) for _, loss in rows]
    assert losses == sorted(losses)


def test_a_file_that_is_given_is_kept_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    assert [run(SCRIPT, str(path)).returncode for _ in range(2)] == [0, 0]
    with closing(sqlite3.connect(path)) as database:
        [(runs,)] = database.execute("SELECT COUNT(*) FROM arkor_runs WHERE status = 'completed'")
    assert runs == 6
