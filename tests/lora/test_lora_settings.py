from __future__ import annotations

from typing import Any, Dict

import pytest

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.lora.settings import (
    GREATEST_SEED,
    OPTIMISERS,
    SCHEDULERS,
    settings_of,
)

NEEDED = {"model": "m", "datasetSource": {"type": "huggingface", "name": "n"}}


def test_the_defaults() -> None:
    settings = settings_of(dict(NEEDED), 7)
    assert (settings.r, settings.alpha, settings.dropout) == (16, 16, 0.0)
    assert (settings.optimiser, settings.scheduler) == ("adamw_torch", "linear")
    assert (settings.learning_rate, settings.weight_decay) == (2e-4, 0.0)
    assert (settings.max_length, settings.seed) == (None, 7)
    assert not (settings.four_bit or settings.responses_only or settings.dry_run)


@pytest.mark.parametrize(
    "given, kept",
    [
        ({"loraR": 4, "loraAlpha": 8.0, "loraDropout": 0.5}, {"r": 4, "alpha": 8, "dropout": 0.5}),
        ({"maxLength": 99}, {"max_length": 99}),
        ({"maxLength": 0}, {"max_length": None}),
        ({"loadIn4bit": True, "dryRun": True}, {"four_bit": True, "dry_run": True}),
        ({"trainOnResponsesOnly": True}, {"responses_only": True}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": GREATEST_SEED}, {"seed": GREATEST_SEED}),
        ({"seed": None, "optim": None}, {"seed": 42, "optimiser": "adamw_torch"}),
        ({"learningRate": 0, "weightDecay": 1}, {"learning_rate": 0.0, "weight_decay": 1.0}),
        *[({"optim": each}, {"optimiser": each}) for each in OPTIMISERS],
        *[({"lrSchedulerType": each}, {"scheduler": each}) for each in SCHEDULERS],
    ],
    ids=str,
)
def test_what_is_given_is_kept(given: Dict[str, Any], kept: Dict[str, Any]) -> None:
    settings = settings_of({**NEEDED, **given}, 42)
    assert {name: getattr(settings, name) for name in kept} == kept


@pytest.mark.parametrize(
    "name, value, wanted",
    [
        ("loraR", 0, "a whole number, 1 or more"),
        ("loraR", 2.5, "a whole number, 1 or more"),
        ("loraR", True, "a whole number, 1 or more"),
        ("loraR", float("inf"), "a whole number, 1 or more"),
        ("loraR", float("nan"), "a whole number, 1 or more"),
        ("loraAlpha", -1, "a whole number, 1 or more"),
        ("loraAlpha", "16", "a whole number, 1 or more"),
        ("maxLength", -5, "a whole number, 1 or more"),
        ("seed", -1, f"a whole number, 0 to {GREATEST_SEED}"),
        ("seed", 2**63, f"a whole number, 0 to {GREATEST_SEED}"),
        ("loraDropout", 1, "a number, 0 or more and below 1"),
        ("loraDropout", -0.1, "a number, 0 or more and below 1"),
        ("learningRate", -1e-4, "a number, 0 or more"),
        ("learningRate", float("nan"), "a number, 0 or more"),
        ("weightDecay", [1], "a number, 0 or more"),
        ("optim", "adam", "adamw_torch, adamw_torch_fused"),
        ("optim", ["sgd"], "adamw_torch, adamw_torch_fused"),
        ("lrSchedulerType", "cosine_with_restarts", "linear, cosine"),
        ("loadIn4bit", "yes", "true or false"),
        ("dryRun", 1, "true or false"),
        ("trainOnResponsesOnly", {"instruction": "user"}, "true or false"),
    ],
    ids=str,
)
def test_a_value_that_cannot_work_is_refused_by_name(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(TrainingFailed) as caught:
        settings_of({**NEEDED, name: value}, 42)
    assert str(caught.value).startswith(f"{name} {value!r}: the LoRA engine takes {wanted}")


def test_a_setting_that_is_not_known_is_refused_by_name_unless_it_says_nothing() -> None:
    with pytest.raises(TrainingFailed, match="the setting 'packing' is not known to the LoRA"):
        settings_of({**NEEDED, "packing": False}, 42)
    settings_of({**NEEDED, "packing": None}, 42)
