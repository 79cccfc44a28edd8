"""From what the user writes to the job configuration that is sent. Pure; any thread.

The inputs are frozen dataclasses that check themselves as they are built, so that a mistake shows
on the line that made it and not in the cloud's answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import AbstractSet, Any, Dict, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

from arkor_sync._common.arguments import show
from arkor_sync._common.json import json_copy
from arkor_sync.errors import ArkorUsageError

SUPPORTED_MODELS: Tuple[str, ...] = ("unsloth/gemma-4-E4B-it",)
"""The base models that can be trained. The comparison is case-sensitive."""

_REQUIRED: Any = None


@dataclass(frozen=True)
class HuggingFaceDataset:
    """A dataset on the Hugging Face Hub (`datasetSource` of type `huggingface`).

    Args:
        name: `owner/repo`.
        split: The split to train on; the cloud takes `train` where it is left out.
        subset: The subset (configuration) of the dataset.
    """

    name: str
    split: Optional[str] = None
    subset: Optional[str] = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", self.name):
            raise _refusal("HuggingFaceDataset.name", self.name, "the form 'owner/repo'")
        for name in ("split", "subset"):
            _text(f"HuggingFaceDataset.{name}", getattr(self, name))

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        return _present(type="huggingface", name=self.name, split=self.split, subset=self.subset)


@dataclass(frozen=True, repr=False)
class BlobDataset:
    """A dataset behind a URL (`datasetSource` of type `blob`).

    Args:
        url: `https://...`, `http://...` or another scheme that the cloud can read.
        token: Sent in clear in the job's configuration, for the cloud to fetch the URL with.
    """

    url: str
    token: Optional[str] = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            whole = len(parts.scheme) > 1 and bool(parts.netloc or parts.path.strip("/"))
            if not whole or (parts.scheme in ("http", "https") and not parts.hostname):
                raise ValueError
        except (ValueError, AttributeError, TypeError):
            shown = _public(self.url) if isinstance(self.url, str) else self.url
            wanted = "a URL with its scheme: 'https://host/data.jsonl', 'file:///path/data.jsonl'"
            raise _refusal("BlobDataset.url", shown, wanted) from None
        if self.token is not None and not (isinstance(self.token, str) and self.token):
            raise ArkorUsageError(
                f"BlobDataset.token: got a {type(self.token).__name__}; give a string, or leave it "
                "out"
            )

    def __repr__(self) -> str:
        token = ", token=..." if self.token else ""
        return f"BlobDataset(url={_public(self.url)!r}{token})"

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form, token included."""
        return _present(type="blob", url=self.url, token=self.token)


@dataclass(frozen=True)
class LoraConfig:
    """The low-rank adapter to train.

    Args:
        r: The rank (`loraR`).
        alpha: The scaling (`loraAlpha`).
        max_length: Longest example, in tokens (`maxLength`).
        load_in_4bit: Whether the base model is quantised to four bits (`loadIn4bit`).
    """

    r: int = _REQUIRED
    alpha: int = _REQUIRED
    max_length: Optional[int] = None
    load_in_4bit: Optional[bool] = None

    def __post_init__(self) -> None:
        for name in ("r", "alpha"):
            if getattr(self, name) is _REQUIRED:
                raise ArkorUsageError(
                    f"LoraConfig.{name} is required; give both, such as LoraConfig(r=16, alpha=16)"
                )
        for name in ("r", "alpha", "max_length"):
            _whole(f"LoraConfig.{name}", getattr(self, name), least=1)
        _flag("LoraConfig.load_in_4bit", self.load_in_4bit)


@dataclass(frozen=True)
class Steps:
    """A number of training steps, for the fields that take steps or a ratio."""

    n: int

    def __post_init__(self) -> None:
        if not _is_whole(self.n):
            raise _refusal("Steps.n", self.n, "a whole number, 0 or more")

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        return {"steps": self.n}


