from __future__ import annotations

import threading
from typing import Iterator

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.emulator_client import Client


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert [t.name for t in threading.enumerate() if t not in before] == []


@pytest.fixture
def emu() -> Iterator[Emulator]:
    """An emulator whose jobs tell of three steps and complete."""
    with Emulator(ScriptedEngine(steps=3, checkpoints=[2])) as emulator:
        yield emulator
        assert emulator.errors == []


@pytest.fixture
def client(emu: Emulator) -> Iterator[Client]:
    with Client(emu) as bare:
        yield bare
