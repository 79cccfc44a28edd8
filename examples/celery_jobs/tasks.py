"""The Celery app: what to train for an order, what to do as a job goes on, and the tasks."""

import os

from celery import Celery

from arkor_sync import Callbacks, HuggingFaceDataset, RedisCursorStore, Trainer, create_trainer
from arkor_sync.contrib.celery import (
    beat_schedule,
    make_follow_all_task,
    make_follow_task,
    make_submit_task,
)

REDIS = os.environ["REDIS_URL"]
store = RedisCursorStore(REDIS, ttl=3)  # a site has 15 seconds, which is the default

app = Celery("tasks", broker=REDIS, backend=REDIS)
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_redirect_stdouts=False,
    worker_prefetch_multiplier=1,
)


def trainer_for(order: str, steps: int) -> Trainer:
    """Say what to train. It is the same for the same order, however often the task runs."""
    return create_trainer(
        name=f"triage for {order}",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("arkorlab/triage-demo"),
        max_steps=steps,
    )


def say(ctx) -> None:
    """Print every fifth step. A site would write it to its database."""
    if ctx.step % 5 == 0:
        print(
            f"process {os.getpid()}: {ctx.job.id[:8]} step {ctx.step}: {ctx.loss:.3f}", flush=True
        )


def unfinished() -> list:
    """Name the jobs to follow. A site would ask its database."""
    return [each.job_id for each in store.holders() if not each.finished]


follow_task = make_follow_task(app, callbacks=Callbacks(on_log=say), store=store, slice=30.0)
follow_all = make_follow_all_task(app, follow_task, unfinished, store=store)
submit_task = make_submit_task(app, trainer_for, store=store, follow_task=follow_task)
app.conf.beat_schedule = beat_schedule(every=2.0)
