"""Reads a JSON or TOML file. Any thread."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Dict, Union

from arkor_sync.emulator.http.messages import decode_json


def load_data(path: Union[str, Path]) -> Dict[str, Any]:
    """Read a JSON or TOML file whose top level is an object.

    Raises:
        ValueError: The file is malformed, or it is TOML and Python is older than 3.11.
        OSError: It cannot be read.
    """
    path = Path(os.path.abspath(path))
    text = path.read_text(encoding="utf-8-sig")
    try:
        data = _toml(text) if path.suffix == ".toml" else decode_json(text)
    except ImportError:
        raise ValueError(f"{path}: TOML needs Python 3.11 or later; use JSON here") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: the top level must be an object")
    return data


def _toml(text: str) -> Any:
    return importlib.import_module("tomllib").loads(text)
