"""The engine's losses are those of a bare loop that shares no code with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List

import torch

from arkor_sync.emulator import Emulator, LoraEngine
from support import bare_loop
from support.tiny_model import make_tiny_model
from support.waiting import until

STEPS, BATCH, RATE, SEED = 12, 4, 0.02, 7
PATIENCE = 240.0  # seconds; the child process imports PyTorch
CLOSE = 1e-3
# Of different lengths, with one answer or two; the third step of an epoch has two records.
RECORDS = [
    [
        message
        for turn in range(1 + number % 2)
        for message in (
            {"role": "user", "content": f"Invoice {number}. " + "Help me. " * (number + turn)},
            {"role": "assistant", "content": f"Yes, {turn}. " + "It is wrong. " * (10 - number)},
        )
    ]
    for number in range(10)
]


def losses_of_the_engine(emulator: Emulator, data: Path, responses_only: bool) -> List[float]:
    config = {
        "datasetSource": {"type": "blob", "url": data.as_uri()},
        "maxSteps": STEPS,
        "batchSize": BATCH,
        "learningRate": RATE,
        "trainOnResponsesOnly": responses_only,
        "seed": SEED,
    }
    job_id = emulator.create_job(config=config)
    job = emulator.jobs[job_id]
    until(lambda: job.terminal, PATIENCE)
    assert job.status == "completed", job.error
    events: List[Dict[str, float]] = [entry.event for entry in job.log if entry.event]
    return [event["loss"] for event in events if "loss" in event]


def losses_of_the_loop(model: Path, responses_only: bool, seed: int = SEED) -> List[float]:
    with torch.random.fork_rng(devices=[]):
        steps = bare_loop.train(
            model,
            RECORDS,
            steps=STEPS,
            batch=BATCH,
            seed=seed,
            rate=RATE,
            responses_only=responses_only,
        )
        return [loss for loss, _ in steps]


def difference(first: List[float], second: List[float]) -> float:
    assert len(first) == len(second) == STEPS
    return max(abs(a - b) for a, b in zip(first, second))


def test_the_losses_agree_with_a_bare_loop(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"messages": each}) + "\n" for each in RECORDS))
    with Emulator(LoraEngine(model, device="cpu", dtype="float32", threads=1)) as emulator:
        whole = losses_of_the_engine(emulator, data, responses_only=False)
        answers = losses_of_the_engine(emulator, data, responses_only=True)
    assert difference(whole, losses_of_the_loop(model, responses_only=False)) < CLOSE
    assert difference(answers, losses_of_the_loop(model, responses_only=True)) < CLOSE
    # What is not the same is seen: what is learnt, and another order of the records.
    assert difference(whole, answers) > 10 * CLOSE
    reordered = losses_of_the_loop(model, responses_only=True, seed=SEED + 1)
    assert difference(answers, reordered) > 10 * CLOSE
    assert whole[-1] < whole[0] - 100 * CLOSE
