"""What every ready-made callback rests on: its own trouble never becomes the run's. Pure."""

from __future__ import annotations

import functools
import logging
from importlib import import_module
from typing import Any, Callable, TypeVar, cast

from arkor_sync.errors import ArkorUsageError
from arkor_sync.stream.error_policy import Redeliver, Skip, StopTraining

logger = logging.getLogger("arkor_sync.handlers")

Method = TypeVar("Method", bound=Callable[..., Any])


def harmless(method: Method) -> Method:
    """Have what a method raises logged instead, with the class's name and without a traceback.

    What speaks to the run (`StopTraining`, `Skip`, `Redeliver`) passes. It is for errors whose
    text is safe to log: an HTTP error may hold a URL, and is described by whoever made it.
    """

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (StopTraining, Skip, Redeliver):
            raise
        except Exception as error:
            what = f"{type(self).__name__}.{method.__name__}"
            logger.warning("%s failed: %s", what, said(error))
            return None

    return cast(Method, guarded)


def said(error: BaseException) -> str:
    """Return an error's type and text. One that cannot even be told does no harm either."""
    try:
        text = str(error)
    except Exception:
        text = "(it has no text)"
    return f"{type(error).__name__}: {text}"


def load(module: str, extra: str, needed_by: str) -> Any:
    """Import an optional library.

    Args:
        module: Its dotted name.
        extra: The extra of this package that installs it.
        needed_by: The class that needs it.

    Raises:
        ArkorUsageError: It is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ArkorUsageError(
            f"{needed_by} needs {module.partition('.')[0]}: pip install 'arkor-sync[{extra}]' "
            f"({error})"
        ) from error
