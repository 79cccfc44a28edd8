"""JSON objects as frozen dataclasses, decoded strictly. Pure.

`_common/camel_case.py` renames the keys and builds the objects, with dataclasses-json. That
converts values of a wrong type (`5` becomes `"5"`), so each value is compared with the type of its
field before.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from functools import cache
from typing import (
    Any,
    Dict,
    List,
    Literal,
    Tuple,
    Type,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from arkor_sync._common.arguments import show
from arkor_sync._common.camel_case import camel_case, decode, encode
from arkor_sync.errors import ResponseError

R = TypeVar("R", bound="Record")

_EXPECTED: Dict[Any, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
}


class Record:
    """Base of the dataclasses that come from JSON objects.

    Field names are in snake_case here and in camelCase on the wire. A field without a default is
    required. Keys without a field are kept in `extra`, and `to_dict` writes them again.
    """

    extra: Dict[str, Any]

    @classmethod
    def from_dict(cls: Type[R], data: Any, path: str = "") -> R:
        """Build the record from a decoded JSON value.

        Args:
            data: What `json.loads` returned.
            path: Where the value is in its document; error messages start with it.

        Raises:
            ResponseError: The value does not have the documented shape. The message names the
                field, what was expected and what was there.
        """
        rest = dict(checked(dict, data, path))
        values: Dict[str, Any] = {}
        for item, hint in _shape(cast(Any, cls)):
            name = camel_case(item.name)
            where = f"{path}.{name}" if path else name
            if name in rest:
                values[name] = checked(hint, rest.pop(name), where, secret=not item.repr)
            elif item.default is MISSING:
                raise ResponseError(f"{where}: expected {_expected(hint)}, got nothing")
        return cast(R, decode(cls, {**values, "extra": rest}))

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form: a new dictionary, in the order of the fields, `extra` last."""
        wire = encode(self)
        extra = wire.pop("extra")
        for item, _ in _shape(cast(Any, type(self))):
            value = getattr(self, item.name)
            if isinstance(value, Record):
                wire[camel_case(item.name)] = value.to_dict()
            elif isinstance(value, list) and value and isinstance(value[0], Record):
                wire[camel_case(item.name)] = [each.to_dict() for each in value]
        return {**wire, **extra}


@cache
def _shape(cls: Any) -> List[Tuple[Field[Any], Any]]:
    hints = get_type_hints(cls)
    return [(f, hints[f.name]) for f in fields(cast(Any, cls)) if f.name != "extra"]


def checked(hint: Any, value: Any, path: str, secret: bool = False) -> Any:
    """Check a decoded JSON value against a type, and build the records in it.

    Args:
        hint: The type, as a field's annotation gives it.
        value: What `json.loads` returned.
        path: Where the value is in its document; the error message starts with it.
        secret: Whether the message must not show the value.

    Raises:
        ResponseError: It is not of this type.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any or (origin is Union and value is None):
        return value
    if origin is Union:
        return checked(args[0], value, path, secret)
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_dict(value, path)
    kind = origin or hint
    if kind is Literal:
        fits = value in args
    elif kind in (int, float):
        fits = isinstance(value, (int, kind)) and not isinstance(value, bool)
    else:
        fits = isinstance(value, kind)
    if not fits:
        got = show(value, secret)
        raise ResponseError(f"{path or 'the answer'}: expected {_expected(hint)}, got {got}")
    if kind is list:
        return [checked(args[0], each, f"{path}[{i}]") for i, each in enumerate(value)]
    return value


def _expected(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Union:
        return f"{_expected(args[0])} or null"
    if origin is Literal:
        return " or ".join(repr(each) for each in args)
    if isinstance(hint, type) and issubclass(hint, Record):
        return "an object"
    return _EXPECTED.get(origin or hint, "a value")
