"""Finds the follower that MODULE:NAME names. Runs on the caller's thread."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from arkor_sync._common.arguments import did_you_mean, show
from arkor_sync.errors import ArkorError, ArkorUsageError, text_of

if TYPE_CHECKING:
    from arkor_sync.follower import Follower

DEFAULT_NAME = "follower"
_WANTED = "a Follower, or a function without arguments that returns one"


def load_follower(text: str) -> Follower:
    """Import a module, and return what it calls its follower.

    The module is looked for in the working directory first, which stays the first of `sys.path`.

    Args:
        text: `MODULE:NAME`, or `MODULE` alone for the name `follower`. The name is that of a
            `Follower`, or of a function without arguments that returns one.

    Raises:
        ArkorUsageError: There is no such module or name, it is no follower, or the code raises an
            exception. The text says where.
        ArkorError: The code asked the cloud or a store for something, and this was the error.
    """
    from arkor_sync.follower import Follower
    from arkor_sync.manifest import place_of

    module, _, name = text.partition(":")
    name = name or DEFAULT_NAME
    if not all(part.isidentifier() for part in [*module.split("."), name]):
        raise ArkorUsageError(f"{text!r}: give MODULE:NAME, such as myproject.jobs:follower")
    folder = Path.cwd()
    sys.path[:] = [str(folder), *(each for each in sys.path if each != str(folder))]
    try:
        there = vars(importlib.import_module(module))
        if name not in there:
            known = [each for each in there if not each.startswith("_")]
            raise ArkorUsageError(f"the module has no `{name}`{did_you_mean(name, known)}")
        value = there[name]() if callable(there[name]) else there[name]
    except Exception as error:
        if isinstance(error, ArkorError) and not isinstance(error, ArkorUsageError):
            raise  # the network, the cloud, the sign-in, the store
        what = text_of(error)
        if not isinstance(error, ArkorUsageError):
            what = f"{type(error).__name__}: {what}"
        place = place_of(error, folder)
        raise ArkorUsageError(f"{text}: {what}{place and f' ({place})'}") from error
    if not isinstance(value, Follower):
        raise ArkorUsageError(f"{text}: it is {show(value)}; give that name to {_WANTED}")
    return value
