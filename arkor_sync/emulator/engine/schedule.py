"""The steps of a job: when it logs, saves, evaluates, at which learning rate. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Optional

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.http.messages import is_number

DEFAULT_BATCH_SIZE = 4
DEFAULT_LEARNING_RATE = 2e-4


@dataclass(frozen=True)
class Schedule:
    """The steps of one job.

    Args:
        total_steps: The number of steps.
        batch_size: Records in a step.
        steps_per_epoch: Steps in which each record is learnt once.
        logging_steps: A log event every so many steps; 0 for none.
        save_steps: A checkpoint every so many steps; 0 for none.
        eval_steps: An evaluation every so many steps; 0 for none.
        warmup_steps: Steps in which the learning rate rises from zero.
        learning_rate: The highest learning rate.
        scheduler: With `linear` and `cosine` the learning rate falls to zero; with any other it
            stays at the highest.
    """

    total_steps: int
    batch_size: int
    steps_per_epoch: int
    logging_steps: int
    save_steps: int
    eval_steps: int
    warmup_steps: int
    learning_rate: float
    scheduler: str

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step. The first step is 1."""
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        done = (step - 1 - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        if self.scheduler == "linear":
            return self.learning_rate * (1 - done)
        if self.scheduler == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate


def plan(config: Dict[str, Any], records: int, *, evaluates: bool) -> Schedule:
    """Make the schedule of a job.

    Defaults: one epoch, batches of 4, a log event in each step, no checkpoint but the final
    adapter, ten evaluations if there are records for it, a constant learning rate of 2e-4.

    Args:
        config: The job's config.
        records: How many records there are to learn from.
        evaluates: Whether there are records for an evaluation.

    Raises:
        TrainingFailed: The batch size is below 1, or there is no step.
    """
    batch_size = int(_number(config, "batchSize", DEFAULT_BATCH_SIZE))
    if batch_size < 1:
        raise TrainingFailed("batchSize must be at least 1")
    per_epoch = math.ceil(records / batch_size)
    total = int(_number(config, "maxSteps", 0))
    if total <= 0:
        total = math.ceil(per_epoch * _number(config, "numTrainEpochs", 1))
    if total < 1:
        raise TrainingFailed("there is no step to train: check maxSteps and numTrainEpochs")
    return Schedule(
        total_steps=total,
        batch_size=batch_size,
        steps_per_epoch=per_epoch,
        logging_steps=_every(config, "loggingSteps", total, 1),
        save_steps=_every(config, "saveSteps", total, 0),
        eval_steps=_every(config, "evalSteps", total, math.ceil(total / 10)) if evaluates else 0,
        warmup_steps=_every(config, "warmupSteps", total, 0),
        learning_rate=_number(config, "learningRate", DEFAULT_LEARNING_RATE),
        scheduler=str(config.get("lrSchedulerType") or "constant"),
    )


def is_due(step: int, every: int) -> bool:
    """Tell whether something that happens every so many steps, 0 for never, happens in this one."""
    return every > 0 and step % every == 0


def _number(config: Dict[str, Any], name: str, default: float) -> float:
    value: Optional[float] = config.get(name)
    return default if value is None else value


def _every(config: Dict[str, Any], name: str, total: int, default: int) -> int:
    value = config.get(name)
    if isinstance(value, dict) and is_number(value.get("ratio")):
        return max(1, round(total * value["ratio"])) if value["ratio"] > 0 else 0
    # A step field that is not valid is accepted only with `strict_steps=False`.
    steps: Any = value.get("steps") if isinstance(value, dict) else value
    return int(steps) if is_number(steps) else default
