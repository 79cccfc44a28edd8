"""Models that cannot be loaded, and what is said of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
import torch

from arkor_sync.emulator import LoraEngine
from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.lora.base_model import find, load
from support.tiny_model import make_tiny_model


def refused(model: Path, **options: str) -> str:
    with pytest.raises(TrainingFailed) as caught:
        load(str(model), **{"device": "cpu", "dtype": "auto", **options})
    return str(caught.value)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "x") == f"there is no model at {tmp_path / 'x'}"


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.touch()
    assert refused(path) == f"{path} is neither a GGUF file nor a folder with safetensors"


def test_weights_that_can_run_code_are_not_loaded(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert f"the model in {tmp_path} has no safetensors" in refused(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 1000])
def test_weights_that_are_broken(tmp_path: Path, kept: int) -> None:
    path = make_tiny_model(tmp_path / "tiny") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(tmp_path / "tiny").startswith("the model tiny cannot be loaded: ")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": "x"}'])
def test_a_file_that_is_broken(tmp_path: Path, name: str, content: str) -> None:
    make_tiny_model(tmp_path / "tiny")
    (tmp_path / "tiny" / name).write_text(content)
    assert refused(tmp_path / "tiny").startswith("the model tiny cannot be loaded: ")


@pytest.mark.parametrize("content", [b"", b"garbage" * 99, b"GGUF" + b"\xff" * 99, b"GGUF\x03"])
def test_a_gguf_file_that_is_broken_leaves_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert refused(path).startswith(f"{path} cannot be read: ")
    assert [each for each in (tmp_path / "cache").rglob("*") if each.is_file()] == []
    assert list((tmp_path / "cache" / "arkor-sync" / "models").iterdir()) == []


def test_what_a_killed_process_left_of_a_conversion_is_deleted_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    cache = tmp_path / "arkor-sync" / "models"
    for process in (ended.pid, os.getppid()):
        (cache / f"unfinished-{process}").mkdir(parents=True)
    (tmp_path / "model.gguf").touch()
    refused(tmp_path / "model.gguf")
    assert [each.name for each in cache.iterdir()] == [f"unfinished-{os.getppid()}"]


def test_a_device_or_a_dtype_that_is_not_there(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    assert refused(tmp_path, device="tpu") == "device 'tpu': expected auto, cpu, cuda or cuda:N"
    assert refused(tmp_path, device="mps").startswith("device 'mps': expected auto")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    missing = f"cuda:{there}"
    said = refused(tmp_path, device=missing)
    assert said.startswith(f"there is no device '{missing}': PyTorch")
    assert f"finds {there} CUDA devices here; use device='auto' or 'cpu'" in said
    said = "dtype 'int8': expected auto, float32, bfloat16, float16"
    assert refused(tmp_path, dtype="int8") == said


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_dtype_is_that_of_the_weights(tmp_path: Path, dtype: str) -> None:
    loaded = load(str(make_tiny_model(tmp_path)), "cpu", dtype)
    assert {each.dtype for each in loaded.model.parameters()} == {getattr(torch, dtype)}
    assert (loaded.licence, loaded.folder) == ("unknown", tmp_path.resolve())


def test_four_bits_need_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="loadIn4bit needs a CUDA device and bitsandbytes"):
        load(str(make_tiny_model(tmp_path)), "cpu", "auto", four_bit=True)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\ntext", "apache-2.0"),
        ("---\ntags: [x]\nlicense: 'mit'\n---\n", "mit"),
        ("license: mit", "unknown"),
        ("---\nlicense:\n---\n", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_licence_is_that_of_the_card(tmp_path: Path, card: str, licence: str) -> None:
    (tmp_path / "README.md").write_text(card)
    (tmp_path / "model.safetensors").touch()
    assert find(str(tmp_path)).licence == licence


FIND = """
import sys
from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.lora.base_model import find
try:
    find(sys.argv[1])
except TrainingFailed as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nobody/nothing", "nothing"])
def test_a_name_of_the_hub_without_a_network(tmp_path: Path, name: str) -> None:
    home = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", FIND, name],
        env={**os.environ, **home},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    said = f"the model '{name}' is no folder, is not in the Hugging Face cache, and cannot be"
    assert done.stdout.startswith(f"{said} fetched: ")


@pytest.mark.parametrize("library", ["torch", "transformers", "peft", "gguf", "llguidance"])
def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"extra 'local', and {library} is not installed: pip ins"):
        LoraEngine()


def test_a_python_that_is_too_old_or_too_new_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    options: Dict[str, Any] = {}
    for version in ((3, 10, 1), (3, 15, 0)):
        monkeypatch.setattr(sys, "version_info", version)
        with pytest.raises(ValueError, match=r"serve Python 3\.11 to 3\.14, and this is 3\.1"):
            LoraEngine(**options)
