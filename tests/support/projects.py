"""Files of projects that `arkor-sync start` runs."""

from __future__ import annotations

from pathlib import Path

HEAD = """
import os
from arkor_sync import ErrorPolicy, StopTraining, create_arkor, create_trainer

settings = dict(
    name="bot",
    model="unsloth/gemma-4-E4B-it",
    dataset={"type": "huggingface", "name": "emulator/sample"},
)
"""


def write_project(folder: Path, code: str = "trainer = create_trainer(**settings)\n") -> None:
    """Write `trainer.py`; the code finds the arguments of a trainer in `settings`."""
    (folder / "trainer.py").write_text(HEAD + code, "utf-8")
