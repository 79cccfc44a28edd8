"""The tests of many processes: they are skipped where the database's library is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.extras import ModuleOfAnExtra


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> ModuleOfAnExtra:
    return ModuleOfAnExtra.from_parent(parent, path=module_path)
