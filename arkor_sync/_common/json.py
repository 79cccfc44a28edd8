"""JSON as the cloud and the TypeScript command line mean it. Pure.

`json` of the standard library decides what JSON is and what a document means. Where orjson is
installed (the extra `speed`) and means the same, it does the work, because it takes a third of the
time.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any, Iterable, Mapping, NoReturn, Union

from arkor_sync.errors import ArkorUsageError

try:
    _orjson: Any = import_module("orjson")
except ImportError:
    _orjson = None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)

# Levels of nesting. `json` gives up at about 1,000 on Python 3.9 to 3.11, and counts the functions
# that led to it as well.
_DEEPEST = 800
# Turns every digit into a zero, and all that may stand before a number into a colon.
_SHAPES = bytes(
    ord("0") if char in b"0123456789" else ord(":") if char in b":,[- \t\n\r" else ord("x")
    for char in range(256)
)
_LONG_INTEGER = b":" + b"0" * 19  # shorter ones fit into 64 bits


def parse_json(document: Union[str, bytes]) -> Any:
    """Decode strictly: `NaN` and `Infinity` are refused.

    Bytes are UTF-8. A byte order mark before them is ignored, as fetch() does it (RFC 8259, section
    8.1, leaves that to the reader).

    Raises:
        ValueError: It is not JSON.
    """
    return decode_json(document.decode("utf-8-sig") if isinstance(document, bytes) else document)


def decode_json(text: str) -> Any:
    """Decode strictly: `NaN` and `Infinity` are refused.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        if _orjson is not None:
            encoded = text.encode()
            if _means_the_same(text, encoded):
                return _orjson.loads(encoded)
    except ValueError:
        pass  # orjson also refuses what `json` accepts: 1e400, and half of a surrogate pair
    try:
        try:
            value, end = _DECODER.raw_decode(text)
        except ValueError:
            end = -1
        # `decode` looks for whitespace around the value, which there hardly ever is.
        return value if end == len(text) else _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _means_the_same(text: str, encoded: bytes) -> bool:
    """Tell whether orjson decodes a document as `json` does, if it accepts it.

    There are two differences. orjson makes a float of an integer that needs more than 64 bits. And
    it follows 1,024 levels of nesting, where `json` may follow fewer.
    """
    if text[:1] not in ("{", "["):
        return False
    if len(text) > _DEEPEST and _most_levels(text) > _DEEPEST:
        return False
    return _LONG_INTEGER not in encoded.translate(_SHAPES)


def _most_levels(text: str) -> int:
    """Return how many levels a document has at most."""
    arrays = 1 if text.find("[", 1) < 0 else text.count("[")  # `find` is much faster than `count`
    levels = arrays + text.count("{")
    if levels > _DEEPEST:
        # An object after a comma is an element of an array, so no more of these objects can be
        # inside each other than there are arrays.
        levels += arrays - text.count(",\n{")
    return levels


def dump_json(value: Any) -> str:
    """Format for a file: two spaces, and no escapes beyond those that JSON asks for."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def json_copy(value: Any, name: str) -> Any:
    """Copy a value as JSON would carry it.

    Raises:
        ArkorUsageError: JSON cannot carry it.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        where = _place_of(value)
        raise ArkorUsageError(f"{name} cannot be sent as JSON: {where}{error}") from error


def _place_of(value: Any) -> str:
    """Name the first part of a value that JSON cannot carry, such as `config.optim: `."""
    place = ""
    for _ in range(8):  # a value may hold itself
        parts: Iterable[Any] = ()
        if isinstance(value, Mapping):
            parts = value.items()
        elif isinstance(value, (list, tuple)):
            parts = enumerate(value)
        found = next((part for part in parts if not _is_json(part[1])), None)
        if found is None:  # this is the part, or one of its keys is
            break
        name, value = found
        place += f".{name}" if isinstance(name, str) else f"[{name!r}]"
    return f"{place.lstrip('.')}: " if place else ""


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
