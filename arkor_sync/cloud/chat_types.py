"""The objects of a chat as type checkers and editors know them. Pure.

Each is a plain dictionary in the form in which it is sent: any mapping with these keys will do.
`chat_request.py` checks what is sent, and its errors name the field.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, Sequence, TypedDict, Union

from arkor_sync.cloud.training_data import Role


class FunctionCall(TypedDict):
    """Which function a model calls, and with what; `arguments` is a text that holds JSON."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A model's call of a tool. The answer to it is a message of the role `tool` with its id."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class _WithRole(TypedDict):
    role: Role


class ChatMessage(_WithRole, total=False):
    """A message of a conversation.

    `content` may be left out only by an assistant that has `tool_calls`. A message of the role
    `tool` has the `tool_call_id` of the call that it answers.
    """

    content: Optional[str]
    tool_calls: List[ToolCall]
    tool_call_id: str


class _WithName(TypedDict):
    name: str


class FunctionDefinition(_WithName, total=False):
    """A function that a model may call; `parameters` is the JSON schema of its arguments."""

    description: str
    parameters: Dict[str, Any]
    strict: bool


class ToolDefinition(TypedDict):
    """A tool that a model may call: one of the entries of `tools`."""

    type: Literal["function"]
    function: FunctionDefinition


class _WithNameAndSchema(_WithName):
    schema: Dict[str, Any]


class JsonSchema(_WithNameAndSchema, total=False):
    """A named JSON schema. With `strict`, each object in it must be closed and require all."""

    description: str
    strict: bool


class _PlainFormat(TypedDict):
    type: Literal["text", "json_object"]


class _SchemaFormat(TypedDict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Union[_PlainFormat, _SchemaFormat]
"""Plain text, a JSON object, or JSON of a schema: `response_format`."""


class _Modifiers(TypedDict, total=False):
    disable_any_whitespace: bool
    disable_additional_properties: bool
    whitespace_pattern: str


class _Json(_Modifiers):
    json: Dict[str, Any]


class _Regex(_Modifiers):
    regex: str


class _Choice(_Modifiers):
    choice: Sequence[str]


class _Grammar(_Modifiers):
    grammar: str


class _JsonObject(_Modifiers):
    json_object: Literal[True]


StructuredOutputs = Union[_Json, _Regex, _Choice, _Grammar, _JsonObject]
"""Exactly one constraint of an answer, and modifiers: `structured_outputs`."""


class Usage(TypedDict):
    """How many tokens a request took; a server may say more."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
