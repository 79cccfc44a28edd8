"""Saves and loads adapters and the state of a training. Runs on a thread of its own.

A checkpoint is a folder of PEFT's: `adapter_model.safetensors`, `adapter_config.json`, and a card
that names the base model and its licence. Beside them is `training_state.pt`.
"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.lora.base_model import BaseModel, first_line

STATE = "training_state.pt"
_UNFINISHED = ".unfinished"


def folder_of(directory: Path, step: Optional[int]) -> Path:
    """Return the folder of a job's checkpoint; with None that of its final adapter."""
    return directory / ("final" if step is None else f"checkpoint-{step}")


def save(folder: Path, model: Any, base: BaseModel, state: Dict[str, Any]) -> Dict[str, Any]:
    """Save an adapter as a whole, or not at all.

    Args:
        folder: Where it is saved.
        model: The `PeftModel`.
        base: What it is trained on.
        state: What the training carries on from.

    Returns:
        The artifact, as the event lists it.

    Raises:
        TrainingFailed: The folder cannot be written.
    """
    import torch

    unfinished = folder.with_name(folder.name + _UNFINISHED)
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        # The embeddings are those of the base model; "auto" would ask the Hub for its vocabulary.
        model.save_pretrained(unfinished, save_embedding_layers=False)
        (unfinished / "README.md").write_text(_card(base), encoding="utf-8")
        buffer = io.BytesIO()
        torch.save(state, buffer)
        (unfinished / STATE).write_bytes(buffer.getbuffer())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    except Exception as error:  # safetensors has errors of its own
        shutil.rmtree(unfinished, ignore_errors=True)
        reason = getattr(error, "strerror", None) or first_line(error)
        raise TrainingFailed(f"{folder} cannot be written: {reason}") from error
    return {
        "type": "local-adapter",
        "path": str(folder),
        "baseModel": base.name,
        "license": base.licence,
    }


def load_state(folder: Path) -> Dict[str, Any]:
    """Return what a training carries on from.

    Raises:
        TrainingFailed: It cannot be read.
    """
    import torch

    try:
        state: Dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, of zip files, or of the system
        raise TrainingFailed(f"{folder / STATE} cannot be read: {first_line(error)}") from None
    return state


def load_weights(folder: Path, model: Any) -> None:
    """Give a model's adapter the weights of a saved one.

    Raises:
        TrainingFailed: They cannot be read, or do not fit.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    try:
        result = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        if result.unexpected_keys:
            raise ValueError(f"unknown weights, such as {result.unexpected_keys[0]}")
    except Exception as error:
        raise TrainingFailed(
            f"the adapter in {folder} cannot be carried on with: {first_line(error)}"
        ) from None


def delete_unfinished(directory: Path) -> None:
    """Delete what a process that was killed has left in a job's directory."""
    for each in directory.glob("*" + _UNFINISHED):
        shutil.rmtree(each, ignore_errors=True)


def latest_step(directory: Path, steps: List[int]) -> int:
    """Return the last step whose checkpoint is there, or 0. What is unfinished is deleted.

    Args:
        directory: The job's directory.
        steps: The steps of the checkpoints that have been told of.
    """
    delete_unfinished(directory)
    there = [step for step in steps if (folder_of(directory, step) / STATE).is_file()]
    return max(there, default=0)


def merge(base: BaseModel, adapter: Path, folder: Path) -> None:
    """Save a model whose weights are those of the base model with an adapter added.

    Raises:
        TrainingFailed: The adapter cannot be read, or the folder cannot be written.
    """
    import copy

    from peft import PeftModel

    if folder.exists():
        raise TrainingFailed(f"{folder} exists already; name a new folder")
    if not (adapter / "adapter_config.json").is_file():  # else it is asked of the Hub
        raise TrainingFailed(f"there is no adapter in {adapter}: it has no adapter_config.json")
    unfinished = folder.with_name(folder.name + _UNFINISHED)
    try:
        merged = PeftModel.from_pretrained(copy.deepcopy(base.model), str(adapter))
        merged.merge_and_unload().save_pretrained(unfinished)
        base.tokenizer.save_pretrained(unfinished)
        (unfinished / "README.md").write_text(_card(base, merged=True), encoding="utf-8")
        os.replace(unfinished, folder)
    except Exception as error:
        raise TrainingFailed(f"{adapter} cannot be merged: {first_line(error)}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _card(base: BaseModel, *, merged: bool = False) -> str:
    library, what = "peft", f"A LoRA adapter for {base.name}"
    if merged:
        library, what = "transformers", f"{base.name} with a LoRA adapter added to its weights"
    return (
        f"---\nlibrary_name: {library}\nbase_model: {base.name}\nlicense: {base.licence}\n---\n\n"
        f"{what}. The licence of {base.name} is: {base.licence}. The adapter was trained by a "
        f"local Arkor, on the weights in `{base.folder}`.\n"
    )
