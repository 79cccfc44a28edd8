"""The body of a chat request, and the checks before it is sent. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Union

from arkor_sync._common.arguments import check, refusal
from arkor_sync._common.json import json_copy
from arkor_sync.cloud.job_config import merge_extra
from arkor_sync.cloud.training_data import ROLES, Messages, Prompt

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob

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
    tools: Optional[Sequence[Mapping[str, Any]]] = None,
    tool_choice: Union[str, Mapping[str, Any], None] = None,
    response_format: Optional[Mapping[str, Any]] = None,
    structured_outputs: Optional[Mapping[str, Any]] = None,
    extra: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Build the body of `POST /v1/inference/chat`; the arguments are those of `client.chat`.

    Returns:
        A new dictionary in wire form. Arguments that are `None` are left out.

    Raises:
        ArkorUsageError: The request cannot work.
    """
    is_list = isinstance(messages, Sequence) and not isinstance(messages, (bytes, Mapping))
    wanted = "a text such as 'Hello', or a list such as [{'role': 'user', 'content': 'Hello'}]"
    check("messages", messages, is_list and bool(messages), wanted)
    messages = as_messages(messages)
    for index, message in enumerate(messages):
        _check_message(f"messages[{index}]", message)
    _check_target(job, step, adapter, base_model)
    if job is not None:
        adapter = adapter_of(job, step)
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
    check(name, message, isinstance(message, Mapping), "an object with a role")
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    check(f"{name}.role", role, role in ROLES, f"one of {', '.join(ROLES)}")
    if content is None and role == "assistant":
        if not calls:
            got = "an assistant's message without content and tool_calls"
            raise refusal(name, message, "one of the two", got=got)
    else:
        check(f"{name}.content", content, isinstance(content, str), "a string")
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
