"""What the cloud accepts in `POST /v1/inference/chat`. Pure."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

from arkor_sync.emulator.engine.base import ChatRequest
from arkor_sync.emulator.http.messages import ApiError, is_integer, is_number

# A longer answer is cut off, as by the context of a real model, and its finish reason says so.
MAX_TOKENS = 131_072

REASONING_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def check_chat(body: Dict[str, Any], *, tool_calling: bool) -> ChatRequest:
    """Check the body of a chat request, except `adapter` and `baseModel`.

    Args:
        body: The JSON body.
        tool_calling: Whether the tool choice `auto` is supported.

    Raises:
        ApiError: 400, with the name of the field that is wrong.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages", "expected a non-empty list")
    for index, message in enumerate(messages):
        _check_message(f"messages[{index}]", message)
    for name, (fits, wanted) in _FIELDS.items():
        if body.get(name) is not None and not fits(body[name]):
            raise _invalid(name, f"expected {wanted}")
    if body.get("topLogprobs") and body.get("logprobs") is not True:
        raise _invalid("topLogprobs", "needs logprobs: true")
    seed, temperature = body.get("seed"), body.get("temperature")
    return ChatRequest(
        messages=messages,
        temperature=temperature,
        top_p=1.0 if body.get("topP") is None else body["topP"],
        max_tokens=min(256 if body.get("maxTokens") is None else body["maxTokens"], MAX_TOKENS),
        seed=None if seed is None else int(seed),
        constraint=_constraint(body),
        tool=_tool(body, tool_calling=tool_calling),
        body=body,
    )


