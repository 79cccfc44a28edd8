"""What every test of an optional library may rely on: it is skipped where that is missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator

import pytest

from support.extras import ModuleOfAnExtra
from support.logger_runs import Service

os.environ["JUPYTER_PLATFORM_DIRS"] = "1"  # or jupyter_core 5 warns when it is imported


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> ModuleOfAnExtra:
    return ModuleOfAnExtra.from_parent(parent, path=module_path)


@pytest.fixture(autouse=True)
def _threads_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arkor_sync.handlers._shared.outbox._IDLE_SECONDS", 0.01)


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """Start a service that answers as the test module's `ingest` does."""
    made = Service(request.module.ingest)
    yield made
    made.stop()
