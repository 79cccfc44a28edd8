"""An engine that counts steps, keeps its place in a file, and carries on from there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Tuple

from arkor_sync.emulator import ChatRequest, CheckpointNotFound, Engine, Job, Ticket
from arkor_sync.emulator.models import Item

SAVED_EVERY = 4


class CountingEngine(Engine):
    """Logs each step, and saves its place in each fourth, so that it repeats up to three steps.

    Args:
        steps: How many steps a job has.
        limit: The step that it does not go beyond until `allow` raises it.
        delay: Virtual seconds before each step.
    """

    resumes = True
    branches = True

    def __init__(
        self, *, steps: int = 12, limit: int = 10**9, delay: float = 0.0, manual: bool = False
    ) -> None:
        super().__init__(manual=manual)
        self.steps = steps
        self.limit = limit
        self.delay = delay
        self.tickets: List[Ticket] = []
        self.closed = 0

    def allow(self, step: int) -> None:
        """Let the jobs train up to this step."""
        self.limit = step
        for ticket in self.tickets:
            ticket.wake()

    def events(self, ticket: Ticket) -> Iterator[Item]:
        self.tickets.append(ticket)
        first = 0
        if ticket.resumed:
            first = max((_step(path) for path in ticket.job.directory.glob("step-*")), default=0)
        elif ticket.branched_from:
            directory, first = ticket.branched_from
            assert (directory / f"step-{first}").exists()
        yield {"type": "training.started", "metadata": {"first": first}}
        # What it told of the step that it resumes from may not have been published.
        for step in range(first + (not ticket.resumed or not first), self.steps + 1):
            ticket.sleep(self.delay)
            ticket.wait_until(lambda step=step: step <= self.limit)  # type: ignore[misc]
            if ticket.stopping:
                return
            yield {"type": "training.log", "step": step, "loss": 1 / step, "evalLoss": None}
            if step % SAVED_EVERY == 0:
                ticket.job.directory.mkdir(exist_ok=True)
                unfinished = ticket.job.directory / "unfinished"
                unfinished.write_text("")
                os.replace(unfinished, ticket.job.directory / f"step-{step}")
                yield {"type": "training.log", "step": step, "evalLoss": 2 / step}
                yield {"type": "checkpoint.saved", "step": step, "artifacts": []}
        yield {"type": "training.completed", "artifacts": []}

    def reply(self, job: Optional[Job], step: Optional[int], chat: ChatRequest) -> Iterable[str]:
        if job is None or not (job.directory / f"step-{step or self.steps}").exists():
            raise CheckpointNotFound("there is no such step")
        return [f"step {step or self.steps}"]

    def close(self) -> None:
        self.closed += 1


def _step(path: Path) -> int:
    return int(path.name.partition("-")[2])


def expected(steps: int, first: int = 0) -> List[Tuple[str, Optional[int]]]:
    """Return the type and the step of each event of a whole job."""
    told: List[Tuple[str, Optional[int]]] = [("training.started", None)]
    for step in range(first + 1, steps + 1):
        told.append(("training.log", step))
        if step % SAVED_EVERY == 0:
            told += [("training.log", step), ("checkpoint.saved", step)]
    return [*told, ("training.completed", None)]


def told(job: Job) -> List[Tuple[str, Optional[int]]]:
    """Return the type and the step of each event of a job's log."""
    return [(event["type"], event.get("step")) for event in job.events]
