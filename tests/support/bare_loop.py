"""Trains an adapter in a bare loop of transformers and PEFT: what the LoRA engine is held against.

Nothing here is of the engine. That both do the same is to be found out by their losses.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple, Union

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

Conversation = Sequence[Dict[str, str]]
Example = Tuple[List[int], List[int]]
"""The tokens of a conversation, and the labels: -100 where a token is not learnt."""


def train(
    folder: Union[str, Path],
    conversations: Sequence[Conversation],
    *,
    steps: int,
    batch: int,
    seed: int,
    rate: float = 2e-4,
    responses_only: bool = False,
) -> Iterator[Tuple[float, float]]:
    """Train with AdamW and a learning rate that falls linearly. Yield each step's loss and end.

    Args:
        folder: The model and its tokenizer.
        conversations: The records. Each epoch shuffles them anew.
        steps: How many steps there are.
        batch: Records in a step; an epoch's last step has what is left.
        seed: Seeds the adapter and the orders.
        rate: The learning rate of the first step.
        responses_only: Learn the answers of the assistant only.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    examples = [example(tokenizer, each, responses_only) for each in conversations]
    torch.manual_seed(seed)
    adapter = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, adapter)
    model.train()
    learnt = [each for each in model.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=rate, weight_decay=0.0)
    chosen = batches(len(examples), batch, seed)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (steps - step) / steps
        given = padded([examples[n] for n in next(chosen)], tokenizer.pad_token_id)
        loss = model(**given).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        yield loss.item(), time.perf_counter()


def example(tokenizer: Any, conversation: Conversation, responses_only: bool) -> Example:
    def tokens_of(messages: Conversation, asks: bool = False) -> List[int]:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=asks
        )
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    tokens = tokens_of(conversation)
    if not responses_only:
        return tokens, tokens
    labels = [-100] * len(tokens)
    for number, message in enumerate(conversation):
        if message["role"] == "assistant":
            start = len(tokens_of(conversation[:number], asks=True))
            end = len(tokens_of(conversation[: number + 1]))
            labels[start:end] = tokens[start:end]
    return tokens, labels


def batches(count: int, batch: int, seed: int) -> Iterator[List[int]]:
    epoch = 0
    while True:
        order = list(range(count))
        random.Random(f"{seed}:{epoch}").shuffle(order)
        yield from (order[start : start + batch] for start in range(0, count, batch))
        epoch += 1


def padded(examples: List[Example], padding: int) -> Dict[str, torch.Tensor]:
    width = max(len(tokens) for tokens, _ in examples)
    rows: Dict[str, List[List[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for tokens, labels in examples:
        missing = width - len(tokens)
        rows["input_ids"].append(tokens + [padding] * missing)
        rows["attention_mask"].append([1] * len(tokens) + [0] * missing)
        rows["labels"].append(labels + [-100] * missing)
    return {name: torch.tensor(row) for name, row in rows.items()}
