"""The configuration of a job, built from the user's arguments. Runs on the caller's thread.

The inputs are frozen dataclasses that check their fields when they are built. So the traceback of
a mistake leads to the line that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import (
    AbstractSet,
    Any,
    Dict,
    Literal,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
    get_args,
)

from arkor_sync._common.arguments import check, did_you_mean, refusal
from arkor_sync._common.camel_case import camel_case
from arkor_sync._common.json import json_copy
from arkor_sync._common.secret import hide_secrets
from arkor_sync.cloud.datasets import (
    Dataset,
    DatasetSplit,
    checked_format,
    checked_split,
    dataset_source,
)
from arkor_sync.cloud.fields import (
    check_flag,
    check_number,
    check_text,
    check_whole,
    is_real,
    is_share,
    is_whole,
)

SupportedModel = Literal["unsloth/gemma-4-E4B-it"]
SUPPORTED_MODELS: Tuple[str, ...] = get_args(SupportedModel)
"""The base models that can be trained. The comparison is case-sensitive."""

Model = Union[SupportedModel, str]  # an editor suggests the models that are known

_REQUIRED: Any = None
_STEPS_WANTED = "Steps(25), Ratio(0.1) or a whole number of steps, 0 or more"


@dataclass(frozen=True)
class LoraConfig:
    """The low-rank adapter to train.

    Args:
        r: The rank (`loraR`).
        alpha: The scaling (`loraAlpha`).
        max_length: The longest example, in tokens (`maxLength`).
        load_in_4bit: Whether the base model is quantised to 4 bits (`loadIn4bit`).
    """

    r: int = _REQUIRED
    alpha: int = _REQUIRED
    max_length: Optional[int] = None
    load_in_4bit: Optional[bool] = None

    def __post_init__(self) -> None:
        for name in ("r", "alpha"):
            if getattr(self, name) is _REQUIRED:
                wanted = "both r and alpha, such as LoraConfig(r=16, alpha=16)"
                raise refusal(f"LoraConfig.{name}", None, wanted, got="nothing")
        for name in ("r", "alpha", "max_length"):
            check_whole(f"LoraConfig.{name}", getattr(self, name), least=1)
        check_flag("LoraConfig.load_in_4bit", self.load_in_4bit)


@dataclass(frozen=True)
class Steps:
    """A number of training steps, for the fields that take steps or a ratio."""

    n: int

    def __post_init__(self) -> None:
        check("Steps.n", self.n, is_whole(self.n), "a whole number, 0 or more")

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        return {"steps": self.n}


@dataclass(frozen=True)
class Ratio:
    """A share of all training steps, for the fields that take steps or a ratio."""

    x: float

    def __post_init__(self) -> None:
        check("Ratio.x", self.x, is_share(self.x), "a number above 0 and below 1")

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        return {"ratio": self.x}


StepConfig = Union[Steps, Ratio, int, Mapping[str, Any]]


def build_job_config(
    *,
    model: Model,
    dataset: Dataset,
    lora: Optional[LoraConfig] = None,
    max_steps: Optional[int] = None,
    num_train_epochs: Optional[float] = None,
    learning_rate: Optional[float] = None,
    batch_size: Optional[int] = None,
    optim: Optional[str] = None,
    lr_scheduler_type: Optional[str] = None,
    weight_decay: Optional[float] = None,
    warmup_steps: Optional[StepConfig] = None,
    logging_steps: Optional[StepConfig] = None,
    save_steps: Optional[StepConfig] = None,
    eval_steps: Optional[StepConfig] = None,
    train_on_responses_only: Any = None,
    dataset_format: Union[str, Mapping[str, Any], None] = None,
    dataset_split: Union[DatasetSplit, Mapping[str, Any], None] = None,
    gpu_types: Optional[Sequence[str]] = None,
    dry_run: Optional[bool] = None,
    extra: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Build the `config` object of a job.

    Arguments that are `None` are left out; `False` and `0` are sent.

    Args:
        model: One of `SUPPORTED_MODELS`.
        dataset: What to train on (`datasetSource`): `HuggingFaceDataset`, `BlobDataset`, the path
            of a JSONL file, a list of records, or the wire form.
        lora: The adapter to train.
        max_steps: Training steps at most (`maxSteps`).
        num_train_epochs: Passes over the dataset (`numTrainEpochs`).
        learning_rate: Peak learning rate (`learningRate`).
        batch_size: Examples per device and step (`batchSize`).
        optim: Optimiser, such as `adamw_8bit`.
        lr_scheduler_type: Learning rate schedule, such as `linear` (`lrSchedulerType`).
        weight_decay: Weight decay (`weightDecay`).
        warmup_steps: How long the learning rate rises (`warmupSteps`): `Steps`, `Ratio`, a whole
            number of steps, or the wire form. Only here the ratio in wire form may be 0.
        logging_steps: How often to log, in the same forms (`loggingSteps`).
        save_steps: How often to save a checkpoint, in the same forms (`saveSteps`).
        eval_steps: How often to evaluate, in the same forms (`evalSteps`). Without a
            `dataset_split` that is enabled it is refused: the cloud would ignore it.
        train_on_responses_only: Sent unchanged (`trainOnResponsesOnly`).
        dataset_format: A name, or an object with a `type`, such as `{"type": "chatml"}`
            (`datasetFormat`).
        dataset_split: `DatasetSplit`, or the wire form `{"enabled": bool, "testSize": share,
            "seed": number}` (`datasetSplit`).
        gpu_types: GPU slugs in order of preference (`gpuTypes`).
        dry_run: Ask for a smoke test (`dryRun`). A cloud that does not know it runs the whole job.
        extra: More keys, sent unchanged.

    Returns:
        A new dictionary in wire form. For a list of records `datasetSource` is `{"type": "records",
        "records": ...}`, which `Jobs.create` replaces.

    Raises:
        ArkorUsageError: An argument cannot work.
    """
    dataset, extra = hide_source(dataset), hide_secrets(extra)
    _check_model(model)
    fits = lora is None or isinstance(lora, LoraConfig)
    check("lora", lora, fits, "a LoraConfig, such as LoraConfig(r=16, alpha=16)")
    split = checked_split(dataset_split)
    config = {
        "model": model,
        "datasetSource": None,  # below: to read a large file takes a while
        "loraR": lora and lora.r,
        "loraAlpha": lora and lora.alpha,
        "maxLength": lora and lora.max_length,
        "loadIn4bit": lora and lora.load_in_4bit,
        "maxSteps": check_whole("max_steps", max_steps),
        "numTrainEpochs": check_number("num_train_epochs", num_train_epochs),
        "learningRate": check_number("learning_rate", learning_rate),
        "batchSize": check_whole("batch_size", batch_size, least=1),
        "optim": check_text("optim", optim),
        "lrSchedulerType": check_text("lr_scheduler_type", lr_scheduler_type),
        "weightDecay": check_number("weight_decay", weight_decay),
        "warmupSteps": _step_config("warmup_steps", warmup_steps, zero_ratio=True),
        "loggingSteps": _step_config("logging_steps", logging_steps),
        "saveSteps": _step_config("save_steps", save_steps),
        "evalSteps": _step_config("eval_steps", eval_steps),
        "trainOnResponsesOnly": train_on_responses_only,
        "datasetFormat": checked_format(dataset_format),
        "datasetSplit": split,
        "gpuTypes": _gpu_types(gpu_types),
        "dryRun": check_flag("dry_run", dry_run),
    }
    if eval_steps is not None and not (split and split.get("enabled")):
        wanted = "dataset_split=DatasetSplit(test_size=0.1) as well, or leave eval_steps out"
        got = "a value without a dataset_split that is enabled; the cloud would ignore it"
        raise refusal("eval_steps", eval_steps, wanted, got=got)
    given = {key: value for key, value in config.items() if value is not None}
    sent = hide_secrets(json_copy(merge_extra(given, extra, config.keys()), "the job"))
    return {"model": model, "datasetSource": dataset_source(dataset), **sent}


