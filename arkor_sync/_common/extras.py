"""Imports libraries that are optional extras of this package. Runs on the caller's thread."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Any, Dict

from arkor_sync.errors import ArkorUsageError

# What each extra installs, as in setup.cfg. A message names the library and not the extra: that
# command works however this package was installed.
REQUIREMENTS: Dict[str, str] = {
    "apprise": "apprise>=1.7",
    "celery": "celery>=5.3",
    "cli": "click>=8.1,<9\nrich>=13\ntqdm>=4.64",
    "database": "SQLAlchemy>=2.0",
    "datadog": "datadog>=0.45",
    "django": "Django>=4.2",
    "flask": "Flask>=2.3",
    "mlflow": "mlflow-skinny>=2.9",
    "notebook": "ipython>=8",
    "opentelemetry": "opentelemetry-api>=1.23",
    "plot": "matplotlib>=3.6",
    "posthog": "posthog>=3.5",
    "progress": "tqdm>=4.64",
    "redis": "redis>=5.0.8",
    "speed": 'orjson>=3.10; python_version < "3.15"',
    "studio": "Flask>=2.3\nwaitress>=2.1",
    "tensorboard": "tensorboardX>=2.6.2.2",
    "wandb": "wandb>=0.20",
}


def import_extra(module: str, extra: str, needed_by: str) -> Any:
    """Import a module of an optional library.

    Args:
        module: Its dotted name.
        extra: The extra of this package that installs the library.
        needed_by: The class that needs it, for the error message.

    Raises:
        ArkorUsageError: The library is not installed; the message says how to install it, or for
            which Pythons there is one.
    """
    try:
        return import_module(module)
    except ImportError as error:
        requirement, _, marker = REQUIREMENTS[extra].partition("; ")
        advice = "pip install " + " ".join(f"'{each}'" for each in requirement.splitlines())
        limit = re.search(r'python_version < "3\.(\d+)"', marker)
        if limit and sys.version_info >= (3, int(limit[1])):
            newest = f"3.{int(limit[1]) - 1}"
            advice = f"{requirement} has no release for this Python; use {newest} or older"
        raise ArkorUsageError(
            f"{needed_by} needs the extra {extra!r}: {advice} ({error})"
        ) from error
