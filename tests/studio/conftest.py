"""A local Arkor, Studio before it, and a browser."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from arkor_sync.emulator import Emulator
from support.browser import browser, page
from support.command_line import REPOSITORY
from support.extras import ModuleOfAnExtra, need_extra
from support.projects import write_project
from support.waiting import PATIENCE

__all__ = ["browser", "page"]


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> ModuleOfAnExtra:
    return ModuleOfAnExtra.from_parent(parent, path=module_path)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Start a local Arkor."""
    with Emulator() as emulator:
        yield emulator
        assert emulator.errors == []


@pytest.fixture
def project(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project the working directory; it trains in the local Arkor."""
    need_extra("cli")
    for name, value in {**emulator.environment(), "PYTHONPATH": str(REPOSITORY)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    return tmp_path


@pytest.fixture
def server(emulator: Emulator) -> Iterator[Any]:
    """Serve Studio on a free port; `url` has the token."""
    need_extra("studio")
    from arkor_sync.studio.server import StudioServer

    server = StudioServer(emulator.client(), port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.fixture
def web(emulator: Emulator) -> Iterator[Any]:
    """Ask the application of Studio without a server; whoever asks is allowed everything."""
    need_extra("studio")
    from arkor_sync.studio import create_app
    from arkor_sync.studio.state import KEY

    app = create_app(emulator.client(), authorize=lambda environ, changes: True)
    yield app.test_client()
    app.extensions[KEY].taps.close()
