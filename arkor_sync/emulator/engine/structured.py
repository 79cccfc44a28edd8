"""Makes a JSON value that fits a schema. Pure."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List

from arkor_sync.emulator.http.messages import ApiError, is_number

# A schema of a few bytes can ask for any amount: by `minItems`, by arrays inside arrays, by a
# `$ref` to itself. What is made has at most so many characters, and so many levels.
MAX_CHARACTERS = 32_768
MAX_LEVELS = 200

# Below so many levels only what is required is made, so that a recursive schema comes to an end.
FULL_LEVELS = 10


def instance(schema: Any, text: Callable[[], str]) -> Any:
    """Return a small value that fits a JSON schema.

    Supports types, `enum`, `const`, `properties`, `items`, local `$ref`, `anyOf`, `oneOf` and
    `allOf`. Of the limits only `minimum` and `minItems` are respected.

    Args:
        schema: The JSON schema. An empty one gives an object with one text.
        text: Returns a text for a string of the value.

    Raises:
        ApiError: 400, if the schema is malformed or asks for too much.
    """
    if schema == {}:
        return {"text": text()}
    return _Maker(schema, text).make(schema, 0)


class _Maker:
    def __init__(self, root: Any, text: Callable[[], str]) -> None:
        self._root = root
        self._text = text
        self._left = MAX_CHARACTERS

    def make(self, schema: Any, level: int) -> Any:
        if level > MAX_LEVELS:
            raise _too_much(f"more than {MAX_LEVELS} levels")
        if not isinstance(schema, dict) or not schema:
            return self._spend(self._text())
        if "const" in schema:
            return self._spend(schema["const"])
        if _get(schema, "enum", list):
            return self._spend(schema["enum"][0])
        if _is_reference(schema):
            return self.make(self._lookup(_get(schema, "$ref", str)), level + 1)
        for key in ("anyOf", "oneOf", "allOf"):
            parts: List[Any] = _get(schema, key, list)
            if parts:
                if level > FULL_LEVELS:
                    parts = [part for part in parts if not _is_reference(part)] or parts
                return self.make(parts[0], level + 1)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = kind[0] if kind else None
        if kind == "object":
            return self._object(schema, level)
        if kind == "array":
            return self._array(schema, level)
        if kind in ("integer", "number"):
            return self._spend(schema["minimum"] if is_number(schema.get("minimum")) else 0)
        if kind == "boolean":
            return self._spend(True)
        return self._spend(None if kind == "null" else self._text())

    def _object(self, schema: Dict[str, Any], level: int) -> Dict[str, Any]:
        self._spend({})
        required = _get(schema, "required", list)
        made = {}
        for name, part in _get(schema, "properties", dict).items():
            if level <= FULL_LEVELS or name in required:
                made[self._spend(name)] = self.make(part, level + 1)
        return made

    def _array(self, schema: Dict[str, Any], level: int) -> List[Any]:
        least = schema.get("minItems", 0)
        if not is_number(least):
            raise _malformed("minItems")
        count = max(int(least), 1 if level <= FULL_LEVELS else 0)
        self._spend([])
        if not count:
            return []
        before = self._left
        item = self.make(schema.get("items"), level + 1)
        self._count((before - self._left) * (count - 1))
        return [item] * count

    def _spend(self, value: Any) -> Any:
        """Return a value, and count its characters with those around it."""
        self._count(len(json.dumps(value)) + len(", "))
        return value

    def _count(self, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise _too_much(f"more than {MAX_CHARACTERS} characters")

    def _lookup(self, reference: str) -> Any:
        found = self._root
        for part in reference.split("/")[1:]:
            found = found.get(part, {}) if isinstance(found, dict) else {}
        return found


def _is_reference(schema: Any) -> bool:
    return isinstance(schema, dict) and "$ref" in schema


def _get(schema: Dict[str, Any], key: str, kind: type) -> Any:
    """Return a field of a schema; an empty one if it is left out or null."""
    value = schema.get(key)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise _malformed(key)
    return value


def _malformed(key: str) -> ApiError:
    return ApiError(400, f"the schema's {key!r} is malformed", "invalid_schema")


def _too_much(what: str) -> ApiError:
    return ApiError(400, f"the schema asks for {what}", "not_supported_by_emulator")
