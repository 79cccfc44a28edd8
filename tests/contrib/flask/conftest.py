"""Applications of Flask beside a local Arkor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.extras import need


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=3)) as emulator:
        yield emulator
        assert emulator.errors == []


Configure = Callable[..., Any]


@pytest.fixture
def configure(emu: Emulator, tmp_path: Path) -> Configure:
    """Make an application with the settings of the local Arkor."""
    need("flask")
    from flask import Flask

    def make(**settings: Any) -> Any:
        app = Flask("shop")
        app.config.update(
            ARKOR_BASE_URL=emu.url,
            ARKOR_TOKEN=emu.token,
            ARKOR_PROJECT=f"{emu.org_slug}/{emu.project_slug}",
        )
        app.config.update(settings)
        return app

    return make
