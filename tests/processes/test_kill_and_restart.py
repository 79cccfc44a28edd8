"""A process that follows a job with a cursor store is killed, and another one carries on.

It is killed a few times beside each of the clouds; more often with the environment::

    ARKOR_KILLS=100 python -m pytest tests/processes/test_kill_and_restart.py
"""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import pytest
import scenarios
from children import Child, Nursery

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.hang_phases import Cloud, cloud_of

KILLS = int(os.environ.get("ARKOR_KILLS", "4"))
AT_MOST = 20  # events of a process that is to be killed: it must not come to the end before

Event = Tuple[Dict[str, Union[str, int]], None]


class Training:
    """A job with a checkpoint every five steps, and the names of its events in order."""

    def __init__(self, steps: int, with_ids: bool = True) -> None:
        saved = range(5, steps + 1, 5)
        self.names = ["started"]
        for step in range(1, steps + 1):
            self.names += [f"log-{step}"] + ([f"checkpoint-{step}"] if step in saved else [])
        self.names += ["completed"]
        self.engine = ScriptedEngine(steps=steps, checkpoints=saved)
        if not with_ids:
            self.engine = ScriptedEngine(events=map(self._without_id, self.names))

    @staticmethod
    def _without_id(name: str) -> Event:
        what, _, step = name.partition("-")
        kind = {"log": "training.log", "checkpoint": "checkpoint.saved"}.get(what)
        event: Dict[str, Union[str, int]] = {"type": kind or f"training.{what}"}
        return ({**event, "step": int(step)} if step else event), None


class Call(NamedTuple):
    """A callback that began: for which event, and after how many that its state knows of."""

    event: str
    after: int


def calls(child: Child) -> List[Call]:
    lines = [line.split() for line in child.out]
    return [Call(line[1], int(line[3])) for line in lines if line[0] == "event"]


class Follower:
    """Follows one job of an emulator with one store, in one process after the other."""

    def __init__(self, nursery: Nursery, emulator: Emulator, store: Path) -> None:
        self.cloud: Cloud = cloud_of(emulator, emulator.create_job())
        self.rounds: List[List[Call]] = []
        self._nursery = nursery
        self._store = store

    def start(self, hold_at: Optional[str] = None, at_most: Optional[int] = None) -> Child:
        scenario = scenarios.follow_with_a_store
        return self._nursery.start(scenario, self.cloud, str(self._store), hold_at, at_most)

    def kill(self, child: Child) -> None:
        """Kill the process, which is still running."""
        child.kill()
        assert (child.status(), child.err) == (-signal.SIGKILL, "")
        self.rounds.append(calls(child))

    def finish(self) -> Child:
        child = self.start().succeeds()
        self.rounds.append(calls(child))
        return child


def check(training: Training, rounds: List[List[Call]]) -> int:
    """See that each process carried on where the one before was; return what came twice."""
    position = 0  # of what comes next
    repeated = 0
    for calls in rounds:
        for index, call in enumerate(calls):
            if index == 0 and position > 0 and call.event == training.names[position - 1]:
                position -= 1  # the one in flight when the last process was killed
                repeated += 1
            assert call.event == training.names[position]
            assert call.after == position, "the state belongs to the cursor"
            position += 1
    assert position == len(training.names), "no event is lost"
    return repeated


SHORT = Training(steps=10)

FAULTS: Dict[str, List[Fault]] = {
    "one that resumes": [],
    "one that replays all": [Fault("replay_all", route="stream", count=None)],
    "one without ids": [],
    "one that breaks off": [Fault("cut_mid_event", route="stream", probability=0.02, count=None)],
    "one that replays all, with frames of its own": [
        Fault("replay_all", route="stream", count=None),
        Fault("extra_frame", route="stream", index=0, times=3, count=5),
        Fault("extra_frame", route="stream", probability=0.1, value="malformed", count=None),
    ],
    "one whose bytes drip": [
        Fault("drip", route="stream", size=100, seconds=0.001, count=None),
    ],
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "cursors"


@pytest.mark.parametrize("cloud", FAULTS)
def test_killed_at_random_moments_it_loses_nothing(
    nursery: Nursery, store: Path, cloud: str
) -> None:
    moments = random.Random(f"killed while it follows {cloud}")
    training = Training(steps=AT_MOST * KILLS, with_ids=cloud != "one without ids")
    with Emulator(training.engine) as emulator:
        emulator.faults.add(*FAULTS[cloud])
        follower = Follower(nursery, emulator, store)
        for _ in range(KILLS):
            child = follower.start(at_most=AT_MOST)
            if moments.random() < 0.2:
                threading.Event().wait(moments.random() / 50)  # while it starts
            else:
                child.until_said_lines(moments.randrange(1, 10))
            follower.kill(child)
        assert follower.finish().out[-1] == "result completed"
        assert check(training, follower.rounds) <= KILLS


@pytest.mark.parametrize("event", ["started", "log-7", "checkpoint-5", "completed"])
def test_killed_in_a_callback_that_event_comes_again(
    nursery: Nursery, store: Path, event: str
) -> None:
    with Emulator(SHORT.engine) as emulator:
        follower = Follower(nursery, emulator, store)
        for _ in range(2):
            child = follower.start(hold_at=event)
            child.until_said("held")
            follower.kill(child)
        follower.finish()
    assert check(SHORT, follower.rounds) == 2
    events = [call.event for calls in follower.rounds for call in calls]
    assert events.count(event) == 3
    assert len(events) == len(SHORT.names) + 2


def test_a_finished_job_is_not_called_again(nursery: Nursery, store: Path) -> None:
    with Emulator(SHORT.engine) as emulator:
        follower = Follower(nursery, emulator, store)
        follower.finish()
        for _ in range(2):
            again = follower.start().succeeds()
            assert again.out == ["result completed"]
        assert len(emulator.connections()) == 1


def test_killed_after_the_last_callback_it_is_finished(nursery: Nursery, store: Path) -> None:
    with Emulator(SHORT.engine) as emulator:
        follower = Follower(nursery, emulator, store)
        child = follower.start()
        child.until_said("result completed")
        child.kill()
        child.status()
        assert calls(follower.start().succeeds()) == []
