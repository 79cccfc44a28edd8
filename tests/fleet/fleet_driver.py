"""Runs one schedule: starts the processes, disturbs them, waits for the end, asks the oracle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

from fleet_cloud import Cloud
from fleet_database import Database
from fleet_oracle import check
from fleet_schedule import CUT, JOIN, KILL, PAUSE, RELEASE, RESTART, TERM, TTL, Disturbance, Schedule

HERE = Path(__file__).parent
EVENTS = 7  # of a job, about
STALL = 120.0  # seconds without any progress that only a fault takes
ENDING = 60.0  # seconds that a process may take to end
POOL = 4  # connections to the store that a process may open
COMMAND = (sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning")
PYTHONPATH = os.pathsep.join(
    [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
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
                [*COMMAND, *arguments],
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
    """The processes that follow the jobs of a schedule.

    Args:
        schedule: What happens.
        cloud: Where the jobs are.
        database: Where positions and effects are kept.
        directory: Where the logs are.
    """

    def __init__(
        self, schedule: Schedule, cloud: Cloud, database: Database, directory: Path
    ) -> None:
        self._schedule = schedule
        self._cloud = cloud
        self._database = database
        self._directory = directory
        self._started = 0
        self._members: List[Process] = []
        self._all: List[Process] = []
        self._most: Dict[int, int] = {}  # connections, by process

    def run(self) -> None:
        """Run the schedule.

        Raises:
            AssertionError: A promise was broken.
        """
        schedule = self._schedule
        jobs = self._create(schedule.jobs)
        with self._killed_at_the_end(), self._sampling():
            for _ in range(schedule.members):
                self._start()
            for number, disturbance in enumerate(schedule.disturbances):
                if schedule.later and number == len(schedule.disturbances) // 2:
                    jobs += self._create(schedule.later)
                wanted = disturbance.after * EVENTS * schedule.jobs
                self._until(lambda wanted=wanted: self._database.count() >= wanted or self._done(jobs))
                self._disturb(disturbance)
            self._until(lambda: self._done(jobs))
            self._end()
        check(
            self._cloud.jobs(),
            self._database.effects(),
            self._database.holders(),
            [each.log for each in self._all],
        )
        assert all(most <= POOL for most in self._most.values()), self._most
        assert self._cloud.errors() == []

    # -- jobs and processes -------------------------------------------------------------------

    def _create(self, number: int) -> List[str]:
        """Create jobs, and have all processes follow them."""
        created = self._cloud.create(number)
        path = self._directory / "jobs.json"
        known = json.loads(path.read_text()) if path.exists() else []
        half = path.with_suffix(".new")
        half.write_text(json.dumps(known + created))
        os.replace(half, path)
        return created

    def _start(self) -> None:
        self._started += 1
        schedule = self._schedule
        settings = {
            "url": self._database.url,
            "jobs": str(self._directory / "jobs.json"),
            "ttl": TTL,
            "pool": POOL,
            "failing": schedule.failing,
            "seed": f"{schedule.seed}/{self._started}",
        }
        member = Process(
            self._directory / f"follower-{self._started}.log",
            str(HERE / "fleet_member.py"),
            json.dumps(settings),
            **self._cloud.environment,
        )
        self._members.append(member)
        self._all.append(member)

    def _done(self, jobs: List[str]) -> bool:
        """Whether all jobs are finished. No process may have ended by itself."""
        for member in self._members:
            assert member.running(), f"a follower has ended:\n{member.log[-8000:]}"
        holders = self._database.holders()
        return len(holders) >= len(jobs) and all(each.finished for each in holders)

    def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, as long as anything goes on."""
        pause, seen, deadline = threading.Event(), -1, 0.0
        while not condition():
            count = self._database.count()
            if count != seen:
                seen, deadline = count, time.monotonic() + STALL
            if time.monotonic() > deadline:
                logs = "\n".join(f"-- {each.pid}\n{each.log[-3000:]}" for each in self._members)
                raise AssertionError(f"nothing goes on: {self._database.holders()}\n{logs}")
            pause.wait(0.05)

    def _end(self) -> None:
        """Tell all processes to end, as a deployment does."""
        for member in self._members:
            member.send(signal.SIGTERM)
        for member in self._members:
            assert member.status() == 0, member.log[-8000:]

    @contextlib.contextmanager
    def _killed_at_the_end(self) -> Iterator[None]:
        try:
            yield
        finally:
            for member in self._all:
                member.kill()

    # -- disturbances -------------------------------------------------------------------------

    def _disturb(self, disturbance: Disturbance) -> None:
        kind = disturbance.kind
        victim = self._members[int(disturbance.whom * len(self._members))]
        if kind in (KILL, TERM):
            if disturbance.early:
                self._start()
            self._members.remove(victim)
            if kind == KILL:
                victim.kill()
            else:
                victim.send(signal.SIGTERM)
                assert victim.status() == 0, victim.log[-8000:]
            if not disturbance.early:
                self._start()
        elif kind == PAUSE:
            victim.send(signal.SIGSTOP)
            try:
                self._until(lambda: victim.pid not in self._database.owners())
            finally:
                victim.send(signal.SIGCONT)
        elif kind == JOIN:
            self._start()
        elif kind == RELEASE:
            self._database.end_all_leases()
        elif kind == CUT:
            self._database.cut()
        else:
            assert kind == RESTART
            self._database.restart()

    @contextlib.contextmanager
    def _sampling(self) -> Iterator[None]:
        """Count the connections of each process now and then."""
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(0.1):
                for pid, number in self._database.connections().items():
                    self._most[pid] = max(number, self._most.get(pid, 0))

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(ENDING)
