"""The arithmetic of a training, in this process."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest
import torch
from talks import Base, load_base
from trainings import Trained, dataset_of, train

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.lora import training
from arkor_sync.emulator.engine.lora.settings import OPTIMISERS, SCHEDULERS
from arkor_sync.emulator.engine.lora.training import Stopped


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def data(tmp_path: Path) -> Dict[str, Any]:
    return dataset_of(tmp_path)


class Short:
    """Memory for so many records at once."""

    def __init__(self, base: Base, records: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: List[int] = []
        forward = type(base.model).forward

        def limited(model: Any, input_ids: Any = None, **more: Any) -> Any:
            self.seen.append(len(input_ids))
            if len(input_ids) > records:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(model, input_ids=input_ids, **more)

        limited.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
        monkeypatch.setattr(type(base.model), "forward", limited)


def gradients(
    base: Base, folder: Path, data: Dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> List[Any]:
    """The gradients of the first step, before they are clipped."""
    kept: List[Any] = []

    def keep(parameters: List[Any], _limit: float) -> None:
        kept.extend(each.grad.clone() for each in parameters)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", keep)
        train(base, folder, datasetSource=data, batchSize=8, maxSteps=1, trainOnResponsesOnly=True)
    return kept


@pytest.mark.parametrize("at_once", [4, 3, 1])
def test_micro_batches_have_the_gradient_of_the_whole_and_say_that_memory_is_short(
    base: Base,
    data: Dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    whole = gradients(base, tmp_path / "whole", data, monkeypatch)
    memory = Short(base, at_once, monkeypatch)
    parts = gradients(base, tmp_path / "parts", data, monkeypatch)
    # The records differ in length: a mean of means would be another gradient.
    assert max(float((a - b).abs().max()) for a, b in zip(whole, parts)) < 1e-5
    assert max(float(each.abs().max()) for each in whole) > 1e-3
    assert memory.seen[0] == 8
    assert memory.seen[-1] <= at_once


def test_a_step_that_is_out_of_memory_begins_anew_with_half_the_records(
    base: Base, data: Dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"datasetSource": data, "batchSize": 4, "maxSteps": 4, "loraDropout": 0.0}
    whole = train(base, tmp_path / "whole", **config)
    memory = Short(base, 2, monkeypatch)
    parts = train(base, tmp_path / "parts", **config)
    assert parts.losses == pytest.approx(whole.losses, abs=2e-6)
    assert memory.seen == [4] + [2] * 8  # it is found out once
    (note,) = parts.notes
    assert note.startswith("out of memory: from here on 2 records are computed at once")
    assert whole.notes == []


def test_without_memory_for_one_record_the_job_fails_and_says_what_would_help(
    base: Base, data: Dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Short(base, 0, monkeypatch)
    with pytest.raises(TrainingFailed, match=r"out of memory with 1 records.*lower max_length"):
        train(base, tmp_path / "job", datasetSource=data, batchSize=4, maxSteps=2)
    assert memory.seen == [4, 2, 1]


def test_the_loss_is_the_mean_of_the_tokens_and_not_of_the_records(
    base: Base, data: Dict[str, Any], tmp_path: Path
) -> None:
    """An adapter begins at nothing, so the first loss is that of the base model."""
    trained = train(base, tmp_path / "job", datasetSource=data, batchSize=12, maxSteps=1)
    total, count = 0.0, 0
    for line in (tmp_path / "records.jsonl").read_text().splitlines():
        messages = json.loads(line)["messages"]
        text = base.tokenizer.apply_chat_template(messages, tokenize=False)
        tokens = torch.tensor([base.tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            logits = base.model(tokens).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum"))
        count += tokens.shape[1] - 1
    assert trained.losses[1] == pytest.approx(total / count, abs=1e-5)


def test_a_checkpoint_carries_on_with_the_very_losses_also_with_dropout(
    base: Base, data: Dict[str, Any], tmp_path: Path
) -> None:
    config: Dict[str, Any] = {
        "datasetSource": data,
        "batchSize": 5,
        "maxSteps": 8,
        "saveSteps": {"steps": 2},
        "loraDropout": 0.3,
        "warmupSteps": {"steps": 3},
        "learningRate": 5e-3,
        "datasetSplit": {"enabled": True, "testSize": 0.2},
        "evalSteps": {"steps": 4},
    }
    whole = train(base, tmp_path / "whole", **config)
    for step in (2, 4, 6):  # in the middle of an epoch, and at its end
        carried_on = tmp_path / "whole" / f"checkpoint-{step}", step
        rest = train(base, tmp_path / f"rest-{step}", carried_on, **config)
        expected = {n: loss for n, loss in whole.losses.items() if n > step}
        assert rest.losses == expected
        assert rest.eval_losses == {n: e for n, e in whole.eval_losses.items() if n > step}
        assert same_weights(tmp_path / "whole" / "final", tmp_path / f"rest-{step}" / "final")
    assert whole.losses != train(base, tmp_path / "x", **{**config, "loraDropout": 0.0}).losses


def same_weights(one: Path, other: Path) -> bool:
    return (one / "adapter_model.safetensors").read_bytes() == (
        other / "adapter_model.safetensors"
    ).read_bytes()


def test_a_branch_has_its_own_learning_rate_and_optimiser(
    base: Base, data: Dict[str, Any], tmp_path: Path
) -> None:
    config: Dict[str, Any] = {
        "datasetSource": data,
        "maxSteps": 4,
        "saveSteps": {"steps": 2},
        "lrSchedulerType": "constant",
        "learningRate": 1e-2,
    }
    whole = train(base, tmp_path / "whole", **config)
    start = tmp_path / "whole" / "checkpoint-2", 2

    def branch(**changes: Any) -> Trained:
        return train(base, tmp_path / "-".join(changes), start, **{**config, **changes})

    slower = branch(learningRate=1e-3)
    assert [log["learningRate"] for log in slower.of("training.log")] == [1e-3, 1e-3]
    assert slower.losses[3] == whole.losses[3]  # it is the loss before the step
    assert slower.losses[4] != whole.losses[4]
    decayed = branch(weightDecay=10)
    assert decayed.losses[4] not in (whole.losses[4], slower.losses[4])
    for optimiser in ("sgd", "adafactor", "adagrad", "rmsprop"):
        assert branch(optim=optimiser).losses[3] == whole.losses[3]
    with pytest.raises(TrainingFailed, match="cannot be carried on with"):
        branch(loraR=4)
    with pytest.raises(TrainingFailed, match="nothing to train after step 2.*greater max_steps"):
        branch(maxSteps=2)


def test_a_job_that_was_cut_after_its_last_checkpoint_only_saves_the_final_adapter(
    base: Base, data: Dict[str, Any], tmp_path: Path
) -> None:
    config: Dict[str, Any] = {"datasetSource": data, "maxSteps": 3, "saveSteps": {"steps": 3}}
    whole = train(base, tmp_path / "job", **config)
    rest = train(base, tmp_path / "job", (tmp_path / "job" / "checkpoint-3", 3), **config)
    assert [event["type"] for event in rest.events] == ["training.started", "training.completed"]
    (completed,) = rest.of("training.completed")
    assert completed["metrics"]["finalLoss"] == whole.losses[3]
    assert same_weights(tmp_path / "job" / "final", tmp_path / "job" / "checkpoint-3")


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_each_optimiser_lowers_the_loss_or_says_what_it_needs(
    base: Base, data: Dict[str, Any], tmp_path: Path, optimiser: str
) -> None:
    config = {"datasetSource": data, "batchSize": 12, "maxSteps": 3, "optim": optimiser}
    config["learningRate"] = 1.0 if optimiser == "sgd" else 1e-2
    if "8bit" in optimiser:
        with pytest.raises(TrainingFailed, match=f"'{optimiser}' needs bitsandbytes"):
            train(base, tmp_path / "job", **config)
        return
    losses = train(base, tmp_path / "job", **config).losses
    assert losses[3] < losses[1]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_each_scheduler_gives_the_rates_that_its_name_says(
    base: Base, data: Dict[str, Any], tmp_path: Path, scheduler: str
) -> None:
    trained = train(
        base,
        tmp_path / "job",
        datasetSource=data,
        maxSteps=6,
        warmupSteps={"steps": 2},
        lrSchedulerType=scheduler,
        learningRate=1e-3,
    )
    rates = [log["learningRate"] * 1e3 for log in trained.of("training.log")]
    falling = [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    expected = {
        "linear": falling,
        "cosine": [0.0, 0.5] + [(1 + math.cos(math.pi * n / 4)) / 2 for n in range(4)],
        "constant": [1.0] * 6,
        "constant_with_warmup": [0.0, 0.5, 1.0, 1.0, 1.0, 1.0],
        "polynomial": falling,
    }
    if scheduler in expected:
        assert rates == pytest.approx(expected[scheduler], abs=1e-3)
    else:  # one over the square root
        assert rates[2:] == sorted(rates[2:], reverse=True)
        assert rates[2] > rates[5] > 0.5


def test_a_dry_run_reads_all_records_and_trains_ten_steps_at_most(
    base: Base, data: Dict[str, Any], tmp_path: Path
) -> None:
    config = {"datasetSource": data, "batchSize": 1, "dryRun": True}
    trained = train(base, tmp_path / "a", **config)
    assert len(trained.losses) == 10
    assert trained.of("training.started")[0]["metadata"]["trainRecords"] == 12
    assert len(train(base, tmp_path / "b", maxSteps=3, **config).losses) == 3
    broken = tmp_path / "records.jsonl"
    broken.write_text(broken.read_text() + "{")
    with pytest.raises(TrainingFailed, match="line 13 is not valid JSON"):
        train(base, tmp_path / "c", **config)


def test_each_epoch_takes_each_record_once_in_an_order_that_the_seed_gives(
    base: Base, data: Dict[str, Any], tmp_path: Path
) -> None:
    def losses(name: str, seed: int) -> List[float]:
        config = {"datasetSource": data, "batchSize": 1, "learningRate": 0, "seed": seed}
        return list(train(base, tmp_path / name, numTrainEpochs=2, **config).losses.values())

    one, again, other = losses("one", 1), losses("again", 1), losses("other", 2)
    assert one == again
    assert one != other
    assert one[:12] != one[12:]
    assert sorted(one[:12]) == sorted(one[12:]) == sorted(other[:12])
    assert len(set(one[:12])) == 12


def test_a_cancel_is_seen_before_the_next_micro_batch(
    base: Base, data: Dict[str, Any], tmp_path: Path
) -> None:
    cancelled: Set[int] = set()
    seen: List[Dict[str, Any]] = []

    def publish(event: Dict[str, Any]) -> None:
        seen.append(event)
        if event.get("step") == 2:
            cancelled.add(1)

    with pytest.raises(Stopped):
        config = {"datasetSource": data, "maxSteps": 100}
        train(base, tmp_path / "job", None, lambda: bool(cancelled), publish, **config)
    assert [event.get("step") for event in seen] == [None, 1, 2]
    assert list((tmp_path / "job").iterdir()) == []


def test_a_loss_that_is_no_number_ends_the_job(
    base: Base, data: Dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match=r"the loss of step \d+ is (nan|inf): the learning ra"):
        train(
            base, tmp_path / "job", datasetSource=data, maxSteps=9, learningRate=1e30, optim="sgd"
        )


@pytest.fixture(autouse=True)
def _the_base_model_is_as_it_was(base: Base) -> Iterator[None]:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    yield
    after = base.model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(each.requires_grad for each in base.model.parameters())


def test_a_model_that_makes_all_logits_gives_the_same_losses(
    base: Base, data: Dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"datasetSource": data, "maxSteps": 3, "trainOnResponsesOnly": True}
    few = train(base, tmp_path / "few", **config)
    monkeypatch.setattr(training.inspect, "signature", lambda _: inspect.Signature())
    assert train(base, tmp_path / "all", **config).losses == pytest.approx(few.losses, abs=1e-5)
