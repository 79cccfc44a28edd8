"""JSON objects as frozen dataclasses, decoded strictly. Pure.

`_common/camel_case.py` renames the keys and builds the objects, with dataclasses-json. That does
not refuse values of a wrong type, so each value is compared with the type of its field before.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from typing import (
    Any,
    Dict,
    FrozenSet,
    List,
    Literal,
    NamedTuple,
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
        values: Dict[str, Any] = {"extra": rest}
        for item in _shape(cast(Any, cls)):
            name = item.on_the_wire
            if name in rest:
                value = values[name] = rest.pop(name)
                if type(value) not in item.exact:
                    where = f"{path}.{name}" if path else name
                    values[name] = checked(item.hint, value, where, item.secret)
            elif item.required:
                where = f"{path}.{name}" if path else name
                raise ResponseError(f"{where}: expected {_expected(item.hint)}, got nothing")
        return cast(R, decode(cls, values))

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form: a new dictionary, in the order of the fields, `extra` last."""
        wire = encode(self)
        extra = wire.pop("extra")
        for item in _shape(cast(Any, type(self))):
            value = getattr(self, item.name)
            if isinstance(value, Record):
                wire[item.on_the_wire] = value.to_dict()
            elif isinstance(value, list) and value and isinstance(value[0], Record):
                wire[item.on_the_wire] = [each.to_dict() for each in value]
        return {**wire, **extra}


class _Item(NamedTuple):
    """What is known of a field; `exact` are the types whose values need no further check."""

    name: str
    on_the_wire: str
    hint: Any
    exact: FrozenSet[type]
    required: bool
    secret: bool


@cache
def _shape(cls: Any) -> List[_Item]:
    hints = get_type_hints(cls)
    return [
        _Item(
            item.name,
            camel_case(item.name),
            hints[item.name],
            _exact(hints[item.name]),
            required=item.default is MISSING,
            secret=not item.repr,
        )
        for item in fields(cls)
        if item.name != "extra"
    ]


def _exact(hint: Any) -> FrozenSet[type]:
    origin = get_origin(hint)
    if origin is Union:
        return _exact(get_args(hint)[0]) | {type(None)}
    kind = origin or hint
    return frozenset([kind] if kind in (str, bool, int, float, dict) else [])


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
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_dict(value, path)
    if hint is Any or hint is type(value):
        return value
    origin, args = get_origin(hint), get_args(hint)
    if origin is Union and value is None:
        return value
    if origin is Union:
        return checked(args[0], value, path, secret)
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
