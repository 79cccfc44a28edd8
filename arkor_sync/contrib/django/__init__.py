"""Runs in a Django site: submitted by the web, followed by `manage.py arkor_follow`. Any thread.

Add `arkor_sync.contrib.django` to `INSTALLED_APPS`. The names below need the models, so they are
imported when they are asked for, after Django's `setup()`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, List

from arkor_sync._common.extras import import_extra

if TYPE_CHECKING:
    from arkor_sync.contrib.django.store import DjangoCursorStore
    from arkor_sync.contrib.django.submitting import submit
    from arkor_sync.contrib.django.testing import follow_now, using_arkor

__all__ = ["DjangoCursorStore", "follow_now", "submit", "using_arkor"]

import_extra("django", "django", "arkor_sync.contrib.django")

_PLACES: Dict[str, str] = {
    "DjangoCursorStore": "store",
    "follow_now": "testing",
    "submit": "submitting",
    "using_arkor": "testing",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> List[str]:
    return sorted({*globals(), *_PLACES})
