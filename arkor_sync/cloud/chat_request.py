"""The bodies of chat requests, and the checks before they are sent. Pure.

There are two forms: that of the cloud, in camelCase, and that of OpenAI-compatible servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Union

from arkor_sync._common.arguments import check, did_you_mean, refusal
from arkor_sync._common.json import json_copy
from arkor_sync.cloud.job_config import merge_extra
from arkor_sync.cloud.training_data import ROLES, Messages, Prompt

if TYPE_CHECKING:
    from arkor_sync.cloud.chat_types import ResponseFormat, StructuredOutputs, ToolDefinition
    from arkor_sync.cloud.models import TrainingJob

_FORMATS = ("text", "json_object", "json_schema")
_CHOICES = ("auto", "none", "required")
_CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object")
_MODIFIERS = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern")


def adapter_of(job: Union[TrainingJob, str], step: Optional[int] = None) -> Dict[str, Any]:
    """Return what a job trained, in the form that the chat route takes (`adapter`).

    Args:
        job: The job, or its id.
        step: The step of a checkpoint; None for the final model.

    Raises:
        ArkorUsageError: An argument cannot work.
    """
    job_id = getattr(job, "id", job)
    check("job", job, isinstance(job_id, str) and bool(job_id), "a TrainingJob or the id of a job")
    if step is None:
        return {"kind": "final", "jobId": job_id}
    check("step", step, type(step) is int, "the step of a checkpoint, a whole number")
    return {"kind": "checkpoint", "jobId": job_id, "step": step}


def as_messages(prompt: Prompt) -> Messages:
    """Return messages as they are, and a text as a message of the user."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def build_chat_body(
    messages: Prompt,
    *,
    job: Union[TrainingJob, str, None] = None,
    step: Optional[int] = None,
    adapter: Optional[Mapping[str, Any]] = None,
    base_model: Optional[str] = None,
    stream: bool = True,
    temperature: Optional[float] = None,
    top_p: Optional[float] = None,
    max_tokens: Optional[int] = None,
    tools: Optional[Sequence[Union[ToolDefinition, Mapping[str, Any]]]] = None,
    tool_choice: Union[str, Mapping[str, Any], None] = None,
    response_format: Union[ResponseFormat, Mapping[str, Any], None] = None,
    structured_outputs: Union[StructuredOutputs, Mapping[str, Any], None] = None,
    extra: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Build the body of `POST /v1/inference/chat`; the arguments are those of `client.chat`.

    Returns:
        A new dictionary in wire form. Arguments that are `None` are left out.

    Raises:
        ArkorUsageError: The request cannot work.
    """
    messages = checked_messages(messages, ROLES)
    _check_target(job, step, adapter, base_model)
    if job is not None:
        adapter = adapter_of(job, step)
    check_tools(tools, tool_choice)
    _check_form(response_format, structured_outputs)
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
    return _copied(body, extra)


def build_completion_body(
    messages: Prompt,
    *,
    model: Optional[str] = None,
    stream: bool = True,
    extra: Optional[Mapping[str, Any]] = None,
    **options: Any,
) -> Dict[str, Any]:
    """Build the body of `POST /chat/completions`; the arguments are those of `ChatEndpoint.chat`.

    Other servers know more roles, and contents that are lists of parts: they are not refused.

    Returns:
        A new dictionary in wire form. Arguments that are `None` are left out.

    Raises:
        ArkorUsageError: The request cannot work.
    """
    messages = checked_messages(messages)
    check("model", model, model is None or _is_text(model), "the name of a model")
    check_tools(options.get("tools"), options.get("tool_choice"))
    _check_form(options.get("response_format"), options.get("structured_outputs"))
    return _copied({"messages": messages, "model": model, "stream": stream, **options}, extra)


def _copied(body: Dict[str, Any], extra: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    given = {key: value for key, value in body.items() if value is not None}
    chat_body: Dict[str, Any] = json_copy(merge_extra(given, extra, body.keys()), "the request")
    return chat_body


def checked_messages(prompt: Prompt, roles: Optional[Sequence[str]] = None) -> Messages:
    """Return messages, also for a text; `roles` are all that the server knows, or None for any.

    Raises:
        ArkorUsageError: They cannot work.
    """
    is_list = isinstance(prompt, Sequence) and not isinstance(prompt, (bytes, Mapping))
    wanted = "a text such as 'Hello', or a list such as [{'role': 'user', 'content': 'Hello'}]"
    check("messages", prompt, is_list and bool(prompt), wanted)
    messages = as_messages(prompt)
    for index, message in enumerate(messages):
        _check_message(f"messages[{index}]", message, roles)
    return messages


def _check_message(name: str, message: Any, roles: Optional[Sequence[str]]) -> None:
    check(name, message, isinstance(message, Mapping), "an object with a role")
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    fits = _is_text(role) if roles is None else role in roles
    check(f"{name}.role", role, fits, f"one of {', '.join(ROLES)}")
    if content is None and role == "assistant":
        if not calls:
            got = "an assistant's message without content and tool_calls"
            raise refusal(name, message, "one of the two", got=got)
    else:
        fits = isinstance(content, str) or (roles is None and isinstance(content, (list, tuple)))
        check(f"{name}.content", content, fits, "a string")
    if role == "tool":
        call_id = message.get("tool_call_id")
        wanted = "the id of the call that it answers"
        check(f"{name}.tool_call_id", call_id, isinstance(call_id, str), wanted)


def _check_target(job: Any, step: Any, adapter: Any, base_model: Any) -> None:
    targets = {"job": job, "adapter": adapter, "base_model": base_model}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none of them"
        raise refusal(", ".join(targets), None, "exactly one of them", got=got)
    if step is not None and job is None:
        raise refusal("step", step, "the job of the checkpoint too: job='...'")
    if adapter is None:
        return
    is_job = isinstance(adapter, Mapping) and isinstance(adapter.get("jobId"), str)
    kind = adapter.get("kind") if is_job else None
    fits = kind == "final" or (kind == "checkpoint" and isinstance(adapter.get("step"), int))
    wanted = "{'kind': 'final', 'jobId': ...} or {'kind': 'checkpoint', 'jobId': ..., 'step': ...}"
    check("adapter", adapter, fits, wanted)


def check_tools(tools: Any, tool_choice: Any = None) -> None:
    """Check `tools` and `tool_choice`.

    Raises:
        ArkorUsageError: They cannot work.
    """
    form = "{'type': 'function', 'function': {'name': ..., 'parameters': {...}}}"
    if tools is not None:
        is_list = isinstance(tools, Sequence) and not isinstance(tools, (str, bytes))
        check("tools", tools, is_list, f"a list of tools: {form}")
    for index, tool in enumerate(tools or ()):
        fits = isinstance(tool, Mapping) and isinstance(tool.get("type"), str)
        fits = fits and (tool["type"] != "function" or _is_text(name_of_tool(tool)))
        check(f"tools[{index}]", tool, fits, form)
    if isinstance(tool_choice, Mapping):
        kind = tool_choice.get("type")
        fits = kind is not None and (kind != "function" or _is_text(name_of_tool(tool_choice)))
    else:
        fits = tool_choice is None or tool_choice in _CHOICES
    named = "{'type': 'function', 'function': {'name': ...}}"
    check("tool_choice", tool_choice, fits, f"{', '.join(map(repr, _CHOICES))} or {named}")


def name_of_tool(tool: Mapping[str, Any]) -> Any:
    """Return the name of a tool's function, or of a call's; None if it has none."""
    function = tool.get("function")
    return function.get("name") if isinstance(function, Mapping) else None


def _check_form(response_format: Any, constraint: Any) -> None:
    """Check in which form the answer is asked for."""
    if constraint is not None:
        _check_constraint(constraint, response_format)
    if response_format is not None:
        _check_response_format("response_format", response_format)


def _check_response_format(name: str, value: Any) -> None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    # A server may know more types than these, but none whose name is nearly one of them.
    meant = "" if kind in _FORMATS else did_you_mean(kind, _FORMATS)
    wanted = f"an object whose type is one of {', '.join(_FORMATS)}{meant}"
    check(name, value, isinstance(kind, str) and not meant, wanted)
    if kind == "json_schema":
        schema = value.get("json_schema")
        is_named = isinstance(schema, Mapping) and _is_text(schema.get("name"))
        wanted = "{'name': ..., 'schema': {...}}: the schema and a name for it"
        fits = is_named and isinstance(schema.get("schema"), Mapping)
        check(f"{name}.json_schema", schema, fits, wanted)


def _check_constraint(constraint: Any, response_format: Any) -> None:
    name = "structured_outputs"
    check(name, constraint, isinstance(constraint, Mapping), "an object")
    unknown = sorted(map(str, set(constraint) - {*_CONSTRAINTS, *_MODIFIERS}))
    if unknown:
        wanted = (
            f"one of the constraints {', '.join(_CONSTRAINTS)}, and any of the modifiers "
            f"{', '.join(_MODIFIERS)}"
        )
        got = f"{', '.join(unknown)}, which the cloud does not know"
        raise refusal(name, constraint, wanted, got=got)
    given = [key for key in _CONSTRAINTS if constraint.get(key) is not None]
    if len(given) != 1:
        wanted = f"exactly one of {', '.join(_CONSTRAINTS)}"
        raise refusal(name, constraint, wanted, got=", ".join(given) or "none")
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind in ("json_object", "json_schema"):
        got = f"the type {kind} together with structured_outputs"
        raise refusal("response_format", response_format, "one of the two", got=got)
    for key, value in constraint.items():
        _check_constraint_value(f"{name}.{key}", key, value)


def _check_constraint_value(name: str, key: str, value: Any) -> None:
    if key == "json":
        fits, wanted = isinstance(value, Mapping), "a JSON schema as an object"
    elif key == "json_object":
        fits, wanted = value is True, "True, or leave it out"
    elif key == "choice":
        is_list = isinstance(value, (list, tuple)) and bool(value)
        fits = is_list and all(map(_is_text, value))
        wanted = "a list of strings, none of them blank"
    elif key in ("regex", "grammar", "whitespace_pattern"):
        fits, wanted = _is_text(value), "a string that is not blank"
    else:
        fits, wanted = isinstance(value, bool), "True or False"
    check(name, value, fits or value is None, wanted)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
