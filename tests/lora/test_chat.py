from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from peft import PeftModel
from talks import Talks, load_base, make_adapter

from arkor_sync.emulator.engine.lora import chat
from arkor_sync.emulator.engine.lora.base_model import BaseModel
from support.tiny_model import CONTEXT
from support.waiting import until

QUESTIONS = ["How are you?", "Grüße aus 東京 😀", "x"]
EOS = 2


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapters(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(base, folder / str(seed), seed) for seed in range(3)]


@pytest.fixture
def talks(base: BaseModel) -> Talks:
    return Talks(base)


def generated(base: BaseModel, model: Any, text: str, length: int) -> str:
    """Return what `generate` of transformers answers, as far as its characters are whole."""
    prompt = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    tokens = model.generate(**prompt, do_sample=False, max_new_tokens=length)[0]
    answer = tokens[prompt["input_ids"].shape[1] :]
    whole = str(base.tokenizer.decode(answer, skip_special_tokens=True))
    return whole if EOS in answer else whole.rstrip("\ufffd")


@pytest.mark.parametrize("text", QUESTIONS)
def test_the_likeliest_answer_is_that_of_generate_with_and_without_an_adapter(
    talks: Talks, base: BaseModel, adapters: List[Path], text: str
) -> None:
    said = talks.ask(text, temperature=0, maxTokens=60)
    assert said.text == generated(base, base.model, text, 60)
    assert len(said.pieces) > 1
    adapted = PeftModel.from_pretrained(base.copy(), str(adapters[0]))
    said = talks.ask(text, adapter=adapters[0], temperature=0, maxTokens=60)
    assert said.text == generated(base, adapted, text, 60)


def test_a_model_that_does_not_say_how_to_sample_gives_the_likeliest_answer(talks: Talks) -> None:
    assert talks.ask().text == talks.ask(temperature=0).text


