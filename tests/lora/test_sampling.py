from __future__ import annotations

from typing import Any, Dict, List

import pytest
import torch
from talks import request
from transformers import LlamaConfig
from transformers.generation import GenerationConfig

from arkor_sync.emulator.engine.lora.sampling import Sampler

LOGITS = [1.0, 4.0, 3.0, 2.0]  # of a model with four tokens


class Model:
    """What a sampler asks of a model."""

    def __init__(self, **defaults: Any) -> None:
        self.config = LlamaConfig(vocab_size=len(LOGITS))
        self.generation_config = GenerationConfig(**defaults)


def chosen(count: int, model: Any, **body: Any) -> List[int]:
    sampler = Sampler(model, request(**body), [0])
    return [sampler.choose(torch.tensor(LOGITS), None) for _ in range(count)]


@pytest.mark.parametrize(
    ("defaults", "body", "tokens"),
    [
        ({}, {"temperature": 0}, {1}),
        ({}, {"temperature": 1e-30}, {1}),
        ({}, {"temperature": 2}, {0, 1, 2, 3}),
        ({}, {"temperature": 2, "topP": 0.5}, {1, 2}),
        ({}, {"temperature": 2, "topP": 0}, {1}),
        ({}, {}, {1}),
        ({"do_sample": True}, {}, {0, 1, 2, 3}),
        ({"do_sample": True, "temperature": 0.01}, {}, {1}),
        ({"do_sample": True, "top_k": 2}, {}, {1, 2}),
        ({"do_sample": True, "top_p": 0.5}, {}, {1}),
        ({"do_sample": True, "top_p": 0.5}, {"topP": 1}, {0, 1, 2, 3}),
        ({"do_sample": True}, {"temperature": 0}, {1}),
        ({}, {"temperature": 0, "logitBias": {"3": 10}}, {3}),
        ({}, {"temperature": 2, "logitBias": {"1": -100, "2": -100}}, {0, 3}),
    ],
)
def test_which_tokens_are_chosen(
    defaults: Dict[str, Any], body: Dict[str, Any], tokens: List[int]
) -> None:
    assert set(chosen(300, Model(**defaults), seed=1, **body)) == tokens


@pytest.mark.parametrize(
    ("defaults", "body", "tokens"),
    [
        ({}, {}, [1, 1, 1, 1, 1, 1]),
        ({}, {"presencePenalty": 1.5}, [1, 2, 1, 1, 1, 1]),
        ({}, {"frequencyPenalty": 1.4}, [1, 2, 1, 3, 2, 1]),
        ({}, {"presencePenalty": -2, "logitBias": {"2": 2}}, [2, 2, 2, 2, 2, 2]),
        ({"repetition_penalty": 8.0}, {}, [1, 2, 3, 1, 1, 1]),
    ],
)
def test_penalties_make_room_for_other_tokens(
    defaults: Dict[str, Any], body: Dict[str, Any], tokens: List[int]
) -> None:
    assert chosen(6, Model(**defaults), temperature=0, **body) == tokens


def test_the_same_seed_draws_the_same_tokens() -> None:
    drawn = [chosen(50, Model(), temperature=1, seed=seed) for seed in (1, 1, 2, 2**70, -5)]
    assert drawn[0] == drawn[1]
    assert len(set(map(tuple, drawn))) == 4
