"""The body of a chat request, with the rules that can be checked before it is sent. Pure."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence, Union

from arkor_sync._common.arguments import show
from arkor_sync._common.json import json_copy
from arkor_sync.cloud.job_config import merge_extra
from arkor_sync.errors import ArkorUsageError

_ROLES = ("system", "user", "assistant", "tool")
_CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object")
_MODIFIERS = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern")


def build_chat_body(
    messages: Sequence[Mapping[str, Any]],
    *,
    adapter: Optional[Mapping[str, Any]] = None,
    base_model: Optional[str] = None,
    stream: bool = True,
    temperature: Optional[float] = None,
    top_p: Optional[float] = None,
    max_tokens: Optional[int] = None,
    tools: Optional[Sequence[Mapping[str, Any]]] = None,
    tool_choice: Union[str, Mapping[str, Any], None] = None,
    response_format: Optional[Mapping[str, Any]] = None,
    structured_outputs: Optional[Mapping[str, Any]] = None,
    extra: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Build the body of `POST /v1/inference/chat`; the arguments are those of `client.chat`.

    Returns:
        A new dictionary in wire form. What is `None` is left out.

    Raises:
        ArkorUsageError: The request cannot work.
    """
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise ArkorUsageError(
            f"messages: got {show(messages)}; give a list such as "
            "[{'role': 'user', 'content': 'Hello'}]"
        )
    for index, message in enumerate(messages):
        _check_message(f"messages[{index}]", message)
    _check_target(adapter, base_model)
    if structured_outputs is not None:
        _check_constraint(structured_outputs, response_format)
    body = {
        "messages": messages,
        "adapter": adapter and dict(adapter),
        "baseModel": base_model,
        "stream": stream,
        "temperature": temperature,
        "topP": top_p,
        "maxTokens": max_tokens,
        "tools": tools,
        "toolChoice": tool_choice,
        "responseFormat": response_format,
        "structuredOutputs": structured_outputs,
    }
    given = {key: value for key, value in body.items() if value is not None}
    chat_body: Dict[str, Any] = json_copy(merge_extra(given, extra, body.keys()), "the request")
    return chat_body


def _check_message(name: str, message: Any) -> None:
    if not isinstance(message, Mapping):
        raise ArkorUsageError(f"{name}: got {show(message)}; give an object with a role")
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    if role not in _ROLES:
        raise ArkorUsageError(f"{name}.role: got {show(role)}; give one of {', '.join(_ROLES)}")
    if content is None and role == "assistant":
        if not calls:
            raise ArkorUsageError(f"{name}: an assistant's message needs content or tool_calls")
    elif not isinstance(content, str):
        raise ArkorUsageError(f"{name}.content: got {show(content)}; give a string")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise ArkorUsageError(f"{name}.tool_call_id: give the id of the call that it answers")


def _check_target(adapter: Any, base_model: Any) -> None:
    if (adapter is None) == (base_model is None):
        raise ArkorUsageError("give either an adapter or a base_model to chat with")
    if adapter is None:
        return
    fits = isinstance(adapter, Mapping) and isinstance(adapter.get("jobId"), str)
    kind = adapter.get("kind") if fits else None
    if kind != "final" and not (kind == "checkpoint" and isinstance(adapter.get("step"), int)):
        raise ArkorUsageError(
            "adapter: give {'kind': 'final', 'jobId': ...} or {'kind': 'checkpoint', 'jobId': ..., "
            "'step': ...}"
        )


def _check_constraint(constraint: Any, response_format: Any) -> None:
    name = "structured_outputs"
    if not isinstance(constraint, Mapping):
        raise ArkorUsageError(f"{name}: got {show(constraint)}; give an object")
    unknown = sorted(set(constraint) - {*_CONSTRAINTS, *_MODIFIERS}, key=str)
    if unknown:
        raise ArkorUsageError(
            f"{name}: {', '.join(map(str, unknown))} cannot be given; there are the constraints "
            f"{', '.join(_CONSTRAINTS)} and the modifiers {', '.join(_MODIFIERS)}"
        )
    given = [key for key in _CONSTRAINTS if constraint.get(key) is not None]
    if len(given) != 1:
        listed = ", ".join(given) or "none"
        raise ArkorUsageError(
            f"{name}: got {listed}; give exactly one of {', '.join(_CONSTRAINTS)}"
        )
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind in ("json_object", "json_schema"):
        raise ArkorUsageError(f"{name} and a response_format of type {kind} exclude each other")
    for key, value in constraint.items():
        _check_constraint_value(f"{name}.{key}", key, value)


def _check_constraint_value(name: str, key: str, value: Any) -> None:
    if key == "json":
        fits, wanted = isinstance(value, Mapping), "a JSON schema as an object"
    elif key == "json_object":
        fits, wanted = value is True, "True, or leave it out"
    elif key == "choice":
        many = isinstance(value, (list, tuple)) and bool(value)
        fits, wanted = many and all(map(_is_text, value)), "a list of strings, none of them blank"
    elif key in ("regex", "grammar", "whitespace_pattern"):
        fits, wanted = _is_text(value), "a string that is not blank"
    else:
        fits, wanted = isinstance(value, bool), "True or False"
    if value is not None and not fits:
        raise ArkorUsageError(f"{name}: got {show(value)}; give {wanted}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
