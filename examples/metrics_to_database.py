"""Write the metrics of runs to a database as they come, and ask it which run did best.

    pip install '.[database]'
    python examples/metrics_to_database.py                  # SQLite, in a temporary directory
    python examples/metrics_to_database.py metrics.db       # a file that stays, run after run

Any database that SQLAlchemy knows will do: `DatabaseLogger("postgresql+psycopg://...")`. The runs
here are a local Arkor's: no account, no network.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from arkor_sync import (
    ArkorError,
    CloudApiClient,
    DatasetSplit,
    create_trainer,
)
from arkor_sync.emulator import Emulator
from arkor_sync.handlers import DatabaseLogger

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
BEST = """
    SELECT r.name, r.status, COUNT(DISTINCT m.step) AS logs, MIN(m.value) AS best
    FROM arkor_runs AS r JOIN arkor_metrics AS m ON m.job_id = r.job_id
    WHERE m.name = 'eval_loss'
    GROUP BY r.job_id ORDER BY best
"""


def train(client: CloudApiClient, batch_size: int, metrics: DatabaseLogger) -> str:
    """Train once; the logger may serve many runs, one after the other or at once."""
    trainer = create_trainer(
        name=f"triage with batches of {batch_size}",
        model="unsloth/gemma-4-E4B-it",
        dataset=DATA,
        max_steps=40,
        batch_size=batch_size,
        logging_steps=5,
        eval_steps=10,
        dataset_split=DatasetSplit(test_size=0.1),
        callbacks=metrics,
        client=client,
    )
    with trainer.follow() as run:  # also after Ctrl-C the logger gets its time to finish
        return run.wait().status


def main(path: Path) -> int:
    path.touch()  # so that a mistake shows before the training
    metrics = DatabaseLogger(f"sqlite:///{path}")
    with Emulator() as emulator:
        client = emulator.client()
        statuses = [train(client, batch_size, metrics) for batch_size in (1, 2, 4)]

    # Everything is there when wait() returns. This could be any other program, also during a run.
    with closing(sqlite3.connect(path)) as database:
        (rows,) = database.execute("SELECT COUNT(*) FROM arkor_metrics").fetchone()
        print(f"{path.name} has {rows} metrics. The runs, the best first:\n")
        print(f"{'run':28} {'status':10} {'evaluations':>11} {'best eval loss':>15}")
        for name, status, logs, best in database.execute(BEST):
            print(f"{name:28} {status:10} {logs:11d} {best:15.3f}")
    return 0 if set(statuses) == {"completed"} else 1


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    try:
        if len(sys.argv) > 1:
            sys.exit(main(Path(sys.argv[1])))
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(main(Path(folder, "metrics.db")))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ArkorError, OSError, sqlite3.Error) as error:
        sys.exit(f"error: {error}")
