"""A local cloud for whole runs over real sockets."""

from __future__ import annotations

from typing import Any, Callable, Iterator

import pytest

from arkor_sync import CloudApiClient, Trainer, create_trainer
from arkor_sync.emulator import Emulator, ScriptedEngine


@pytest.fixture
def make_emulator() -> Iterator[Callable[..., Emulator]]:
    started = []

    def make(engine: Any = None, **settings: Any) -> Emulator:
        emulator = Emulator(engine or ScriptedEngine(), **settings).start()
        started.append(emulator)
        return emulator

    yield make
    for emulator in started:
        emulator.stop()
        assert emulator.errors == []


@pytest.fixture
def client_of() -> Callable[[Emulator], CloudApiClient]:
    def make(emulator: Emulator) -> CloudApiClient:
        return emulator.client()

    return make


@pytest.fixture
def trainer_of(client_of: Callable[[Emulator], CloudApiClient]) -> Callable[..., Trainer]:
    def make(emulator: Emulator, **more: Any) -> Trainer:
        arguments = {
            "name": "a run",
            "model": "unsloth/gemma-4-E4B-it",
            "dataset": {"type": "huggingface", "name": "arkorlab/triage-demo"},
            "client": client_of(emulator),
            **more,
        }
        return create_trainer(**arguments)

    return make