def hide_source(dataset: Any) -> Any:
    """Hide the secrets of a dataset in wire form. Records are data, and stay as they are."""
    return dataset if isinstance(dataset, (list, tuple)) else hide_secrets(dataset)


def merge_extra(
    body: Dict[str, Any], extra: Optional[Mapping[str, Any]], known: AbstractSet[str]
) -> Dict[str, Any]:
    """Add the user's own keys to a request body.

    Raises:
        ArkorUsageError: A key has an argument of its own, under either name, or is not a string.
    """
    if extra is None:
        return body
    fits = isinstance(extra, Mapping) and all(isinstance(key, str) for key in extra)
    check("extra", extra, fits, "a mapping with string keys")
    names = set(map(camel_case, known))
    taken = sorted(key for key in extra if camel_case(key) in names)
    if taken:
        wanted = "only keys that have no argument of their own"
        raise refusal("extra", extra, wanted, got=", ".join(taken))
    return {**body, **extra}


def _check_model(model: object) -> None:
    if model in SUPPORTED_MODELS:
        return
    hint = did_you_mean(model, SUPPORTED_MODELS)
    raise refusal("model", model, f"{' or '.join(map(repr, SUPPORTED_MODELS))}{hint}")


def _step_config(name: str, value: Any, zero_ratio: bool = False) -> Any:
    if value is None:
        return None
    if isinstance(value, (Steps, Ratio)):
        value = value.to_dict()
    elif isinstance(value, int):
        value = {"steps": value}
    if isinstance(value, Mapping) and len(value) == 1:
        kind, amount = next(iter(value.items()))
        if kind == "steps" and is_whole(amount):
            return dict(value)
        if kind == "ratio" and (
            is_share(amount) or (zero_ratio and is_real(amount) and amount == 0)
        ):
            return dict(value)
        name, value = f"{name}[{kind!r}]", amount
    raise refusal(name, value, _STEPS_WANTED)


def _gpu_types(value: Optional[Sequence[str]]) -> Optional[Sequence[str]]:
    fits = value is None or (isinstance(value, (list, tuple)) and bool(value))
    check("gpu_types", value, fits, "a list of GPU slugs with at least one")
    for each in value or ():
        check("gpu_types", each, each is not None, "strings")
        check_text("gpu_types", each)
    return value and list(value)
