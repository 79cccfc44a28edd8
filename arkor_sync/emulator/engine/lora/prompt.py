"""Writes the messages of a chat request as the model was taught to read them. Pure."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Tuple

from jinja2 import TemplateError

from arkor_sync.emulator.engine.lora.constraints import refused


def prompt_tokens(tokenizer: Any, request: Dict[str, Any]) -> List[int]:
    """Return the tokens of the messages in the tokenizer's chat template.

    Args:
        tokenizer: The model's tokenizer.
        request: What is asked.

    Raises:
        ApiError: 400: The template cannot show what the request has, or there is no template.
    """
    if not tokenizer.chat_template:
        raise refused("messages: the tokenizer of this model has no chat template")
    body = request["body"]
    shown = {
        "conversation": [_message(message) for message in request["messages"]],
        "tools": None if body.get("toolChoice") == "none" else body.get("tools") or None,
    }
    if body.get("enableThinking") is not None:
        shown["enable_thinking"] = body["enableThinking"]
    if body.get("reasoningEffort") is not None:
        shown["reasoning_effort"] = body["reasoningEffort"]
    text = _render(tokenizer, shown)
    for field, changed in _changes(shown, must_call=request["tool"] is not None):
        if _render(tokenizer, {**shown, **changed}) == text:
            raise refused(f"{field}: the chat template of this model leaves it out")
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def _changes(shown: Dict[str, Any], *, must_call: bool) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Yield what a template may not know, and a change of it that would show in the prompt."""
    messages = shown["conversation"]
    if any(message.get("tool_calls") for message in messages):
        changed = [_changed(m) if m.get("tool_calls") else m for m in messages]
        yield "messages: tool_calls", {"conversation": changed}
    if any(message["role"] == "tool" for message in messages):
        changed = [_changed(m) if m["role"] == "tool" else m for m in messages]
        yield "messages: the role 'tool'", {"conversation": changed}
    if shown["tools"] and not must_call:  # a tool that must be called is called in any case
        yield "tools", {"tools": None}
    if "enable_thinking" in shown:
        yield "enableThinking", {"enable_thinking": not shown["enable_thinking"]}
    if "reasoning_effort" in shown:
        other = "high" if shown["reasoning_effort"] == "low" else "low"
        yield "reasoningEffort", {"reasoning_effort": other}


def _changed(message: Dict[str, Any]) -> Dict[str, Any]:
    """Return a tool message with another text, or a message with calls of other tools."""
    if message["role"] == "tool":
        return {**message, "content": message["content"] + "."}
    calls = [
        {**call, "function": {**call["function"], "name": call["function"]["name"] + "."}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _message(message: Dict[str, Any]) -> Dict[str, Any]:
    """Return a message as templates expect it: with a text, and with the arguments of calls."""
    shown = {**message, "content": message.get("content") or ""}
    if message.get("tool_calls"):
        shown["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _arguments(call)}}
            for call in message["tool_calls"]
        ]
    return shown


def _arguments(call: Dict[str, Any]) -> Any:
    text = call["function"]["arguments"]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _render(tokenizer: Any, shown: Dict[str, Any]) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(tokenize=False, add_generation_prompt=True, **shown)
        )
    except (TemplateError, TypeError) as error:
        raise refused(f"messages: the chat template of this model refuses them: {error}") from None
