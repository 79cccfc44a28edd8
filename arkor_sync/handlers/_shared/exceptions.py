"""Keeps exceptions of a handler out of the run, and describes them for the log. Any thread."""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar, cast

from arkor_sync._common.log import get_logger
from arkor_sync.stream.error_policy import Redeliver, Skip, StopTraining

logger = get_logger("arkor_sync.handlers")

Method = TypeVar("Method", bound=Callable[..., Any])


def log_exceptions(method: Method) -> Method:
    """Decorate a method so that its exceptions are logged and never raised into the run.

    The log line has the names of the class and the method, and no traceback. The exceptions that
    give the run an order (`StopTraining`, `Skip`, `Redeliver`) are still raised.

    Use it only where the text of an exception may be logged: the text of an HTTP error can hold a
    secret URL, so code that makes HTTP requests has to describe its errors itself.
    """

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (StopTraining, Skip, Redeliver):
            raise
        except Exception as error:
            name = f"{type(self).__name__}.{method.__name__}"
            logger.warning("%s failed: %s", name, describe_error(error))
            return None

    return cast(Method, wrapper)


def describe_error(error: BaseException) -> str:
    """Return the type of an error, and its text if there is one. It never raises."""
    try:
        text = str(error)
    except Exception:
        text = "(it has no text)"
    return ": ".join(filter(None, (type(error).__name__, text)))
