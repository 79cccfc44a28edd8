"""The job configuration that is sent, built from the user's arguments. Pure.

The inputs are frozen dataclasses that check their fields when they are built. So the traceback of
a mistake leads to the line that made it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import AbstractSet, Any, Dict, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

from arkor_sync._common.arguments import check, is_number, refusal
from arkor_sync._common.json import json_copy
from arkor_sync._common.secret import Secret, hide_secrets

SUPPORTED_MODELS: Tuple[str, ...] = ("unsloth/gemma-4-E4B-it",)
"""The base models that can be trained. The comparison is case-sensitive."""

_REQUIRED: Any = None
_STEPS_WANTED = "Steps(25), Ratio(0.1) or a whole number of steps, 0 or more"


@dataclass(frozen=True)
class HuggingFaceDataset:
    """A dataset on the Hugging Face Hub (`datasetSource` of type `huggingface`).

    Args:
        name: `owner/repo`.
        split: The split to train on; the cloud's default is `train`.
        subset: The subset (configuration) of the dataset.
    """

    name: str
    split: Optional[str] = None
    subset: Optional[str] = None

    def __post_init__(self) -> None:
        fits = isinstance(self.name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", self.name)
        check("HuggingFaceDataset.name", self.name, bool(fits), "the form 'owner/repo'")
        for name in ("split", "subset"):
            _check_text(f"HuggingFaceDataset.{name}", getattr(self, name))

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        return _present(type="huggingface", name=self.name, split=self.split, subset=self.subset)


@dataclass(frozen=True, repr=False)
class BlobDataset:
    """A dataset behind a URL (`datasetSource` of type `blob`).

    Args:
        url: `https://...`, `http://...` or another scheme that the cloud can read.
        token: The cloud downloads the URL with it. It is part of the job's configuration, where it
            is not encrypted.
    """

    url: str
    token: Optional[str] = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            fits = len(parts.scheme) > 1 and bool(parts.netloc or parts.path.strip("/"))
            fits = fits and (parts.scheme not in ("http", "https") or bool(parts.hostname))
        except (ValueError, AttributeError, TypeError):
            fits = False
        wanted = "a URL with its scheme: 'https://host/data.jsonl', 'file:///path/data.jsonl'"
        check("BlobDataset.url", _without_secrets(self.url), fits, wanted)
        if self.token is None:
            return
        if not isinstance(self.token, str) or not self.token.strip():
            wanted = "a string that is not empty, or None"
            raise refusal("BlobDataset.token", self.token, wanted, secret=True)
        token = Secret(self.token.strip())  # without the newline at a file's end
        object.__setattr__(self, "token", token)

    def __repr__(self) -> str:
        token = ", token=..." if self.token else ""
        return f"BlobDataset(url={_without_secrets(self.url)!r}{token})"

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form, token included."""
        return _present(type="blob", url=self.url, token=self.token)


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
            _check_whole(f"LoraConfig.{name}", getattr(self, name), least=1)
        _check_flag("LoraConfig.load_in_4bit", self.load_in_4bit)


@dataclass(frozen=True)
class Steps:
    """A number of training steps, for the fields that take steps or a ratio."""

    n: int

    def __post_init__(self) -> None:
        check("Steps.n", self.n, _is_whole(self.n), "a whole number, 0 or more")

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        return {"steps": self.n}


@dataclass(frozen=True)
class Ratio:
    """A share of all training steps, for the fields that take steps or a ratio."""

    x: float

    def __post_init__(self) -> None:
        check("Ratio.x", self.x, _is_ratio(self.x), "a number above 0 and below 1")

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        return {"ratio": self.x}


Dataset = Union[HuggingFaceDataset, BlobDataset, Mapping[str, Any]]
StepConfig = Union[Steps, Ratio, int, Mapping[str, Any]]


