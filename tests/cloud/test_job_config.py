from __future__ import annotations

import pickle
from typing import Any, Dict

import pytest

from arkor_sync.cloud.models import (
    SUPPORTED_MODELS,
    BlobDataset,
    HuggingFaceDataset,
    LoraConfig,
    Ratio,
    Steps,
    build_job_config,
)
from arkor_sync.errors import ArkorUsageError

MODEL = SUPPORTED_MODELS[0]
DATASET = HuggingFaceDataset("owner/repo")
SOURCE = {"type": "huggingface", "name": "owner/repo"}


def config(**more: Any) -> Dict[str, Any]:
    arguments: Dict[str, Any] = {"model": MODEL, "dataset": DATASET, **more}
    return build_job_config(**arguments)


def test_every_argument_has_its_wire_name() -> None:
    assert config(
        lora=LoraConfig(r=16, alpha=32, max_length=2048, load_in_4bit=False),
        max_steps=100,
        num_train_epochs=1.5,
        learning_rate=2e-4,
        batch_size=4,
        optim="adamw_8bit",
        lr_scheduler_type="cosine",
        weight_decay=0.01,
        warmup_steps=Ratio(0.1),
        logging_steps=Steps(1),
        save_steps=25,
        eval_steps={"ratio": 0.5},
        train_on_responses_only=True,
        dataset_format={"type": "chatml"},
        dataset_split={"enabled": True, "testSize": 0.1},
        gpu_types=("a100", "h100"),
        dry_run=False,
        extra={"somethingNew": None},
    ) == {
        "model": MODEL,
        "datasetSource": SOURCE,
        "loraR": 16,
        "loraAlpha": 32,
        "maxLength": 2048,
        "loadIn4bit": False,
        "maxSteps": 100,
        "numTrainEpochs": 1.5,
        "learningRate": 2e-4,
        "batchSize": 4,
        "optim": "adamw_8bit",
        "lrSchedulerType": "cosine",
        "weightDecay": 0.01,
        "warmupSteps": {"ratio": 0.1},
        "loggingSteps": {"steps": 1},
        "saveSteps": {"steps": 25},
        "evalSteps": {"ratio": 0.5},
        "trainOnResponsesOnly": True,
        "datasetFormat": {"type": "chatml"},
        "datasetSplit": {"enabled": True, "testSize": 0.1},
        "gpuTypes": ["a100", "h100"],
        "dryRun": False,
        "somethingNew": None,
    }


def test_what_is_left_out_is_absent() -> None:
    assert config() == {"model": MODEL, "datasetSource": SOURCE}
    assert config(lora=LoraConfig(r=1, alpha=1)) == {**config(), "loraR": 1, "loraAlpha": 1}


def test_false_and_zero_are_sent() -> None:
    sent = config(
        max_steps=0,
        weight_decay=0,
        warmup_steps=0,
        train_on_responses_only=False,
        dry_run=False,
        dataset_split={},
    )
    assert {key: sent[key] for key in ("maxSteps", "weightDecay", "warmupSteps")} == {
        "maxSteps": 0,
        "weightDecay": 0,
        "warmupSteps": {"steps": 0},
    }
    assert sent["trainOnResponsesOnly"] is False
    assert sent["dryRun"] is False
    assert sent["datasetSplit"] == {}


def test_the_config_is_a_copy() -> None:
    extra = {"somethingNew": [1]}
    built = config(extra=extra)
    extra["somethingNew"].append(2)
    assert built["somethingNew"] == [1]


def test_only_a_ratio_of_warmup_steps_may_be_zero() -> None:
    assert config(warmup_steps={"ratio": 0})["warmupSteps"] == {"ratio": 0}
    with pytest.raises(ArkorUsageError, match=r"^save_steps\['ratio'\]: got int 0; give "):
        config(save_steps={"ratio": 0})


@pytest.mark.parametrize("name", ["warmup_steps", "logging_steps", "save_steps", "eval_steps"])
@pytest.mark.parametrize(
    "value",
    [
        True,
        -1,
        0.5,
        "25",
        {},
        {"steps": 1, "ratio": 0.1},
        {"steps": None},
        {"steps": 1.5},
        {"ratio": 1},
        {"ratio": float("nan")},
        {"every": 5},
    ],
)
def test_step_fields_that_cannot_work(name: str, value: Any) -> None:
    with pytest.raises(
        ArkorUsageError, match=rf"^{name}(\[.*\])?: got .*; give Steps\(25\), Ratio"
    ):
        config(**{name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_steps", [-1, True, 1.0, "5"]),
        ("batch_size", [0, False, 1.5]),
        ("num_train_epochs", [-0.1, True, "1"]),
        ("learning_rate", [float("nan"), float("inf"), -1, "2e-4"]),
        ("weight_decay", [True, -0.1]),
        ("optim", ["", " ", 5]),
        ("lr_scheduler_type", ["", 5]),
        ("lora", [16, {"r": 16, "alpha": 16}]),
        ("dataset_format", [5, ["chatml"], ""]),
        ("dataset_split", [True, 0.1, "train"]),
        ("gpu_types", ["a100", [], [""], [None], [5], {"a100"}]),
        ("dry_run", [1, "yes"]),
        ("extra", [["a"], {5: 1}]),
    ],
)
def test_arguments_that_cannot_work_are_named(name: str, values: Any) -> None:
    for value in values:
        with pytest.raises(ArkorUsageError, match=f"^{name}: got .*; give "):
            config(**{name: value})


