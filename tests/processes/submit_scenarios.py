"""Child processes that submit a job with a key, and may die of it at a given point."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any, Dict, Optional

from scenarios import say

from arkor_sync import (
    CloudApiClient,
    HuggingFaceDataset,
    ProjectState,
    TokenCredentials,
    Trainer,
    create_trainer,
    submit,
)
from arkor_sync.stores import LeasedStore
from support.shared_backend import SharedBackend


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


class DieWhenSubmitted(logging.Handler):
    """The line is written when the answer is there and the row is not closed."""

    def emit(self, record: logging.LogRecord) -> None:
        if "was submitted" in record.getMessage():
            die()


class DyingBackend(SharedBackend):
    """Kills its process before or after one of its calls."""

    def __init__(self, path: str, point: Optional[str]) -> None:
        super().__init__(path)
        self._point = point

    def _die_at(self, point: str) -> None:
        if self._point == point:
            die()

    def open_submission(self, *args: Any) -> Any:
        self._die_at("before the intent")
        intent = super().open_submission(*args)
        self._die_at("after the intent")
        return intent

    def close_submission(self, *args: Any, **more: Any) -> bool:
        self._die_at("before the close")
        closed = super().close_submission(*args, **more)
        self._die_at("after the close")
        return closed


def trainer_of(cloud: Dict[str, str]) -> Trainer:
    return create_trainer(
        name="bot",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("emulator/sample"),
        client=CloudApiClient(
            cloud["url"],
            TokenCredentials(cloud["token"]),
            scope=ProjectState(cloud["org"], cloud["project"], "1"),
        ),
    )


def submit_with_a_key(
    cloud: Dict[str, str], path: str, key: str, point: Optional[str] = None
) -> None:
    if point == "after the answer":
        logger = logging.getLogger("arkor_sync.run")
        logger.setLevel(logging.INFO)
        logger.addHandler(DieWhenSubmitted())
    store = LeasedStore(DyingBackend(path, point))
    say("asks")
    say("job", submit(trainer_of(cloud), key=key, store=store).job_id)
