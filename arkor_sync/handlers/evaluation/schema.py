"""Structured answers: a JSON schema from a dataclass, and an instance from an answer. Pure."""

from __future__ import annotations

import dataclasses
import enum
import re
import types
from functools import partial
from typing import (
    Any,
    Callable,
    Dict,
    List,
    Literal,
    Mapping,
    Sequence,
    Tuple,
    Type,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from arkor_sync._common.arguments import show
from arkor_sync._common.json import json_copy
from arkor_sync.errors import ArkorUsageError, ResponseError

_UNIONS = (Union, getattr(types, "UnionType", Union))
_SIMPLE: Dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def answer_format(schema: Any) -> Tuple[Dict[str, Any], Callable[[Any], Any]]:
    """Return the `response_format` of a chat request, and a function that converts its answer.

    Args:
        schema: A JSON schema, whose answers are not converted; or a dataclass, whose answers
            become instances of it. For a dataclass the cloud is asked for strict answers.

    Raises:
        ArkorUsageError: It is neither, or the type of a field has no JSON schema.
    """
    if isinstance(schema, type) and dataclasses.is_dataclass(schema):
        name, strict = _schema_name(schema.__name__), schema_of(schema)
        wrapper = {"name": name, "strict": True, "schema": strict}
        return {"type": "json_schema", "json_schema": wrapper}, partial(build_value, schema)
    if not isinstance(schema, Mapping):
        raise ArkorUsageError(
            f"schema: got {show(schema)}; give a JSON schema as an object, or a dataclass"
        )
    name = _schema_name(str(schema.get("title") or "answer"))
    wrapper = {"name": name, "schema": json_copy(schema, "schema")}
    return {"type": "json_schema", "json_schema": wrapper}, _unchanged


def _unchanged(value: Any) -> Any:
    return value


def schema_of(hint: Any, path: str = "schema", inside: Tuple[Any, ...] = ()) -> Dict[str, Any]:
    """Return the strict JSON schema of a type.

    Args:
        hint: A dataclass, `str`, `int`, `float`, `bool`, `None`, an `Enum`, a `Literal`, a `List`,
            or an `Optional` or `Union` of these.
        path: The place of the type in the schema, for the error message.
        inside: The dataclasses that contain it.

    Raises:
        ArkorUsageError: It is none of these types.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if origin in _UNIONS:
        return {"anyOf": [schema_of(each, path, inside) for each in args]}
    if origin is Literal and _are_simple(args):
        return {"enum": list(args)}
    if origin is list and args:
        return {"type": "array", "items": schema_of(args[0], f"{path}[]", inside)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [each.value for each in hint]
        if _are_simple(values):
            return {"enum": values}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint not in inside:
        hints = _hints(hint)
        properties = {
            name: schema_of(each, f"{path}.{name}", (*inside, hint)) for name, each in hints.items()
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    raise ArkorUsageError(
        f"{path}: got {hint!r:.80}, which has no strict JSON schema; give str, int, float, bool, "
        "None, Optional, Union, List, Literal or Enum of such values, or a dataclass that does not "
        "contain itself"
    )


def build_value(hint: Any, value: Any, path: str = "") -> Any:
    """Convert a JSON value to a type for which `schema_of` has a schema.

    Raises:
        ResponseError: The value does not fit the type.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is float and type(value) is int:
        return float(value)
    if hint in _SIMPLE and type(value) is hint:
        return value
    if origin in _UNIONS:
        for each in args:
            try:
                return build_value(each, value, path)
            except ResponseError:
                continue
    elif origin is Literal:
        if any(value == each and type(value) is type(each) for each in args):
            return value
    elif origin is list:
        if type(value) is list:
            return [build_value(args[0], each, f"{path}[{i}]") for i, each in enumerate(value)]
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        for member in hint:
            if member.value == value and type(member.value) is type(value):
                return member
    elif dataclasses.is_dataclass(hint) and type(value) is dict:
        cls: Any = hint
        hints = _hints(cls)
        wrong = sorted(set(hints) ^ set(value))
        if wrong:
            problem = "is missing" if wrong[0] in hints else "is not a field"
            raise ResponseError(f"{_join(path, wrong[0])}: {problem}")
        return cls(
            **{
                name: build_value(each, value[name], _join(path, name))
                for name, each in hints.items()
            }
        )
    raise ResponseError(f"{path or 'the answer'}: expected {_expected(hint)}, got {show(value)}")


def _schema_name(text: str) -> str:
    """Replace the characters that the cloud does not accept in the name of a schema."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:64]


def _are_simple(values: Sequence[Any]) -> bool:
    return bool(values) and all(type(value) in _SIMPLE for value in values)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _expected(hint: Any) -> str:
    schema = schema_of(hint)
    if "anyOf" in schema:
        return " or ".join(map(_expected, get_args(hint)))
    if "enum" in schema:
        return " or ".join(map(repr, schema["enum"]))
    return str(schema["type"])


def _hints(cls: Type[Any]) -> Dict[str, Any]:
    """Return the types of the fields that a dataclass takes as arguments."""
    names: List[str] = [item.name for item in dataclasses.fields(cls) if item.init]
    try:
        hints = get_type_hints(cls)
    except (NameError, TypeError) as error:
        raise ArkorUsageError(
            f"schema: got {cls.__name__}, whose annotations cannot be read ({error}); give a "
            "dataclass whose annotations name types that can be imported"
        ) from error
    return {name: hints[name] for name in names}
