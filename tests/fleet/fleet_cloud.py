"""A local Arkor in a process of its own. It obeys the orders that it reads, one a line.

Run as a program it is that process; `Cloud` starts it and gives the orders.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any, Dict, List, NamedTuple

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine

STEPS = (3, 4, 6, 8)


class JobFacts(NamedTuple):
    """What the cloud knows of a job.

    Attributes:
        name: The job's name.
        status: Its status.
        ended: Whether its stream has ended.
        events: The ids of its events, in order.
        steps: The steps of its log events, in order.
    """

    name: str
    status: str
    ended: bool
    events: List[str]
    steps: List[int]


class Cloud:
    """The process, as its parent sees it.

    Args:
        pause: Seconds between two events of a job.
        seed: Draws what each job does.
    """

    def __init__(self, pause: float = 0.0, seed: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(pause), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.environment: Dict[str, str] = self._read()

    def __enter__(self) -> Cloud:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def create(self, jobs: int) -> List[str]:
        """Create jobs; return their ids."""
        ids: List[str] = self._order("create", jobs)
        return ids

    def jobs(self) -> Dict[str, JobFacts]:
        """Return all jobs by their ids."""
        return {job_id: JobFacts(*facts) for job_id, facts in self._order("jobs").items()}

    def fault(self, **fault: Any) -> None:
        """Set a fault."""
        self._order("fault", fault)

    def list_at_most(self, jobs: int) -> None:
        """List only so many jobs from now on, and say nothing of the others."""
        self._order("list", jobs)

    def errors(self) -> List[str]:
        """Return what went wrong inside the emulator."""
        errors: List[str] = self._order("errors")
        return errors

    def _order(self, *order: Any) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


def engine(rng: random.Random, pause: float) -> ScriptedEngine:
    """Draw what a job does: how long it is, and whether it fails."""
    steps = rng.choice(STEPS)
    fails_at = rng.choice((None, None, None, steps))
    return ScriptedEngine(steps=steps, checkpoints=[2], fails_at=fails_at, step_delay=pause)


def main() -> None:
    pause, rng = float(sys.argv[1]), random.Random(int(sys.argv[2]))
    with Emulator(engine(rng, pause)) as emulator:
        say(emulator.environment())
        for line in sys.stdin:
            order, *arguments = json.loads(line)
            say(obey(emulator, rng, pause, order, *arguments))


def obey(emulator: Emulator, rng: random.Random, pause: float, order: str, *given: Any) -> Any:
    if order == "create":
        return [emulator.create_job(engine(rng, pause)) for _ in range(given[0])]
    if order == "jobs":
        return {
            job_id: JobFacts(
                name=job.name,
                status=job.status,
                ended=job.ended,
                events=[entry.id for entry in job.log],
                steps=[each["step"] for each in job.events if each["type"] == "training.log"],
            )
            for job_id, job in emulator.jobs.items()
        }
    if order == "fault":
        emulator.faults.add(Fault(**given[0]))
        return None
    if order == "list":
        emulator.settings.listed_jobs = given[0]
        return None
    assert order == "errors"
    return [repr(error) for error in emulator.errors]


def say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
