"""The Celery app of the tests, as a site has it. The test gives its settings by the environment."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, List

import redis
from celery import Celery

from arkor_sync import Callback, HuggingFaceDataset, RedisCursorStore, create_trainer
from arkor_sync.contrib.celery import (
    beat_schedule,
    make_follow_all_task,
    make_follow_task,
    make_submit_task,
)

settings: Dict[str, Any] = json.loads(os.environ["SITE"])
valkey = redis.Redis.from_url(settings["url"], decode_responses=True, socket_timeout=10)
store = RedisCursorStore(settings["url"], ttl=settings.get("ttl", 2.0))


class Record(Callback):
    """Writes down each step and by which process; a step that is to last waits for a word."""

    def on_log(self, ctx: Any) -> None:
        valkey.rpush("pids", os.getpid())
        valkey.rpush(f"begun:{ctx.job.id}", ctx.step)
        while valkey.sismember("lasting", ctx.step):
            time.sleep(0.01)
        if valkey.sismember("failing", ctx.step):
            raise ValueError(f"step {ctx.step} fails")
        valkey.rpush(f"steps:{ctx.job.id}", ctx.step)


def callbacks_of(job_id: str) -> Record:
    return Record()


def trainer_for(key: str, steps: int = 4) -> Any:
    valkey.rpush("submitting", key)
    while valkey.sismember("lasting", key):
        time.sleep(0.01)
    return create_trainer(
        name="site",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("emulator/sample"),
        max_steps=steps,
    )


def unfinished() -> List[str]:
    return list(valkey.lrange("jobs", 0, -1))


app = Celery("site", broker=settings["broker"], backend=settings["broker"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options=settings.get("transport", {}),
    worker_hijack_root_logger=False,
    task_track_started=True,
    worker_prefetch_multiplier=1,
    worker_soft_shutdown_timeout=settings.get("soft", 0.0),
)
follow_task = make_follow_task(
    app, callbacks=callbacks_of, store=store, retry_delay=0.3, **settings.get("follow", {})
)
follow_all = make_follow_all_task(app, follow_task, unfinished, store=store)
submit_task = make_submit_task(
    app, trainer_for, store=store, follow_task=follow_task, retry_delay=0.2
)
app.conf.beat_schedule = beat_schedule(every=1.0)