def build_job_config(
    *,
    model: str,
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
    dataset_split: Optional[Mapping[str, Any]] = None,
    gpu_types: Optional[Sequence[str]] = None,
    dry_run: Optional[bool] = None,
    extra: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Build the `config` object of a job.

    Arguments that are `None` are left out; `False` and `0` are sent.

    Args:
        model: One of `SUPPORTED_MODELS`.
        dataset: What to train on (`datasetSource`); also in wire form.
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
        eval_steps: How often to evaluate, in the same forms (`evalSteps`). It needs a
            `dataset_split` that is enabled.
        train_on_responses_only: Sent unchanged (`trainOnResponsesOnly`).
        dataset_format: A name, or an object with a `type`, such as `{"type": "chatml"}`
            (`datasetFormat`).
        dataset_split: `{"enabled": bool, "testSize": share, "seed": number}` (`datasetSplit`).
        gpu_types: GPU slugs in order of preference (`gpuTypes`).
        dry_run: Ask for a smoke test (`dryRun`). A cloud that does not know it runs the whole job.
        extra: More keys, sent unchanged.

    Returns:
        A new dictionary in wire form.

    Raises:
        ArkorUsageError: An argument cannot work.
    """
    dataset, extra = hide_secrets(dataset), hide_secrets(extra)
    _check_model(model)
    fits = lora is None or isinstance(lora, LoraConfig)
    check("lora", lora, fits, "a LoraConfig, such as LoraConfig(r=16, alpha=16)")
    fits = dataset_format is None or isinstance(dataset_format, (str, Mapping))
    check("dataset_format", dataset_format, fits, "a string, or an object with a 'type'")
    fits = dataset_split is None or isinstance(dataset_split, Mapping)
    check("dataset_split", dataset_split, fits, "an object such as {'enabled': True}")
    config = {
        "model": model,
        "datasetSource": _dataset_source(dataset),
        "loraR": lora and lora.r,
        "loraAlpha": lora and lora.alpha,
        "maxLength": lora and lora.max_length,
        "loadIn4bit": lora and lora.load_in_4bit,
        "maxSteps": _check_whole("max_steps", max_steps),
        "numTrainEpochs": _check_number("num_train_epochs", num_train_epochs),
        "learningRate": _check_number("learning_rate", learning_rate),
        "batchSize": _check_whole("batch_size", batch_size, least=1),
        "optim": _check_text("optim", optim),
        "lrSchedulerType": _check_text("lr_scheduler_type", lr_scheduler_type),
        "weightDecay": _check_number("weight_decay", weight_decay),
        "warmupSteps": _step_config("warmup_steps", warmup_steps, zero_ratio=True),
        "loggingSteps": _step_config("logging_steps", logging_steps),
        "saveSteps": _step_config("save_steps", save_steps),
        "evalSteps": _step_config("eval_steps", eval_steps),
        "trainOnResponsesOnly": train_on_responses_only,
        "datasetFormat": dataset_format,
        "datasetSplit": dataset_split,
        "gpuTypes": _gpu_types(gpu_types),
        "dryRun": _check_flag("dry_run", dry_run),
    }
    given = {key: value for key, value in config.items() if value is not None}
    job_config: Dict[str, Any] = hide_secrets(
        json_copy(merge_extra(given, extra, config.keys()), "the job")
    )
    return job_config


def merge_extra(
    body: Dict[str, Any], extra: Optional[Mapping[str, Any]], known: AbstractSet[str]
) -> Dict[str, Any]:
    """Add the user's own keys to a request body.

    Raises:
        ArkorUsageError: A key has an argument of its own, or is not a string.
    """
    if extra is None:
        return body
    fits = isinstance(extra, Mapping) and all(isinstance(key, str) for key in extra)
    check("extra", extra, fits, "a mapping with string keys")
    taken = sorted(known & extra.keys())
    if taken:
        wanted = "only keys that have no argument of their own"
        raise refusal("extra", extra, wanted, got=", ".join(taken))
    return {**body, **extra}


def _check_model(model: object) -> None:
    if model in SUPPORTED_MODELS:
        return
    from difflib import get_close_matches

    near = get_close_matches(str(model).lower(), [m.lower() for m in SUPPORTED_MODELS], n=1)
    hint = next((f" (did you mean {m!r}?)" for m in SUPPORTED_MODELS if m.lower() in near), "")
    raise refusal("model", model, f"one of {', '.join(map(repr, SUPPORTED_MODELS))}{hint}")


def _dataset_source(dataset: object) -> Any:
    if isinstance(dataset, (HuggingFaceDataset, BlobDataset)):
        return dataset.to_dict()
    if not isinstance(dataset, Mapping):
        wanted = "HuggingFaceDataset('owner/repo') or BlobDataset('https://...')"
        raise refusal("dataset", _without_secrets(dataset), wanted)
    kind = dataset.get("type")
    check("dataset['type']", kind, kind in ("huggingface", "blob"), "'huggingface' or 'blob'")
    return dict(dataset)


def _step_config(name: str, value: Any, zero_ratio: bool = False) -> Any:
    if value is None:
        return None
    if isinstance(value, (Steps, Ratio)):
        value = value.to_dict()
    elif isinstance(value, int):
        value = {"steps": value}
    if isinstance(value, Mapping) and len(value) == 1:
        kind, amount = next(iter(value.items()))
        if kind == "steps" and _is_whole(amount):
            return dict(value)
        if kind == "ratio" and (
            _is_ratio(amount) or (zero_ratio and _is_number(amount) and amount == 0)
        ):
            return dict(value)
        name, value = f"{name}[{kind!r}]", amount
    raise refusal(name, value, _STEPS_WANTED)


def _gpu_types(value: Optional[Sequence[str]]) -> Optional[Sequence[str]]:
    fits = value is None or (isinstance(value, (list, tuple)) and bool(value))
    check("gpu_types", value, fits, "a list of GPU slugs with at least one")
    for each in value or ():
        check("gpu_types", each, each is not None, "strings")
        _check_text("gpu_types", each)
    return value and list(value)


def _present(**values: Any) -> Dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and is_number(value)


def _is_whole(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_ratio(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1


def _check_whole(name: str, value: Optional[int], least: int = 0) -> Optional[int]:
    fits = value is None or _is_whole(value, least)
    check(name, value, fits, f"a whole number, {least} or more")
    return value


def _check_number(name: str, value: Optional[float]) -> Optional[float]:
    fits = value is None or (_is_number(value) and value >= 0)
    check(name, value, fits, "a finite number, 0 or more")
    return value


def _check_text(name: str, value: Optional[str]) -> Optional[str]:
    fits = value is None or (isinstance(value, str) and bool(value.strip()))
    check(name, value, fits, "a string that is not empty")
    return value


def _check_flag(name: str, value: Optional[bool]) -> Optional[bool]:
    check(name, value, value is None or isinstance(value, bool), "True or False")
    return value


def _without_secrets(value: object) -> object:
    """Remove the parts of a URL that may be secret: the user, the query and the fragment."""
    if not isinstance(value, str):
        return value
    return re.sub(r"//[^/]*@", "//", re.split("[?#]", value, maxsplit=1)[0])[:200]
