"""A fleet of followers, and the jobs that it follows."""

from __future__ import annotations

from typing import Callable, Iterator, List

import pytest
from follower_fleet import Fleet

from arkor_sync.emulator import Emulator, ScriptedEngine


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=5, manual=True)) as emulator:
        yield emulator
        assert emulator.errors == []


@pytest.fixture
def fleet(emulator: Emulator) -> Iterator[Fleet]:
    fleet = Fleet(emulator.client())
    yield fleet
    for each in fleet.followers:
        each.stop()
    for each in fleet.followers:
        each.close()


@pytest.fixture
def jobs(emulator: Emulator, fleet: Fleet) -> Callable[[int], List[str]]:
    """Make jobs that wait for `emulator.step`, and that the fleet's source names."""

    def make(number: int) -> List[str]:
        made = [emulator.create_job() for _ in range(number)]
        fleet.ids += made
        return made

    return make