@dataclass(frozen=True)
class Ratio:
    """A share of all training steps, for the fields that take steps or a ratio."""

    x: float

    def __post_init__(self) -> None:
        if not _is_ratio(self.x):
            raise _refusal("Ratio.x", self.x, "a number above 0 and below 1")

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
    """Build a job's `config` object. What is `None` is left out; `False` and `0` are sent.

    Args:
        model: One of `SUPPORTED_MODELS`.
        dataset: What to train on (`datasetSource`), as an input or in wire form.
        lora: The adapter to train.
        max_steps: Training steps at most.
        num_train_epochs: Passes over the dataset.
        learning_rate: Peak learning rate.
        batch_size: Examples per device and step.
        optim: Optimiser, such as `adamw_8bit`.
        lr_scheduler_type: Learning rate schedule, such as `linear` or `cosine`.
        weight_decay: Weight decay.
        warmup_steps: `Steps`, `Ratio`, a whole number of steps, or the wire form, whose ratio may
            here also be 0.
        logging_steps: How often to log, likewise.
        save_steps: How often to save a checkpoint, likewise.
        eval_steps: How often to evaluate, likewise. It needs a `dataset_split` that is enabled.
        train_on_responses_only: Forwarded as it is.
        dataset_format: A name, or an object with a `type`, such as `{"type": "chatml"}`.
        dataset_split: `{"enabled": bool, "testSize": share, "seed": number}`.
        gpu_types: GPU slugs in order of preference.
        dry_run: Ask for a smoke test. A cloud that does not know it runs the whole job.
        extra: More keys, sent as they are.

    Returns:
        A new dictionary in wire form.

    Raises:
        ArkorUsageError: An argument cannot work.
    """
    _check_model(model)
    if lora is not None and not isinstance(lora, LoraConfig):
        raise _refusal("lora", lora, "a LoraConfig, such as LoraConfig(r=16, alpha=16)")
    if dataset_format is not None and not isinstance(dataset_format, (str, Mapping)):
        raise _refusal("dataset_format", dataset_format, "a string, or an object with a 'type'")
    if dataset_split is not None and not isinstance(dataset_split, Mapping):
        raise _refusal("dataset_split", dataset_split, "an object such as {'enabled': True}")
    config = {
        "model": model,
        "datasetSource": _dataset_source(dataset),
        "loraR": lora and lora.r,
        "loraAlpha": lora and lora.alpha,
        "maxLength": lora and lora.max_length,
        "loadIn4bit": lora and lora.load_in_4bit,
        "maxSteps": _whole("max_steps", max_steps),
        "numTrainEpochs": _number("num_train_epochs", num_train_epochs),
        "learningRate": _number("learning_rate", learning_rate),
        "batchSize": _whole("batch_size", batch_size, least=1),
        "optim": _text("optim", optim),
        "lrSchedulerType": _text("lr_scheduler_type", lr_scheduler_type),
        "weightDecay": _number("weight_decay", weight_decay),
        "warmupSteps": _step_config("warmup_steps", warmup_steps, zero_ratio=True),
        "loggingSteps": _step_config("logging_steps", logging_steps),
        "saveSteps": _step_config("save_steps", save_steps),
        "evalSteps": _step_config("eval_steps", eval_steps),
        "trainOnResponsesOnly": train_on_responses_only,
        "datasetFormat": dataset_format,
        "datasetSplit": dataset_split,
        "gpuTypes": _gpu_types(gpu_types),
        "dryRun": _flag("dry_run", dry_run),
    }
    given = {key: value for key, value in config.items() if value is not None}
    job_config: Dict[str, Any] = json_copy(merge_extra(given, extra, config.keys()), "the job")
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
    if not isinstance(extra, Mapping) or not all(isinstance(key, str) for key in extra):
        raise _refusal("extra", extra, "a mapping with string keys")
    taken = sorted(known & extra.keys())
    if taken:
        raise ArkorUsageError(
            f"extra: {', '.join(taken)} cannot be given here; use the argument of that name"
        )
    return {**body, **extra}


def _check_model(model: object) -> None:
    if model in SUPPORTED_MODELS:
        return
    from difflib import get_close_matches

    near = get_close_matches(str(model).lower(), [m.lower() for m in SUPPORTED_MODELS], n=1)
    hint = next((f" (did you mean {m!r}?)" for m in SUPPORTED_MODELS if m.lower() in near), "")
    listed = ", ".join(repr(m) for m in SUPPORTED_MODELS)
    raise ArkorUsageError(f"model: {show(model)} is not supported{hint}; supported: {listed}")


def _dataset_source(dataset: object) -> Any:
    if isinstance(dataset, (HuggingFaceDataset, BlobDataset)):
        return dataset.to_dict()
    if not isinstance(dataset, Mapping):
        shown = _public(dataset) if isinstance(dataset, str) else dataset
        wanted = "HuggingFaceDataset('owner/repo') or BlobDataset('https://...')"
        raise _refusal("dataset", shown, wanted)
    if dataset.get("type") not in ("huggingface", "blob"):
        raise _refusal("dataset['type']", dataset.get("type"), "'huggingface' or 'blob'")
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
    raise _refusal(name, value, "Steps(25), Ratio(0.1) or a whole number of steps, 0 or more")


def _gpu_types(value: Optional[Sequence[str]]) -> Optional[Sequence[str]]:
    if value is not None and not (isinstance(value, (list, tuple)) and value):
        raise _refusal("gpu_types", value, "a list of GPU slugs with at least one")
    for each in value or ():
        if each is None:
            raise _refusal("gpu_types", each, "strings")
        _text("gpu_types", each)
    return value and list(value)


def _present(**values: Any) -> Dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _is_whole(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_ratio(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1


def _whole(name: str, value: Optional[int], least: int = 0) -> Optional[int]:
    if value is not None and not _is_whole(value, least):
        raise _refusal(name, value, f"a whole number, {least} or more")
    return value


def _number(name: str, value: Optional[float]) -> Optional[float]:
    if value is not None and (not _is_number(value) or value < 0):
        raise _refusal(name, value, "a finite number, 0 or more")
    return value


def _text(name: str, value: Optional[str]) -> Optional[str]:
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise _refusal(name, value, "a string that is not empty")
    return value


def _flag(name: str, value: Optional[bool]) -> Optional[bool]:
    if value is not None and not isinstance(value, bool):
        raise _refusal(name, value, "True or False")
    return value


def _public(url: str) -> str:
    """Cut what may be secret from a URL: the user's part, the query and the fragment."""
    return re.sub(r"//[^/]*@", "//", re.split("[?#]", url, maxsplit=1)[0])[:200]


def _refusal(name: str, value: object, wanted: str) -> ArkorUsageError:
    return ArkorUsageError(f"{name}: got {show(value)}; give {wanted}")
