"""Chooses the next token of an answer. Runs on a thread of its own."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from arkor_sync.emulator.engine.lora.constraints import Constraint, refused

GREEDY_BELOW = 1e-5  # a lower temperature would take the logits out of the range of a float


class Sampler:
    """Chooses the tokens of one answer.

    What a request leaves open is as the model's `generation_config` says. The random numbers are
    the answer's own: it is the same whatever else runs, and a training beside it is not disturbed.

    Args:
        model: The model.
        request: What is asked.
        prompt: The tokens of the prompt.

    Raises:
        ApiError: 400: The request asks for what cannot be done.
    """

    def __init__(self, model: Any, request: Dict[str, Any], prompt: List[int]) -> None:
        body, defaults = request["body"], model.generation_config
        if body.get("logprobs"):
            raise refused("logprobs: they are not reported here; leave the field out")
        temperature, top_p = request["temperature"], request["top_p"]
        if temperature is None:
            temperature = (defaults.temperature or 1.0) if defaults.do_sample else 0.0
        if body.get("topP") is None and defaults.top_p is not None:
            top_p = defaults.top_p
        self._processors = LogitsProcessorList()
        if defaults.repetition_penalty:
            self._processors.append(RepetitionPenaltyLogitsProcessor(defaults.repetition_penalty))
        self._greedy = temperature < GREEDY_BELOW
        if not self._greedy:
            self._processors.append(TemperatureLogitsWarper(float(temperature)))
            if defaults.top_k:
                self._processors.append(TopKLogitsWarper(defaults.top_k))
            if top_p < 1:
                self._processors.append(TopPLogitsWarper(float(top_p)))
        self._random = torch.Generator()
        if request["seed"] is None:
            self._random.seed()
        else:
            self._random.manual_seed(request["seed"] % 2**63)
        size = model.config.get_text_config().vocab_size
        self._bias = _bias(body.get("logitBias") or {}, size)
        self._presence = body.get("presencePenalty") or 0.0
        self._frequency = body.get("frequencyPenalty") or 0.0
        self._counts = torch.zeros(size)  # how often the answer has each token
        self._tokens = list(prompt)

    def choose(self, logits: torch.Tensor, constraint: Optional[Constraint]) -> int:
        """Return the next token.

        Args:
            logits: The model's, which this may change.
            constraint: The form of the answer.
        """
        logits -= self._frequency * self._counts + self._presence * (self._counts > 0)
        for token, bias in self._bias.items():
            logits[token] += bias
        if constraint is not None:
            constraint.forbid(logits)
        scores = self._processors(torch.tensor([self._tokens]), logits[None])[0]
        if self._greedy:
            token = int(scores.argmax())
        else:
            token = int(torch.multinomial(scores.softmax(-1), 1, generator=self._random))
        self._counts[token] += 1
        self._tokens.append(token)
        return token


def _bias(given: Dict[str, float], size: int) -> Dict[int, float]:
    for token in given:
        if not token.isdecimal() or int(token) >= size:
            raise refused(
                f"logitBias: {token!r} is no token of this model; expected a whole number from 0 "
                f"to {size - 1}"
            )
    return {int(token): bias for token, bias in given.items()}
