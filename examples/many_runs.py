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

from arkor_sync import (
    ArkorError,
    BlobDataset,
    CloudApiClient,
    History,
    ProjectState,
    RunAborted,
    TokenCredentials,
    TrainingResult,
    create_trainer,
)
from arkor_sync.emulator import Emulator

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
DATASETS = dict.fromkeys((2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3), DATA)  # by learning rate
DATASETS[5e-3] = DATA.with_name("no-such-file.jsonl")


def train(rate: float, client: CloudApiClient, stop: threading.Event) -> TrainingResult:
    """Submit one job and follow it to its end, in a thread of the pool."""
    trainer = create_trainer(
        name=f"triage at {rate:g}",
        model="unsloth/gemma-4-E4B-it",
        dataset=BlobDataset(DATASETS[rate].as_uri()),
        learning_rate=rate,
        max_steps=50,
        batch_size=2,
        eval_steps=25,
        dataset_split={"enabled": True, "testSize": 0.05, "seed": 42},
        client=client,  # one for all threads
        abort_event=stop,
    )
    try:
        return trainer.wait().raise_for_status()
    except RunAborted:
        trainer.cancel()  # aborted is only no longer followed: the job would go on, and cost
        raise


def main() -> int:
    stop = threading.Event()
    results = []
    with Emulator() as emulator, ThreadPoolExecutor(max_workers=len(DATASETS)) as pool:
        scope = ProjectState(emulator.org_slug, emulator.project_slug, emulator.project_id)
        client = CloudApiClient(emulator.url, TokenCredentials(emulator.token), scope=scope)
        jobs = [pool.submit(train, rate, client, stop) for rate in DATASETS]
        try:
            for job in as_completed(jobs):
                if job.exception() is None:
                    results.append(job.result())
                print(job.exception() or f"{job.result().job.name}: {job.result().status}")
        finally:
            stop.set()  # after Ctrl-C, so that the pool's threads end

    print(f"\n{len(results)} jobs completed, {len(jobs) - len(results)} failed\n")
    if not results:
        return 1
    comparison = History.compare({each.job.name: each.history for each in results}, "eval_loss")
    print(comparison)  # in a notebook, and with comparison.save("runs.svg"), also as a chart
    best = min(comparison.to_dicts(), key=lambda run: run["best"])
    print(f"\nthe best: {best['name']}, held out {best['best']:.3f}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except ArkorError as error:
        sys.exit(f"error: {error}")
