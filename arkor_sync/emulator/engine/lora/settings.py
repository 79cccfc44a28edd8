"""What a job's config asks of the LoRA engine. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.schedule import DEFAULT_LEARNING_RATE
from arkor_sync.emulator.http.messages import is_number

# The optimisers by their names in transformers. The others of that list are not known here.
OPTIMISERS = (
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "adafactor",
    "adagrad",
    "rmsprop",
    "sgd",
)
# The schedulers that need no arguments but the warm-up.
SCHEDULERS = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt")

GREATEST_SEED = 2**63 - 1  # of PyTorch

# The dry run checks all of the data, trains so many steps, and then evaluates with so many records.
DRY_RUN_STEPS = 10
DRY_RUN_HELD_OUT = 32

KNOWN = frozenset(
    """
    model datasetSource datasetFormat datasetSplit trainOnResponsesOnly loraR loraAlpha loraDropout
    maxLength loadIn4bit maxSteps numTrainEpochs learningRate batchSize optim lrSchedulerType
    weightDecay warmupSteps loggingSteps saveSteps evalSteps gpuTypes dryRun seed branchedFrom
    """.split()  # noqa: SIM905 - a list with quotes takes thirty lines
)


@dataclass(frozen=True)
class Settings:
    """The settings of a job that say how it is trained. `schedule.Schedule` has those of its steps.

    Args:
        r: The rank of the adapter.
        alpha: Its scaling.
        dropout: The share of its inputs that is left out while it is trained.
        max_length: The greatest number of tokens of a record; None for the model's context.
        four_bit: Whether the base model is quantised to 4 bits.
        optimiser: One of `OPTIMISERS`.
        scheduler: One of `SCHEDULERS`.
        learning_rate: The highest learning rate.
        weight_decay: The optimiser's weight decay.
        responses_only: Whether only the assistant's answers are learnt.
        dry_run: How many steps a dry run has at the most; None if it is none.
        seed: Seeds the adapter's first weights, the order of the records and the dropout.
    """

    r: int
    alpha: int
    dropout: float
    max_length: Optional[int]
    four_bit: bool
    optimiser: str
    scheduler: str
    learning_rate: float
    weight_decay: float
    responses_only: bool
    dry_run: Optional[int]
    seed: int


def settings_of(config: Dict[str, Any], seed: int, dry_run_steps: int = DRY_RUN_STEPS) -> Settings:
    """Read the settings of a job.

    Args:
        config: The job's config.
        seed: The seed, if the config has none.
        dry_run_steps: How many steps a dry run has at the most.

    Raises:
        TrainingFailed: The engine cannot do what a setting asks for; the text names the setting.
    """
    unknown = sorted(name for name in config if name not in KNOWN and config[name] is not None)
    if unknown:
        raise TrainingFailed(
            f"the setting {unknown[0]!r:.100} is not known to the LoRA engine, and would have no "
            "effect; leave it out here"
        )
    scheduler = _one_of(config, "lrSchedulerType", SCHEDULERS)
    if scheduler == "constant" and _asks_for_steps(config.get("warmupSteps")):
        raise TrainingFailed(
            "lrSchedulerType 'constant' has no warm-up, and warmupSteps is given; use "
            "'constant_with_warmup', or leave warmup_steps out"
        )
    return Settings(
        r=_whole(config, "loraR", 16),
        alpha=_whole(config, "loraAlpha", 16),
        dropout=_number(config, "loraDropout", 0.0, below=1.0),
        max_length=_whole(config, "maxLength", 0) or None,
        four_bit=_flag(config, "loadIn4bit"),
        optimiser=_one_of(config, "optim", OPTIMISERS),
        scheduler=scheduler,
        learning_rate=_number(config, "learningRate", DEFAULT_LEARNING_RATE),
        weight_decay=_number(config, "weightDecay", 0.0),
        responses_only=_flag(config, "trainOnResponsesOnly"),
        dry_run=dry_run_steps if _flag(config, "dryRun") else None,
        seed=_whole(config, "seed", seed, least=0, most=GREATEST_SEED),
    )


def _asks_for_steps(value: Any) -> bool:
    """Whether a step field names more than no steps."""
    return (
        bool(value.get("steps") or value.get("ratio")) if isinstance(value, dict) else bool(value)
    )


def _refused(name: str, value: Any, wanted: str) -> TrainingFailed:
    return TrainingFailed(f"{name} {value!r:.100}: the LoRA engine takes {wanted}")


def _flag(config: Dict[str, Any], name: str) -> bool:
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise _refused(name, value, "true or false")
    return bool(value)


def _whole(
    config: Dict[str, Any], name: str, default: int, least: int = 1, most: Optional[int] = None
) -> int:
    value = config.get(name)
    if value is None:
        return default
    fits = is_number(value) and value == int(value) and value >= least
    if not fits or (most is not None and value > most):
        limit = "or more" if most is None else f"to {most}"
        raise _refused(name, value, f"a whole number, {least} {limit}")
    return int(value)


def _number(
    config: Dict[str, Any], name: str, default: float, below: Optional[float] = None
) -> float:
    value = config.get(name)
    if value is None:
        return default
    if not is_number(value) or value < 0 or (below is not None and value >= below):
        limit = "" if below is None else f" and below {below:g}"
        raise _refused(name, value, f"a number, 0 or more{limit}")
    return float(value)


def _one_of(config: Dict[str, Any], name: str, known: Any) -> str:
    value = config.get(name)
    if value is None:
        return str(known[0])
    if value not in known:
        raise _refused(name, value, ", ".join(known))
    return str(value)
