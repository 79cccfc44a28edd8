"""JSON as the cloud and the TypeScript command line mean it. Pure; any thread may use it."""

from __future__ import annotations

import json
from typing import Any, NoReturn, Union

from arkor_sync.errors import ArkorUsageError


def parse_json(document: Union[str, bytes]) -> Any:
    """Decode strictly: bytes are UTF-8, and `NaN` and `Infinity` are refused.

    Raises:
        ValueError: It is not JSON.
    """
    text = document.decode("utf-8") if isinstance(document, bytes) else document
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


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
        raise ArkorUsageError(f"{name} cannot be sent as JSON: {error}") from error
