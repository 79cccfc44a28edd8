"""A local cloud, and a home and a working directory that are empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from arkor_sync import CloudApiClient
from arkor_sync.emulator import Emulator, ScriptedEngine


@pytest.fixture(autouse=True)
def _empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def make_emulator() -> Iterator[Callable[..., Emulator]]:
    started = []

    def make(engine: Any = None, **settings: Any) -> Emulator:
        emulator = Emulator(engine or ScriptedEngine(steps=3), **settings).start()
        started.append(emulator)
        return emulator

    yield make
    for emulator in started:
        emulator.stop()
        assert emulator.errors == []


@pytest.fixture
def emulator(make_emulator: Callable[..., Emulator]) -> Emulator:
    return make_emulator()


@pytest.fixture
def client_of() -> Callable[..., CloudApiClient]:
    def make(emulator: Emulator, credentials: Any = None, **more: Any) -> CloudApiClient:
        if credentials is not None:
            more["credentials"] = credentials
        return emulator.client(**more)

    return make