@pytest.mark.parametrize(
    "key", ["maxSteps", "max_steps", "model", "loraR", "datasetSource", "gpuTypes", "dataset_split"]
)
def test_extra_cannot_replace_an_argument(key: str) -> None:
    with pytest.raises(ArkorUsageError, match=f"^extra: got {key}; give only keys"):
        config(extra={key: 1})


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), object()])
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(ArkorUsageError, match="cannot be sent as JSON"):
        config(train_on_responses_only=value)


def test_an_unknown_model_names_all() -> None:
    for model in ("unsloth/gemma-4-e4b-it", "gpt", None, 5, ["x"]):
        with pytest.raises(ArkorUsageError, match=r"; give 'unsloth/gemma-4-E4B-it'$"):
            config(model=model)


def test_the_supported_models() -> None:
    assert isinstance(SUPPORTED_MODELS, tuple)
    assert all(owner and name for owner, name in (each.split("/") for each in SUPPORTED_MODELS))


def test_datasets_in_wire_form() -> None:
    full = HuggingFaceDataset("owner/repo", split="train[:100]", subset="en")
    assert full.to_dict() == {**SOURCE, "split": "train[:100]", "subset": "en"}
    blob = BlobDataset("https://host/data.jsonl", token="t")
    assert config(dataset=blob)["datasetSource"] == {
        "type": "blob",
        "url": "https://host/data.jsonl",
        "token": "t",
    }
    raw = {"type": "blob", "url": "x", "somethingNew": 1}
    assert config(dataset=raw)["datasetSource"] == raw


@pytest.mark.parametrize("value", [{}, {"type": "s3"}, {"type": None}])
def test_a_raw_dataset_of_no_known_type(value: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"^dataset\['type'\]: got .*; give 'huggingface'"):
        config(dataset=value)


@pytest.mark.parametrize("name", ["", "repo", "a/b/c", "/repo", "a b/c", "https://x/y", None, 5])
def test_hub_names(name: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"^HuggingFaceDataset\.name: got .*'owner/repo'"):
        HuggingFaceDataset(name)


def test_split_and_subset_are_strings() -> None:
    for bad in ({"split": ""}, {"subset": 5}):
        with pytest.raises(ArkorUsageError, match=rf"^HuggingFaceDataset\.{next(iter(bad))}: got "):
            HuggingFaceDataset("a/b", **bad)


@pytest.mark.parametrize(
    "url", ["https://host/x", "http://127.0.0.1:1/x", "file:///data/x.jsonl", "s3://bucket/key"]
)
def test_blob_urls(url: str) -> None:
    assert BlobDataset(url).to_dict() == {"type": "blob", "url": url}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "data.jsonl",
        "/data.jsonl",
        "C:\\data.jsonl",
        "https://",
        "http:///x",
        "http://[",
        None,
        5,
    ],
)
def test_what_is_no_blob_url(url: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"^BlobDataset\.url: got .*'https://host"):
        BlobDataset(url)


def test_a_blob_shows_no_secret() -> None:
    blob = BlobDataset("https://user:password@host/data?signature=abc#part", token="dataset-secret")
    assert repr(blob) == str(blob) == "BlobDataset(url='https://host/data', token=...)"
    assert pickle.loads(pickle.dumps(blob)) == blob
    for make in (
        lambda: BlobDataset("//host/data?signature=abc"),
        lambda: config(dataset="https://user:password@host/data?signature=abc"),
        lambda: BlobDataset("https://host/", token=["dataset-secret"]),  # type: ignore[arg-type]
        lambda: BlobDataset("https://host/", token=""),
    ):
        with pytest.raises(ArkorUsageError) as caught:
            make()
        for secret in ("signature", "password", "dataset-secret"):
            assert secret not in str(caught.value)


def test_lora_needs_both_numbers() -> None:
    with pytest.raises(ArkorUsageError, match=r"^LoraConfig\.alpha: got nothing; .*alpha=16"):
        LoraConfig(r=16)
    with pytest.raises(ArkorUsageError, match=r"^LoraConfig\.r: got nothing; "):
        LoraConfig(alpha=16)
    with pytest.raises(ArkorUsageError, match=r"^LoraConfig\.r: got nothing; "):
        LoraConfig()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("r", [0, -1, True, 1.5, "16"]),
        ("alpha", [0, True, 16.0]),
        ("max_length", [0, True, "2048"]),
        ("load_in_4bit", [1, "yes"]),
    ],
)
def test_lora_fields(name: str, values: Any) -> None:
    for value in values:
        arguments: Dict[str, Any] = {"r": 16, "alpha": 16, name: value}
        with pytest.raises(ArkorUsageError, match=rf"^LoraConfig\.{name}: got .*; give "):
            LoraConfig(**arguments)


@pytest.mark.parametrize("value", [-1, True, 1.0, "5", None])
def test_steps(value: Any) -> None:
    assert Steps(0).to_dict() == {"steps": 0}
    with pytest.raises(
        ArkorUsageError, match=r"^Steps\.n: got .*; give a whole number, 0 or more$"
    ):
        Steps(value)


@pytest.mark.parametrize("value", [0, 1, 1.5, -0.1, True, float("nan"), "0.1", None])
def test_ratio(value: Any) -> None:
    assert Ratio(0.1).to_dict() == {"ratio": 0.1}
    with pytest.raises(
        ArkorUsageError, match=r"^Ratio\.x: got .*; give a number above 0 and below 1"
    ):
        Ratio(value)


@pytest.mark.parametrize(
    "value", [DATASET, LoraConfig(r=1, alpha=2), Steps(1), Ratio(0.5), BlobDataset("https://h/x")]
)
def test_inputs_pickle_and_are_frozen(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(AttributeError):
        value.new = 1
