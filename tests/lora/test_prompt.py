from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import pytest
from talks import request
from transformers import AutoTokenizer

from arkor_sync.emulator.engine.lora.prompt import prompt_tokens
from arkor_sync.emulator.http.messages import ApiError
from support.tiny_model import CHATML, make_tiny_model

# The template of a model that knows all there is; it thinks unless it is told not to.
KNOWS_ALL = (
    "{% for tool in tools or [] %}<tool {{ tool.function.name }}>{% endfor %}"
    "{% for message in messages %}"
    "[{{ message.role }}]{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    "<call {{ call.function.name }}({{ call.function.arguments.city }})>"
    "{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<no thoughts>{% endif %}"
    "{% if reasoning_effort is defined %}<{{ reasoning_effort }}>{% endif %}"
)
STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}"
)
CALL = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": '{"city": "X"}'}}
TOOL = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}
WITH_CALL = [
    {"role": "user", "content": "rain?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "yes", "tool_call_id": "1"},
]


def tokenizer(folder: Path, chat_template: Any) -> Any:
    return AutoTokenizer.from_pretrained(make_tiny_model(folder, chat_template=chat_template))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "[user]hi[assistant]"),
        ({"tools": [TOOL]}, "<tool rain>[user]hi[assistant]"),
        ({"tools": [TOOL], "toolChoice": "none"}, "[user]hi[assistant]"),
        ({"enableThinking": False}, "[user]hi[assistant]<no thoughts>"),
        ({"enableThinking": True}, "[user]hi[assistant]"),
        ({"reasoningEffort": "low"}, "[user]hi[assistant]<low>"),
        ({"messages": WITH_CALL}, "[user]rain?[assistant]<call rain(X)>[tool]yes[assistant]"),
    ],
)
def test_a_template_shows_all_that_it_knows(
    tmp_path: Path, body: Dict[str, Any], text: str
) -> None:
    reader = tokenizer(tmp_path, KNOWS_ALL)
    assert reader.decode(prompt_tokens(reader, request("hi", **body))) == text


def test_the_special_tokens_of_a_template_are_tokens(tmp_path: Path) -> None:
    reader = tokenizer(tmp_path, True)
    tokens = prompt_tokens(reader, request("hi"))
    assert [token for token in tokens if token < 3] == [1, 2, 1]
    assert reader.decode(tokens) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "body", "problem"),
    [
        (False, {}, "messages: the tokenizer of this model has no chat template"),
        (CHATML, {"messages": WITH_CALL}, "messages: tool_calls: "),
        (STRICT, {"messages": WITH_CALL[::2]}, "messages: the role 'tool': "),
        (CHATML, {"tools": [TOOL]}, "tools: "),
        (CHATML, {"enableThinking": False}, "enableThinking: "),
        (CHATML, {"reasoningEffort": "high"}, "reasoningEffort: "),
        (
            STRICT,
            {"messages": [{"role": "system", "content": "x"}]},
            "messages: the chat template of this model refuses them: no system role",
        ),
    ],
)
def test_what_a_template_would_leave_out_is_refused(
    tmp_path: Path, template: Any, body: Dict[str, Any], problem: str
) -> None:
    reader = tokenizer(tmp_path, template)
    with pytest.raises(ApiError) as caught:
        prompt_tokens(reader, request("hi", **body))
    assert str(caught.value).startswith(problem)
    assert caught.value.status == 400


def test_a_tool_that_must_be_called_needs_no_template_that_knows_tools(tmp_path: Path) -> None:
    reader = tokenizer(tmp_path, True)
    tokens: List[int] = prompt_tokens(reader, request("hi", tools=[TOOL], tool=("rain", {})))
    assert tokens == prompt_tokens(reader, request("hi"))
