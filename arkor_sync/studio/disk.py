"""How much of this machine's disk is used, and free. Runs on the caller's thread."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import List, Tuple

_MOST = 5_000  # files that are looked at
_SCARCE = 1_000_000_000  # bytes


def disk_facts(folders: List[Tuple[str, Path]]) -> List[Tuple[str, str]]:
    """Return names and values to be shown: what the folders hold, and what is free.

    Args:
        folders: The folders, and how each is named. One that is not there holds nothing.
    """
    facts = [(name, _used(path)) for name, path in folders]
    for _, path in folders:
        with suppress(OSError):
            free = shutil.disk_usage(path.parent).free
            scarce = ", which is little" if free < _SCARCE else ""
            facts.append(("Free disk", f"{size_text(free)}{scarce}"))
            break
    return facts


def size_text(size: int) -> str:
    """Format a number of bytes for people, such as `1.5 MB`."""
    for power, unit in enumerate(("B", "kB", "MB", "GB")):
        if size < 1000 ** (power + 1):
            shown = size / 1000**power
            return f"{shown:.0f} {unit}" if power == 0 or shown >= 99.5 else f"{shown:.1f} {unit}"
    return f"{size / 1000**4:.1f} TB"


def _used(folder: Path) -> str:
    """Say how large the files of a folder are. Links are not followed."""
    if not folder.is_dir():
        return "nothing there"
    size = count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_size
            count += 1
            if count == _MOST:
                return f"more than {size_text(size)}"
    return size_text(size)
