"""Runs one schedule: starts the processes, disturbs them, waits for the end, asks the oracle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Callable, Deque, Dict, List

from fleet_cloud import Cloud
from fleet_database import HERE, Database
from fleet_oracle import check
from fleet_schedule import (
    CONNECTIONS,
    CUT,
    JOIN,
    KILL,
    PAUSE,
    RELEASE,
    RESTART,
    TERM,
    TTL,
    Disturbance,
    Schedule,
)

import arkor_sync
from support.ending import ends_with_us
from support.waiting import until

EVENTS = 7  # of a job, about
STALL = 120.0  # seconds without any progress that only a fault takes
ENDING = 60.0  # seconds that a process may take to end
COMMAND = (sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning")
# The last two are for uWSGI: when it reloads, it starts the Python that its environment came from.
PYTHONPATH = os.pathsep.join(
    [
        str(HERE),
        str(HERE.parent),
        *filter(None, [os.environ.get("PYTHONPATH")]),
        str(Path(arkor_sync.__file__).parents[1]),
        sysconfig.get_path("purelib"),
    ]
)


class Process:
    """A process of the fleet, and what it writes.

    Attributes:
        pid: Its number.
    """

    def __init__(self, log: Path, *arguments: str, **environment: str) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ends_with_us([*COMMAND, *arguments]),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": PYTHONPATH, **environment},
            )
        self.pid = self._process.pid

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def running(self) -> bool:
        """Tell whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill it, also while it is stopped."""
        self._process.kill()
        self._process.wait(ENDING)

    def status(self) -> int:
        """Wait for its end; return the exit code, or the negative number of a signal."""
        try:
            return self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)  # faulthandler prints the stacks
            self._process.wait(ENDING)
            raise AssertionError(f"process {self.pid} does not end:\n{self.log[-8000:]}") from None

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text("utf-8", "replace")


class Fleet:
    """The processes that follow jobs together.

    Args:
        schedule: How they are, and what happens to them.
        cloud: Where the jobs are.
        database: Where positions and effects are kept.
        directory: Where the logs are.
        submitted: Whether they follow what is noted as submitted; else what `create` has created.
    """

    def __init__(
        self,
        schedule: Schedule,
        cloud: Cloud,
        database: Database,
        directory: Path,
        submitted: bool = False,
    ) -> None:
        self._schedule = schedule
        self._cloud = cloud
        self._database = database
        self._directory = directory
        self._jobs = None if submitted else directory / "jobs.json"
        self._created: List[str] = []
        self._members: List[Process] = []
        self._all: List[Process] = []
        self._most: Dict[str, int] = {}  # connections, by the name of the process
        self._sampled = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Fleet:
        self.create(self._schedule.jobs)
        for _ in range(self._schedule.members):
            self.start()
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._all:
            member.kill()
        self._sampled.set()
        self._sampler.join(ENDING)

    # -- jobs and processes -------------------------------------------------------------------

    def create(self, number: int) -> None:
        """Create jobs, and have all processes follow them."""
        if self._jobs is None:
            return
        self._created += self._cloud.create(number)
        half = self._jobs.with_suffix(".new")
        half.write_text(json.dumps(self._created))
        half.replace(self._jobs)

    def start(self) -> None:
        """Start one more process."""
        name = f"member-{len(self._all) + 1}"
        settings = {
            "jobs": self._jobs and str(self._jobs),
            "ttl": TTL,
            "connections": CONNECTIONS,
            "failing": self._schedule.failing,
            "seed": f"{self._schedule.seed} {name}",
        }
        log = self._directory / f"{name}.log"
        environment = {**self._cloud.environment, "FLEET_STORE": self._database.url}
        arguments = self._database.follower(settings)
        member = Process(log, *arguments, **environment, PGAPPNAME=name)
        self._members.append(member)
        self._all.append(member)

    def done(self) -> bool:
        """Whether all jobs are finished. No process may have ended by itself."""
        for member in self._members:
            assert member.running(), f"a follower has ended:\n{member.log[-8000:]}"
        holders = self._database.holders()
        wanted = len(self._created) if self._jobs else len(self._cloud.jobs())
        return sum(each.finished for each in holders) >= wanted

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, as long as anything goes on."""
        pause, seen, deadline = threading.Event(), -1, 0.0
        while not condition():
            count = self._database.count()
            if count != seen:
                seen, deadline = count, time.monotonic() + STALL
            if time.monotonic() > deadline:
                logs = "\n".join(f"-- {each.pid}\n{each.log[-3000:]}" for each in self._members)
                open_ones = [each for each in self._database.holders() if not each.finished]
                raise AssertionError(f"nothing goes on: {open_ones[:5]}\n{logs}")
            pause.wait(0.05)

    def run(self) -> None:
        """Do what the schedule says, until all jobs are finished; then check everything.

        Raises:
            AssertionError: A promise was broken.
        """
        schedule = self._schedule
        for number, disturbance in enumerate(schedule.disturbances):
            if schedule.later and number == len(schedule.disturbances) // 2:
                self.create(schedule.later)
            wanted = disturbance.after * EVENTS * schedule.jobs
            self.until(partial(self._has_come_to, wanted))
            self.disturb(disturbance)
        self.finish()

    def _has_come_to(self, effects: float) -> bool:
        return self._database.count() >= effects or self.done()

    def finish(self) -> None:
        """Wait until all jobs are finished, end all processes, and check everything."""
        self.until(self.done)
        self._end(*self._members)
        until(lambda: all(each.expires_in <= 0 for each in self._database.holders()))
        logs = [each.log for each in self._all]
        database = self._database
        jobs = self._cloud.jobs()
        check(jobs, database.effects(), database.holders(), logs)
        database.check(jobs)
        assert all(most <= CONNECTIONS for most in self._most.values()), self._most
        assert self._cloud.errors() == []

    def _end(self, *members: Process) -> None:
        """End processes as a deployment does, once they have begun to follow jobs."""
        for member in members:
            self.until(partial(self._is_member, member))
            member.send(signal.SIGTERM)
        for member in members:
            assert member.status() == 0, member.log[-8000:]

    def _is_member(self, member: Process) -> bool:
        assert member.running(), member.log[-8000:]
        return any(
            each.owner.startswith(f"process {member.pid} ") for each in self._database.members()
        )

    # -- disturbances -------------------------------------------------------------------------

    def disturb(self, disturbance: Disturbance) -> None:
        """Have something happen."""
        kind = disturbance.kind
        victim = self._members[int(disturbance.whom * len(self._members))]
        if kind in (KILL, TERM):
            if disturbance.early:
                self.start()
            self._members.remove(victim)
            if kind == KILL:
                victim.kill()
            else:
                self._end(victim)
            if not disturbance.early:
                self.start()
        elif kind == PAUSE:
            victim.send(signal.SIGSTOP)
            try:
                self.until(lambda: self._database.leases_of(victim.pid) == 0)
            finally:
                victim.send(signal.SIGCONT)
        elif kind == JOIN:
            self.start()
        elif kind == RELEASE:
            self._database.end_all_leases()
        elif kind == CUT:
            self._database.cut()
        else:
            assert kind == RESTART
            self._database.restart()

    def _sample(self) -> None:
        """Count the connections of each process now and then.

        The server counts one for a moment after it was closed: so what three counts have is taken.
        """
        counts: Deque[Dict[str, int]] = deque(maxlen=3)
        while not self._sampled.wait(0.1):
            with contextlib.suppress(Exception):  # the server is just restarted
                counts.append(self._database.connections())
                for name in counts[-1]:
                    number = min(each.get(name, 0) for each in counts)
                    self._most[name] = max(number, self._most.get(name, 0))