def test_a_seed_repeats_the_answer_and_leaves_the_global_random_numbers_alone(
    talks: Talks, adapters: List[Path]
) -> None:
    before = torch.get_rng_state()
    said = [talks.ask(adapter=adapters[0], temperature=1, seed=seed).text for seed in (1, 1, 2, -1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert said[0] == said[1]
    assert len(set(said)) == 3
    # Of twenty letters: an answer that ends at once would be as empty as another.
    letters = {"temperature": 1, "constraint": ("regex", "[a-z]{20}")}
    assert talks.ask(**letters).text != talks.ask(**letters).text


def test_adapters_and_the_base_model_answer_side_by_side_as_they_do_alone(
    talks: Talks, base: BaseModel, adapters: List[Path]
) -> None:
    asked = [
        (adapter, {"temperature": temperature, "seed": 3})
        for adapter in (None, *adapters)
        for temperature in (0, 1)
    ]
    alone = [Talks(base).ask(adapter=adapter, **body).text for adapter, body in asked]
    assert len(set(alone)) == len(alone)
    numbers = [talks.start(adapter=adapter, **body) for adapter, body in asked]
    assert [talks.answer(number).text for number in numbers] == alone
    until(lambda: not talks.chats.running)


def test_an_adapter_that_was_given_up_is_loaded_again(
    talks: Talks, adapters: List[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "KEPT_ADAPTERS", 1)
    first = [talks.ask(adapter=adapter, temperature=0).text for adapter in adapters]
    assert [talks.ask(adapter=adapter, temperature=0).text for adapter in adapters] == first


def test_a_stop_ends_the_answer_before_its_next_token(talks: Talks) -> None:
    def stop_at_the_third_piece(message: Dict[str, Any]) -> None:
        if "text" in message:
            heard.append(message["text"])
            if len(heard) == 3:
                talks.chats.stop(message["chat"])

    heard: List[str] = []
    talks.heard = stop_at_the_third_piece
    said = talks.ask(temperature=1, seed=1, maxTokens=1000, constraint=("regex", "[a-z]{1000}"))
    assert said.text == "".join(heard[:3])
    assert said.end["finish_reason"] == "stop"
    assert said.end["completion_tokens"] == 3
    talks.chats.stop(99)  # one that is not there, or no more


def test_running_tells_of_an_answer_until_its_last_message(talks: Talks) -> None:
    go_on = threading.Event()
    talks.heard = lambda message: go_on.wait() and None  # type: ignore[func-returns-value]
    number = talks.start()
    assert talks.chats.running
    go_on.set()
    talks.answer(number)
    until(lambda: not talks.chats.running)


# -- how an answer ends ---------------------------------------------------------------------------


def test_the_tokens_are_counted_and_max_tokens_ends_the_answer(
    talks: Talks, base: BaseModel
) -> None:
    end = talks.ask("x", temperature=0, maxTokens=7).end
    prompt = "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    assert end == {
        "finish_reason": "length",
        "prompt_tokens": len(base.tokenizer.encode(prompt)),
        "completion_tokens": 7,
    }


def test_the_end_token_ends_the_answer_and_is_left_out_of_its_text(talks: Talks) -> None:
    said = talks.ask(logitBias={str(EOS): 100})
    assert (said.text, said.end["finish_reason"]) == ("", "stop")


def test_the_models_context_ends_the_answer(talks: Talks) -> None:
    said = talks.ask("x" * (CONTEXT - 40), maxTokens=1000, logitBias={str(EOS): -100})
    assert said.end["finish_reason"] == "length"
    assert said.end["prompt_tokens"] + said.end["completion_tokens"] == CONTEXT


@pytest.mark.parametrize("seed", range(5))
def test_a_piece_never_has_half_a_character(talks: Talks, seed: int) -> None:
    said = talks.ask(temperature=1, seed=seed, constraint=("regex", "(é|😀|日|x){12}"))
    assert said.end["finish_reason"] in ("stop", "length")
    assert set(said.text) <= set("é😀日x")
    assert all(said.pieces)
    assert len(said.pieces) == len(said.text)


def test_a_character_that_is_cut_by_the_limit_is_left_out(talks: Talks) -> None:
    said = talks.ask(maxTokens=6, constraint=("choice", ["x😀😀"]))
    assert (said.text, said.end["finish_reason"]) == ("x😀", "length")


def test_special_tokens_are_left_out(talks: Talks) -> None:
    said = talks.ask(maxTokens=5, logitBias={"1": 100})
    assert (said.pieces, said.end["completion_tokens"]) == ([], 5)


# -- what goes wrong ------------------------------------------------------------------------------


def test_an_adapter_that_is_not_there_is_a_404(talks: Talks, tmp_path: Path) -> None:
    last = talks.ask(adapter=tmp_path / "gone").last
    assert last["status"] == 404
    assert "gone" in last["error"]


def test_weights_that_are_not_safetensors_are_not_read(
    talks: Talks, adapters: List[Path], tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_bytes(
        (adapters[0] / "adapter_config.json").read_bytes()
    )
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    last = talks.ask(adapter=tmp_path).last
    assert (last["status"], "adapter_model.safetensors" in last["error"]) == (404, True)


def test_what_fails_unexpectedly_is_a_500_with_the_error(
    talks: Talks, adapters: List[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "adapter_config.json").write_bytes(
        (adapters[0] / "adapter_config.json").read_bytes()
    )
    (tmp_path / "adapter_model.safetensors").write_bytes(b"torn")
    last = talks.ask(adapter=tmp_path).last
    assert (last["status"], "SafetensorError" in last["error"]) == (500, True)
    assert "Traceback" in capsys.readouterr().err
    assert talks.ask().text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"logitBias": {"300": 1}}, "logitBias: '300'"),
        ({"logitBias": {"the": 1}}, "logitBias: 'the'"),
        ({"enableThinking": True}, "enableThinking"),
        ({"reasoningEffort": "low"}, "reasoningEffort"),
        ({"tools": [{"type": "function", "function": {"name": "weather"}}]}, "tools"),
        ({"messages": [{"role": "user", "content": "x" * CONTEXT}]}, "messages: they have"),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "1",
                                "type": "function",
                                "function": {"name": "weather", "arguments": "{}"},
                            }
                        ],
                    }
                ]
            },
            "messages: tool_calls",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_refused_by_name(
    talks: Talks, body: Dict[str, Any], field: str
) -> None:
    said = talks.ask(**body)
    assert said.pieces == []
    assert said.last["status"] == 400
    assert said.last["error"].startswith(field)
