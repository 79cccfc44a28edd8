"""Trains a tiny model in this process, and keeps the events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from talks import Base

from arkor_sync.emulator.engine.lora.settings import settings_of
from arkor_sync.emulator.engine.lora.training import Training

MODEL = "unsloth/gemma-4-E4B-it"
QUIET = {"loggingSteps": {"steps": 1}}


def dataset_of(folder: Path, count: int = 12) -> Dict[str, Any]:
    """Write records, no two of which have the same length, and return the data set."""
    path = folder / "records.jsonl"
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Where is my order {n}?{' Please' * n}"},
                {"role": "assistant", "content": f"It is on its way{', really' * (count - n)}."},
            ]
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"type": "blob", "url": path.as_uri()}


class Trained:
    """The events of a training that has ended."""

    def __init__(self, events: List[Dict[str, Any]]) -> None:
        self.events = events

    def of(self, kind: str) -> List[Dict[str, Any]]:
        """The events of a type."""
        return [event for event in self.events if event["type"] == kind]

    @property
    def losses(self) -> Dict[int, float]:
        """The loss of each step."""
        return {e["step"]: e["loss"] for e in self.of("training.log") if "loss" in e}

    @property
    def eval_losses(self) -> Dict[int, float]:
        logs = self.of("training.log")
        return {e["step"]: e["evalLoss"] for e in logs if e.get("evalLoss") is not None}

    @property
    def notes(self) -> List[str]:
        logs = self.of("training.log")
        return [event["metadata"]["note"] for event in logs if "metadata" in event]


def train(
    base: Base,
    directory: Path,
    carried_on: Optional[Tuple[Path, int]] = None,
    stopping: Callable[[], bool] = lambda: False,
    publish: Callable[[Dict[str, Any]], None] = lambda event: None,
    **config: Any,
) -> Trained:
    """Train to the end."""
    directory.mkdir(exist_ok=True)
    whole = {"model": MODEL, **config}
    whole.setdefault("datasetSource", {"type": "huggingface", "name": "arkorlab/triage-demo"})
    events: List[Dict[str, Any]] = []

    def keep(event: Dict[str, Any]) -> None:
        events.append(event)
        publish(event)

    settings = settings_of(whole, 42)
    Training(base, whole, settings, directory, keep, stopping).run(carried_on)  # type: ignore[arg-type]
    return Trained(events)
