"""Records of the program's own, from `dataset=` to the end of a run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, List

import pytest

from arkor_sync import (
    ArkorUsageError,
    CloudApiClient,
    DatasetSplit,
    ProjectState,
    TokenCredentials,
    create_trainer,
)
from arkor_sync.emulator import Emulator, NgramEngine

MODEL = "unsloth/gemma-4-E4B-it"
RECORDS = [
    {
        "messages": [
            {"role": "user", "content": f"Wie groß ist {number}?"},
            {"role": "assistant", "content": f"{number} ist so groß wie {number}."},
        ]
    }
    for number in range(20)
]


def train(dataset: Any, client: Any) -> List[float]:
    """Train for a few steps; return the held-out losses."""
    trainer = create_trainer(
        name="mine",
        model=MODEL,
        dataset=dataset,
        max_steps=4,
        eval_steps=2,
        dataset_split=DatasetSplit(test_size=0.2, seed=7),
        client=client,
    )
    losses: List[float] = []
    trainer.on_log(lambda ctx: ctx.eval_loss is not None and losses.append(ctx.eval_loss))
    trainer.wait(60).raise_for_status()
    return losses


@pytest.mark.arkor(engine=NgramEngine())
def test_a_file_and_a_list_of_the_same_records_train_the_same_model(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None, tmp_path: Path
) -> None:
    path = tmp_path / "meine Übungen #1.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in RECORDS), "utf-8")
    from_a_file = train(path, arkor_client)
    assert len(from_a_file) == 2
    assert from_a_file == train(str(path), arkor_client) == train(RECORDS, arkor_client)


@pytest.mark.arkor(engine=NgramEngine())
def test_what_a_trainer_shows_of_a_list_and_what_its_job_does(
    arkor_emulator: Emulator, arkor_client: Any, arkor_no_leaks: None
) -> None:
    trainer = create_trainer(
        name="mine", model=MODEL, dataset=RECORDS, max_steps=1, client=arkor_client
    )
    assert repr(trainer.config["datasetSource"]) == "{'type': 'records', 'records': <20 records>}"
    copy = pickle.loads(pickle.dumps(trainer))
    urls = [each.start().config["datasetSource"]["url"] for each in (trainer, copy)]
    assert all(url.startswith("file:///") for url in urls)
    assert len(set(urls)) == 1, "equal records are in one file"
    for each in (trainer, copy):
        each.wait(60).raise_for_status()


def test_a_cloud_elsewhere_is_not_asked_and_the_trainer_may_be_asked_again(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps(RECORDS[0]))
    for dataset in (tmp_path / "data.jsonl", RECORDS, {"type": "blob", "url": "file:///x"}):
        trainer = create_trainer(
            name="mine",
            model=MODEL,
            dataset=dataset,
            client=CloudApiClient(
                "https://api.example.com", TokenCredentials("t"), scope=ProjectState("o", "p", "1")
            ),
        )
        for call in (trainer.start, trainer.follow, trainer.wait):
            with pytest.raises(ArkorUsageError, match=r"give BlobDataset\(url, token=\.\.\.\)"):
                call()
        assert trainer.run is None
