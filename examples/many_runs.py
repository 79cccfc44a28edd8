"""Try many settings at once, from a thread pool, and keep the best.

    python examples/many_runs.py

A local Arkor trains eight small models at the same time, one for each learning rate. One of the
jobs is bound to fail: its dataset does not exist. The others do not notice. Ctrl-C cancels all.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Dict

from arkor_sync import (
    ArkorError,
    BlobDataset,
    Callback,
    CloudApiClient,
    DatasetSplit,
    LogContext,
    ProjectState,
    RunAborted,
    TokenCredentials,
    create_trainer,
)
from arkor_sync.emulator import Emulator

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
DATASETS = dict.fromkeys((2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3), DATA)  # by learning rate
DATASETS[5e-3] = DATA.with_name("no-such-file.jsonl")


class Scores(Callback):
    """The best held-out loss of each job: one object for all runs, called on their threads."""

    def __init__(self) -> None:
        self.best: Dict[str, float] = {}
        self._lock = threading.Lock()

    def on_log(self, ctx: LogContext) -> None:
        """Keep the loss, if it is one on the held-out records."""
        if ctx.eval_loss is not None:
            with self._lock:
                self.best[ctx.job.name] = min(ctx.eval_loss, self.best.get(ctx.job.name, 1e9))


def train(rate: float, client: CloudApiClient, scores: Scores, stop: threading.Event) -> str:
    """Submit one job and follow it to its end, in a thread of the pool."""
    trainer = create_trainer(
        name=f"triage at {rate:g}",
        model="unsloth/gemma-4-E4B-it",
        dataset=BlobDataset(DATASETS[rate].as_uri()),
        learning_rate=rate,
        max_steps=50,
        batch_size=2,
        eval_steps=25,
        dataset_split=DatasetSplit(test_size=0.05),
        callbacks=scores,
        client=client,  # may be shared as well
        abort_event=stop,
    )
    try:
        trainer.wait().raise_for_status()
    except RunAborted:
        trainer.cancel()  # aborted is only no longer followed: the job would go on, and cost
        raise
    return trainer.name


def main() -> int:
    scores, stop = Scores(), threading.Event()
    with Emulator() as emulator, ThreadPoolExecutor(max_workers=len(DATASETS)) as pool:
        scope = ProjectState(emulator.org_slug, emulator.project_slug, emulator.project_id)
        client = CloudApiClient(emulator.url, TokenCredentials(emulator.token), scope=scope)
        jobs = [pool.submit(train, rate, client, scores, stop) for rate in DATASETS]
        try:
            for job in as_completed(jobs):
                error = job.exception()
                print(error or f"{job.result()}: held out {scores.best[job.result()]:.3f}")
        finally:
            stop.set()  # after Ctrl-C, so that the pool's threads end

    failed = sum(job.exception() is not None for job in jobs)
    print(f"\n{len(jobs) - failed} jobs completed, {failed} failed")
    if not scores.best:
        return 1
    best = min(scores.best, key=lambda name: scores.best[name])
    print(f"the best: {best}, held out {scores.best[best]:.3f}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except ArkorError as error:
        sys.exit(f"error: {error}")
