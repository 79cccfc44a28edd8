"""What the cloud accepts in `POST /v1/jobs`. Pure."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from arkor_sync.emulator.http.messages import ApiError, is_integer, is_number

STEP_FIELDS = ("warmupSteps", "loggingSteps", "saveSteps", "evalSteps")
NUMBER_FIELDS = (
    "loraR",
    "loraAlpha",
    "maxLength",
    "maxSteps",
    "numTrainEpochs",
    "learningRate",
    "batchSize",
    "weightDecay",
)
STRING_FIELDS = ("optim", "lrSchedulerType")
BOOLEAN_FIELDS = ("loadIn4bit", "dryRun")


def check_job(body: Dict[str, Any], *, strict_steps: bool) -> Tuple[str, Dict[str, Any]]:
    """Check the body of a new job.

    Args:
        body: The JSON body.
        strict_steps: Reject a step field that has not exactly one of `steps` and `ratio`.

    Returns:
        Its name and its config. Unknown keys of the config are kept.

    Raises:
        ApiError: 400, with the name of the field that is wrong.
    """
    name, config = body.get("name"), body.get("config")
    if not isinstance(name, str) or not name:
        raise _invalid("name", "expected a non-empty string")
    if not isinstance(config, dict):
        raise _invalid("config", "expected an object")
    if not isinstance(config.get("model"), str) or not config["model"]:
        raise _invalid("config.model", "expected a non-empty string")
    if "branchedFrom" in config:
        raise _invalid("config.branchedFrom", "the local Arkor sets it: see Emulator.branch")
    _check_dataset(config.get("datasetSource"))
    for fields, fits, wanted in (
        (NUMBER_FIELDS, is_number, "a number"),
        (STRING_FIELDS, lambda value: isinstance(value, str), "a string"),
        (BOOLEAN_FIELDS, lambda value: isinstance(value, bool), "a boolean"),
    ):
        for field in fields:
            if config.get(field) is not None and not fits(config[field]):
                raise _invalid(f"config.{field}", f"expected {wanted}")
    if strict_steps:
        for field in STEP_FIELDS:
            if field in config:
                _check_steps(field, config[field])
    if config.get("datasetSplit") is not None:
        _check_split(config["datasetSplit"])
    if config.get("gpuTypes") is not None:
        _check_gpus(config["gpuTypes"])
    return name, config


def _check_dataset(source: Any) -> None:
    where = "config.datasetSource"
    if not isinstance(source, dict):
        raise _invalid(where, "expected an object")
    required = {"huggingface": "name", "blob": "url"}.get(str(source.get("type")))
    if required is None:
        raise _invalid(f"{where}.type", "expected 'huggingface' or 'blob'")
    if not isinstance(source.get(required), str) or not source[required]:
        raise _invalid(f"{where}.{required}", "expected a non-empty string")
    for field in ("split", "subset", "token"):
        if source.get(field) is not None and not isinstance(source[field], str):
            raise _invalid(f"{where}.{field}", "expected a string")


def _check_steps(field: str, value: Any) -> None:
    where = f"config.{field}"
    keys = {"steps", "ratio"} & set(value) if isinstance(value, dict) else set()
    if len(keys) != 1:
        raise _invalid(where, "expected an object with exactly one of 'steps' and 'ratio'")
    if "steps" in keys and (not is_integer(value["steps"]) or value["steps"] < 0):
        raise _invalid(f"{where}.steps", "expected a whole number >= 0")
    if "ratio" in keys:
        ratio, zero = value["ratio"], field == "warmupSteps"
        if not is_number(ratio) or not (0 < ratio < 1 or (zero and ratio == 0)):
            raise _invalid(f"{where}.ratio", "expected a number above 0 and below 1")


def _check_split(split: Any) -> None:
    where = "config.datasetSplit"
    if not isinstance(split, dict) or not isinstance(split.get("enabled", False), bool):
        raise _invalid(where, "expected an object with a boolean 'enabled'")
    size = split.get("testSize", 0.1)
    if not is_number(size) or not 0 < size <= 1:
        raise _invalid(f"{where}.testSize", "expected a number above 0 and at most 1")
    if not is_integer(split.get("seed", 42)):
        raise _invalid(f"{where}.seed", "expected a whole number")


def _check_gpus(gpus: Any) -> None:
    if not isinstance(gpus, list) or not gpus or not all(isinstance(g, str) and g for g in gpus):
        raise _invalid("config.gpuTypes", "expected a list of at least one GPU name")


def _invalid(where: str, problem: str) -> ApiError:
    return ApiError(400, f"{where}: {problem}", "validation_error")
