"""Imports libraries that are optional extras of this package. Runs on the caller's thread."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from arkor_sync.errors import ArkorUsageError


def import_extra(module: str, extra: str, needed_by: str) -> Any:
    """Import a module of an optional library.

    Args:
        module: Its dotted name.
        extra: The extra of this package that installs the library.
        needed_by: The class that needs it, for the error message.

    Raises:
        ArkorUsageError: The library is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise ArkorUsageError(
            f"{needed_by} needs {library}: pip install 'arkor-sync[{extra}]' ({error})"
        ) from error
