"""A language model of random numbers in a folder, as `transformers` saves one: for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 2048
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
TEXTS = ["The invoice is wrong, and the customer asks for help.", "Yes, we will send another one."]
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny_model(
    folder: Path,
    *,
    vocab: int = 300,
    hidden: int = 32,
    chat_template: Union[bool, str] = True,
    seed: int = 0,
) -> Path:
    """Save a Llama of two layers and its tokenizer. The same arguments make the same model.

    Args:
        folder: Where to; it is made.
        vocab: The number of tokens: 3 special ones, the 256 bytes, and words of a few texts.
        hidden: The width of the model.
        chat_template: True for that of ChatML, False for none, or another one.
        seed: Seeds the weights.
    """
    tokenizer = _tokenizer(vocab)
    tokenizer.chat_template = CHATML if chat_template is True else chat_template or None
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _tokenizer(vocab: int) -> Any:
    bytewise = Tokenizer(models.BPE())
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bytewise.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        model_max_length=CONTEXT,
    )
