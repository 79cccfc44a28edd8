"""Makes a JSON value that fits a schema. Pure."""

from __future__ import annotations

from typing import Any, Callable, Dict


def instance(schema: Any, text: Callable[[], str], root: Any = None) -> Any:
    """Return a small value that fits a JSON schema.

    Supports types, `enum`, `const`, `properties`, `items`, local `$ref`, `anyOf`, `oneOf` and
    `allOf`. Of the limits only `minimum` and `minItems` are respected.

    Args:
        schema: The JSON schema. An empty one gives an object with one text.
        text: Returns a text for a string of the value.
        root: The schema in which `$ref` is looked up.
    """
    root = schema if root is None else root
    if not isinstance(schema, dict) or not schema:
        return {"text": text()} if schema is root else text()
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return instance(_lookup(schema["$ref"], root), text, root)
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return instance(schema[key][0], text, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties: Dict[str, Any] = schema.get("properties") or {}
        return {name: instance(part, text, root) for name, part in properties.items()}
    if kind == "array":
        return [instance(schema.get("items"), text, root)] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    return {"boolean": True, "null": None}.get(kind, text()) if kind != "string" else text()


def _lookup(reference: str, root: Any) -> Any:
    found = root
    for part in reference.split("/")[1:]:
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return found
