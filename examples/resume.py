"""Carry on after a crash: no event is lost, and at most the one in flight comes twice.

    python examples/resume.py

It follows a run of a local Arkor in a child process, which it kills (SIGKILL) in the middle; then
it follows the same job itself. What both share is a folder: `FileCursorStore` keeps there which
events the callbacks are done with, and, as one with it, the callbacks' own state.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from arkor_sync import (
    ArkorError,
    Callback,
    FileCursorStore,
    LogContext,
    create_trainer,
    follow,
)
from arkor_sync.emulator import Emulator, NgramEngine

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
STEPS = 100


class Tally(Callback):
    """Counts the steps. Its state goes where the position goes, so the count is exact."""

    def __init__(self) -> None:
        self.count = 0
        self.steps: List[int] = []  # what this process was told

    def on_log(self, ctx: LogContext) -> None:
        """Count a step, and tell it to whoever reads the child's output."""
        self.count += 1
        self.steps.append(ctx.step)
        if len(sys.argv) > 1:
            print(ctx.step, flush=True)

    def state_dict(self) -> Dict[str, Any]:
        """Return what is kept after each event."""
        return {"count": self.count}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take it over in another process."""
        self.count = state["count"]


def carry_on(job_id: str, folder: str) -> Tally:
    """Follow a job to its end, from wherever the process before has got to."""
    tally = Tally()
    run = follow(job_id, callbacks=tally, cursor_store=FileCursorStore(folder))
    run.wait().raise_for_status()
    return tally


def steps_of_a_killed_process(*arguments: str) -> List[int]:
    """Run `carry_on` in another process, and kill it in the middle."""
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        steps = []
        for line in child.stdout:
            steps.append(int(line))
            if len(steps) == 40:
                child.kill()
    if child.returncode != -signal.SIGKILL:
        sys.exit("the child has ended before it could be killed")
    print(f"process {child.pid} was told steps {steps[0]} to {steps[-1]}, and was killed")
    return steps


def main() -> int:
    engine = NgramEngine(manual=True)  # it trains when it is told to, however fast the child is
    with Emulator(engine) as emulator, tempfile.TemporaryDirectory() as folder:
        os.environ.update(emulator.environment())  # the child inherits it
        trainer = create_trainer(
            name="support-triage",
            model="unsloth/gemma-4-E4B-it",
            dataset=DATA,
            max_steps=STEPS,
            logging_steps=1,
        )
        job_id = trainer.start().id
        emulator.step(job_id, STEPS // 2)  # so that the child cannot come to the end
        before = steps_of_a_killed_process(job_id, folder)
        emulator.step(job_id, 2 * STEPS)  # all that is left
        tally = carry_on(job_id, folder)

    print(f"process {os.getpid()} was told steps {tally.steps[0]} to {tally.steps[-1]}")
    told = before + tally.steps
    lost = set(range(1, STEPS + 1)) - set(told)
    twice = [step for step in sorted(set(told)) if told.count(step) > 1]
    print(f"lost: {sorted(lost) or 'none'}; told twice: {twice or 'none'}")
    print(f"the callback counted {tally.count} steps")
    return 0 if not lost and len(twice) <= 1 and tally.count == STEPS else 1


if __name__ == "__main__":
    try:
        if len(sys.argv) > 1:
            carry_on(*sys.argv[1:])
            sys.exit()
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except ArkorError as error:
        sys.exit(f"error: {error}")
