"""What a file trains, told by a child process that runs the file. Any thread.

The file is code of the user: it is never run in the process of the server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from arkor_sync._common.text import safe_line
from arkor_sync.errors import ArkorUsageError, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from arkor_sync.studio.child import Child

_ASKS = (
    "the file asks the cloud for something while it is read, and Studio only reads it; put that "
    'below `if __name__ == "__main__":`'
)
_LARGEST = 64_000  # bytes of an answer


@dataclass(frozen=True)
class TrainerFacts:
    """What a file trains.

    Attributes:
        name: The name of the job.
        model: The model that is trained.
        problem: Why that is not known; empty if it is.
    """

    name: str = ""
    model: str = ""
    problem: str = ""


def start_reading(file: Path, folder: Path) -> Child:
    """Start the child process that reads a file.

    Raises:
        OSError: The system can start no other process.
    """
    from arkor_sync.studio.child import Child

    return Child(["arkor_sync.studio.trainer_facts", str(file)], folder, subprocess.DEVNULL)


def told_by(child: Child, patience: float) -> TrainerFacts:
    """Wait for what a child process tells, and end it.

    Args:
        child: As `start_reading` returned it.
        patience: Seconds.
    """
    with child.output as output:
        code = child.wait(patience)
        child.kill()
        if code is None:
            child.wait()
            return TrainerFacts(problem=f"the file was not read within {patience:g} s")
        answer = output.read(_LARGEST)
    try:
        told = json.loads(answer)
        return TrainerFacts(**{name: safe_line(text) for name, text in told.items()})
    except (ValueError, TypeError, AttributeError):
        return TrainerFacts(problem=f"the process that read the file ended with exit code {code}")


def main(arguments: List[str]) -> None:
    """Run a file, print what it trains as JSON, and end the process."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what the file prints is no answer
    try:
        told = _facts(arguments[0])
    except BaseException as error:
        told = {"problem": text_of(error) if isinstance(error, Exception) else repr(error)}
    os.write(answers, json.dumps(told).encode()[:_LARGEST])
    os._exit(0)  # whatever threads the file has started


def _facts(file: str) -> Dict[str, Any]:
    from arkor_sync.cloud.transport import Transport
    from arkor_sync.manifest import load_project

    def refuse(*_: Any, **__: Any) -> Any:
        raise ArkorUsageError(_ASKS)

    # A file that trains when it is read would start a job whenever somebody looks at the page.
    Transport.request = refuse  # type: ignore[method-assign]
    trainer: Optional[Any] = load_project(file).trainer
    if trainer is None:
        return {"problem": "the manifest has no trainer; give create_arkor(trainer=...)"}
    return {"name": trainer.name, "model": str(trainer.config.get("model", ""))}


if __name__ == "__main__":
    main(sys.argv[1:])