def _check_message(where: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise _invalid(where, "expected an object")
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant", "tool"):
        raise _invalid(f"{where}.role", "expected 'system', 'user', 'assistant' or 'tool'")
    calls = message.get("tool_calls")
    if calls is not None:
        _check_tool_calls(f"{where}.tool_calls", role, calls)
    if not isinstance(content, str) and not (role == "assistant" and content is None and calls):
        raise _invalid(f"{where}.content", "expected a string")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise _invalid(f"{where}.tool_call_id", "expected a string")


def _check_tool_calls(where: str, role: str, calls: Any) -> None:
    if role != "assistant" or not isinstance(calls, list):
        raise _invalid(where, "expected a list, on an assistant message")
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if (
            not isinstance(function, dict)
            or call.get("type") != "function"
            or not all(
                isinstance(value, str)
                for value in (call.get("id"), function.get("name"), function.get("arguments"))
            )
        ):
            raise _invalid(where, "expected {id, type: 'function', function: {name, arguments}}")


def _tool(body: Dict[str, Any], *, tool_calling: bool) -> Optional[Tuple[str, Dict[str, Any]]]:
    """Return the tool that must be called, if any."""
    tools, choice = body.get("tools"), body.get("toolChoice")
    schemas: Dict[str, Dict[str, Any]] = {}
    for tool in tools or []:
        function = tool.get("function") if isinstance(tool, dict) else None
        if (
            not isinstance(function, dict)
            or tool.get("type") != "function"
            or not isinstance(function.get("name"), str)
            or not isinstance(function.get("parameters") or {}, dict)
        ):
            raise _invalid("tools", "expected {type: 'function', function: {name, parameters}}")
        if function.get("strict") is True:
            _check_strict("tools", function.get("parameters") or {})
        schemas[function["name"]] = function.get("parameters") or {"type": "object"}
    if choice in (None, "auto"):
        if schemas and not tool_calling:
            raise ApiError(
                400,
                "tool_calling_not_configured: automatic tool choice is not set up here",
                "tool_calling_not_configured",
            )
        return None
    if choice == "none":
        return None
    name = None
    if isinstance(choice, dict) and choice.get("type") == "function":
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
    elif choice == "required":
        name = next(iter(schemas), None)
    else:
        raise _invalid("toolChoice", "expected 'auto', 'none', 'required' or a function")
    if not isinstance(name, str) or name not in schemas:
        raise _invalid("toolChoice", "names no tool of this request")
    return name, schemas[name]


def _constraint(body: Dict[str, Any]) -> Optional[Tuple[str, Any]]:
    """Return the constraint of `structuredOutputs` or `responseFormat`, if any."""
    from_format = _response_format(body.get("responseFormat"))
    options = body.get("structuredOutputs")
    if options is None:
        return from_format
    if not isinstance(options, dict):
        raise _invalid("structuredOutputs", "expected an object")
    for key, (fits, wanted) in _MODIFIERS.items():
        if key in options and not fits(options[key]):
            raise _invalid(f"structuredOutputs.{key}", f"expected {wanted}")
    unknown = sorted(set(options) - set(_CONSTRAINTS) - set(_MODIFIERS))
    if unknown:
        raise _invalid(f"structuredOutputs.{unknown[0]}", "is not supported")
    given = [key for key in _CONSTRAINTS if key in options]
    if len(given) != 1:
        raise _invalid("structuredOutputs", f"needs exactly one of {', '.join(_CONSTRAINTS)}")
    if from_format:
        raise _invalid("structuredOutputs", "cannot be combined with a JSON responseFormat")
    key = given[0]
    fits, wanted = _CONSTRAINTS[key]
    if not fits(options[key]):
        raise _invalid(f"structuredOutputs.{key}", f"expected {wanted}")
    return ("json", {}) if key == "json_object" else (key, options[key])


def _response_format(value: Any) -> Optional[Tuple[str, Any]]:
    if value is None or (isinstance(value, dict) and value.get("type") == "text"):
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "json_object":
        return "json", {}
    if kind != "json_schema":
        raise _invalid("responseFormat.type", "expected 'text', 'json_object' or 'json_schema'")
    wrapper = value.get("json_schema")
    if (
        not isinstance(wrapper, dict)
        or not _is_text(wrapper.get("name"))
        or not isinstance(wrapper.get("schema"), dict)
    ):
        raise _invalid("responseFormat.json_schema", "expected a name and a schema")
    if wrapper.get("strict") is True:
        _check_strict("responseFormat.json_schema.schema", wrapper["schema"])
    return "json", wrapper["schema"]


def _check_strict(where: str, schema: Any) -> None:
    """Check that every object schema forbids other properties and requires all its own."""
    if isinstance(schema, list):
        for index, part in enumerate(schema):
            _check_strict(f"{where}[{index}]", part)
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        names = set(properties) if isinstance(properties, dict) else set()
        closed = schema.get("additionalProperties") is False
        required = schema.get("required")
        listed = required if isinstance(required, list) else []
        if not closed or names - {name for name in listed if isinstance(name, str)}:
            raise ApiError(
                400,
                f"invalid_schema: {where}: a strict object needs additionalProperties: false "
                "and every property in required",
                "invalid_schema",
            )
    for key, part in schema.items():
        if key in ("properties", "$defs", "definitions") and isinstance(part, dict):
            for name, nested in part.items():
                _check_strict(f"{where}.{name}", nested)
        elif key in ("items", "prefixItems", "anyOf", "oneOf", "allOf", "not"):
            _check_strict(f"{where}.{key}", part)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: is_number(value) and low <= value <= high


def _is_stop(value: Any) -> bool:
    stops: List[Any] = value if isinstance(value, list) else [value]
    return len(stops) <= 16 and all(isinstance(stop, str) and stop for stop in stops)


_Check = Tuple[Callable[[Any], bool], str]

_FIELDS: Dict[str, _Check] = {
    "temperature": (_between(0, 2), "a number from 0 to 2"),
    "topP": (_between(0, 1), "a number from 0 to 1"),
    "maxTokens": (lambda v: is_integer(v) and v > 0, "a whole number above 0"),
    "stream": (lambda v: isinstance(v, bool), "a boolean"),
    "tools": (lambda v: isinstance(v, list), "a list"),
    "stop": (_is_stop, "a string, or a list of at most 16, none of them empty"),
    "presencePenalty": (_between(-2, 2), "a number from -2 to 2"),
    "frequencyPenalty": (_between(-2, 2), "a number from -2 to 2"),
    "seed": (is_number, "a number"),
    "logprobs": (lambda v: isinstance(v, bool), "a boolean"),
    "topLogprobs": (lambda v: is_integer(v) and 0 <= v <= 20, "a whole number from 0 to 20"),
    "logitBias": (
        lambda v: isinstance(v, dict) and all(_between(-100, 100)(bias) for bias in v.values()),
        "an object of numbers from -100 to 100",
    ),
    "streamOptions": (
        lambda v: isinstance(v, dict) and isinstance(v.get("includeUsage", False), bool),
        "an object with a boolean 'includeUsage'",
    ),
    "enableThinking": (lambda v: isinstance(v, bool), "a boolean"),
    "reasoningEffort": (lambda v: v in REASONING_EFFORTS, " or ".join(REASONING_EFFORTS)),
}

_CONSTRAINTS: Dict[str, _Check] = {
    "json": (lambda v: isinstance(v, dict), "an object"),
    "regex": (_is_text, "a text that is not blank"),
    "choice": (
        lambda v: isinstance(v, list) and bool(v) and all(isinstance(c, str) and c for c in v),
        "a list of at least one text",
    ),
    "grammar": (_is_text, "a text that is not blank"),
    "json_object": (lambda v: v is True, "true"),
}

_MODIFIERS: Dict[str, _Check] = {
    "disable_any_whitespace": (lambda v: isinstance(v, bool), "a boolean"),
    "disable_additional_properties": (lambda v: isinstance(v, bool), "a boolean"),
    "whitespace_pattern": (_is_text, "a text that is not blank"),
}


def _invalid(where: str, problem: str) -> ApiError:
    return ApiError(400, f"{where}: {problem}", "validation_error")
