"""Adapters are folders of PEFT that anybody can load, and can be merged into a model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
import torch
from jobs import names
from peft import PeftModel
from talks import Talks, load_base
from trainings import dataset_of, train
from transformers import AutoModelForCausalLM, AutoTokenizer

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.lora import checkpoints
from arkor_sync.emulator.engine.lora.base_model import BaseModel, load

QUESTION = "Where is my order?"
STEPS = 6
FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors", "training_state.pt"}

STRANGER = f"""
import sys
sys.modules["arkor_sync"] = None
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
prompt = tokenizer.apply_chat_template(
    [{{"role": "user", "content": {QUESTION!r}}}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True,
)
tokens = model.generate(**prompt, do_sample=False, max_new_tokens=30)[0]
print(tokens[prompt["input_ids"].shape[1]:].tolist())
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("base")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return load_base(folder)


@pytest.fixture(scope="module")
def job(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a job that has learnt something."""
    folder = tmp_path_factory.mktemp("jobs")
    data = dataset_of(folder)
    config = {"maxSteps": STEPS, "saveSteps": {"steps": 2}, "learningRate": 0.05}
    train(base, folder / "job", datasetSource=data, **config)
    return folder / "job"


def logits_of(model: Any) -> Any:
    with torch.inference_mode():
        return model(torch.arange(4, 40)[None]).logits


def test_each_folder_is_whole_and_there_is_nothing_else(job: Path) -> None:
    assert names(job) == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "final"]
    for folder in job.iterdir():
        assert set(names(folder)) == FILES


def test_the_card_names_the_model_and_its_licence(base: BaseModel, job: Path) -> None:
    card = (job / "final" / "README.md").read_text()
    front = card.split("---\n")[1].splitlines()
    assert front == ["library_name: peft", f"base_model: {base.name}", "license: mit"]
    assert f"A LoRA adapter for {base.name}" in card


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint-2", "final"])
def test_an_adapter_answers_elsewhere_as_it_does_here(
    base: BaseModel, job: Path, name: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(base.folder), str(job / name)],
        capture_output=True,
        text=True,
        check=True,
    )
    tokens: List[int] = json.loads(done.stdout.splitlines()[-1])
    said = Talks(base).ask(QUESTION, adapter=job / name, temperature=0, maxTokens=30).text
    text = base.tokenizer.decode(tokens, skip_special_tokens=True).rstrip("\ufffd")
    assert text == said
    assert said != Talks(base).ask(QUESTION, temperature=0, maxTokens=30).text


def test_a_merged_model_is_the_base_model_with_the_adapter(
    base: BaseModel, job: Path, tmp_path: Path
) -> None:
    before = logits_of(base.model)
    checkpoints.merge(base, job / "final", tmp_path / "merged")
    expected = logits_of(PeftModel.from_pretrained(base.copy(), str(job / "final")).eval())
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(logits_of(merged), expected, atol=1e-4)
    assert not torch.allclose(expected, before, atol=1e-2)
    assert torch.equal(logits_of(base.model), before)  # it is as it was
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == base.tokenizer.chat_template
    card = (tmp_path / "merged" / "README.md").read_text()
    assert f"library_name: transformers\nbase_model: {base.name}\nlicense: mit" in card
    assert names(tmp_path) == ["merged"]
    again = load(str(tmp_path / "merged"), "cpu", "auto")
    assert torch.allclose(logits_of(again.model), expected, atol=1e-4)
    assert again.licence == "mit"


def test_a_merge_that_fails_leaves_nothing(base: BaseModel, job: Path, tmp_path: Path) -> None:
    def refused(adapter: Path, folder: Path) -> str:
        with pytest.raises(TrainingFailed) as caught:
            checkpoints.merge(base, adapter, folder)
        return str(caught.value)

    (tmp_path / "there").mkdir()
    assert refused(job / "final", tmp_path / "there").endswith("exists already; name a new folder")
    assert refused(tmp_path / "no", tmp_path / "new").startswith("there is no adapter in ")
    broken = shutil.copytree(job / "final", tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"x")
    assert refused(broken, tmp_path / "new").startswith(f"{broken} cannot be merged: ")
    (tmp_path / "file").touch()
    assert "cannot be merged" in refused(job / "final", tmp_path / "file" / "new")
    assert names(tmp_path) == ["broken", "file", "there"]


def test_a_folder_that_cannot_be_written_fails_the_job_and_leaves_nothing(
    base: BaseModel, tmp_path: Path
) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "checkpoint-2").write_text("a file is in its place")
    with pytest.raises(TrainingFailed, match=r"checkpoint-2 cannot be written: Not a directory"):
        train(base, tmp_path / "job", maxSteps=3, saveSteps={"steps": 2})
    assert names(tmp_path / "job") == ["checkpoint-2"]


def test_what_cannot_be_loaded_again_is_named(base: BaseModel, job: Path, tmp_path: Path) -> None:
    def refused(name: str) -> str:
        broken = shutil.copytree(job / "checkpoint-2", tmp_path / name / "checkpoint-2")
        (broken / name).write_bytes(b"PK\x03\x04 garbage")
        with pytest.raises(TrainingFailed) as caught:
            train(base, tmp_path / "job", (broken, 2), maxSteps=6)
        return str(caught.value)

    assert "training_state.pt cannot be read: " in refused("training_state.pt")
    assert "cannot be carried on with: " in refused("adapter_model.safetensors")


def test_only_checkpoints_that_were_told_of_are_carried_on_with(tmp_path: Path) -> None:
    for name in ("checkpoint-2", "checkpoint-4", "checkpoint-6.unfinished", "final.unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / checkpoints.STATE).touch()
    assert checkpoints.latest_step(tmp_path, [2]) == 2
    assert checkpoints.latest_step(tmp_path, [2, 4, 6]) == 4
    assert checkpoints.latest_step(tmp_path, []) == 0
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4"]
