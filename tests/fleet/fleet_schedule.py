"""Draws a schedule from a seed: how many jobs and processes, and what happens to them. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from web_servers import OF_SERVER

TTL = 2.0  # seconds that a lease lasts: short, because a schedule waits for leases to end
CONNECTIONS = 4  # connections to the database that a process which follows may open

KILL, TERM, PAUSE, JOIN = "kill -9", "SIGTERM", "SIGSTOP past the lease", "one more process"
RELEASE, RESTART, CUT = "all leases end", "the database restarts", "all connections are cut"


@dataclass(frozen=True)
class Disturbance:
    """Something that happens.

    Attributes:
        kind: What happens.
        after: It happens when so large a part of all events has had its effect: from 0 to 1.
        whom: Draws the process, from 0 to 1.
        early: Whether the new process starts before the old one is told to end.
    """

    kind: str
    after: float
    whom: float
    early: bool


@dataclass(frozen=True)
class Schedule:
    """All that is drawn from one seed.

    Attributes:
        seed: The seed.
        jobs: How many jobs there are from the start.
        later: How many jobs are added in the middle.
        members: How many processes follow them.
        pause: Seconds between two events of a job.
        failing: How likely each save is to raise.
        disturbances: What happens, in order.
    """

    seed: int
    jobs: int
    later: int
    members: int
    pause: float
    failing: float
    disturbances: Tuple[Disturbance, ...]


def draw(seed: int, on_server: bool = True) -> Schedule:
    """Draw a schedule of everything; for a database without a server, of what it can meet."""
    rng = random.Random(seed)
    kinds = [KILL, KILL, TERM, TERM, PAUSE, JOIN, RELEASE]
    kinds += [RESTART, CUT] if on_server else []
    return Schedule(
        seed=seed,
        jobs=rng.randint(5, 25),
        later=rng.choice((0, 0, 5)),
        members=rng.randint(2, 3),
        pause=rng.choice((0.0, 0.02, 0.1)),
        failing=rng.choice((0.0, 0.0, 0.05)),
        disturbances=_in_order(rng, [rng.choice(kinds) for _ in range(rng.randint(1, 5))]),
    )


def kills(seed: int, jobs: int, number: int, members: int = 4) -> Schedule:
    """Draw a schedule of many jobs whose followers are killed often."""
    rng = random.Random(seed)
    return Schedule(seed, jobs, 0, members, 0.5, 0.0, _in_order(rng, [KILL] * number))


@dataclass(frozen=True)
class WebSchedule:
    """What happens to a web server that submits, and to the processes that follow.

    Attributes:
        fleet: The processes that follow.
        keys: What is submitted: a job for each key.
        truncated: Whether the cloud's list of jobs is cut.
        faults: Faults of the cloud.
        events: What happens to the server or to the processes, in order.
    """

    fleet: Schedule
    keys: Tuple[str, ...]
    truncated: bool
    faults: Tuple[Dict[str, Any], ...]
    events: Tuple[Disturbance, ...]


def draw_web(seed: int) -> WebSchedule:
    """Draw a schedule of a web server."""
    rng = random.Random(f"web {seed}")
    truncated = rng.random() < 0.4
    # The job is created, and whoever wanted it is never told, or late.
    faults = [
        {"kind": "reset_peer", "route": "create_job", "probability": 0.06, "count": None},
        {
            "kind": "blackhole",
            "route": "create_job",
            "seconds": 0.3,
            "count": 3,
            "probability": 0.2,
        },
        {"kind": "status", "route": "create_job", "status": 503, "count": 2, "probability": 0.1},
    ]
    kinds = [rng.choice((*OF_SERVER, *OF_SERVER, KILL, TERM)) for _ in range(rng.randint(3, 6))]
    return WebSchedule(
        fleet=Schedule(seed, 0, 0, 2, rng.choice((0.0, 0.02)), 0.0, ()),
        keys=tuple(f"order-{number}" for number in range(rng.randint(12, 30))),
        truncated=truncated,
        faults=tuple(faults),
        events=_in_order(rng, kinds),
    )


def _in_order(rng: random.Random, kinds: List[str]) -> Tuple[Disturbance, ...]:
    moments = sorted(rng.uniform(0, 0.9) for _ in kinds)
    return tuple(
        Disturbance(kind, after, rng.random(), rng.random() < 0.5)
        for kind, after in zip(kinds, moments)
    )
