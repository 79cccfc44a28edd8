"""Jobs of an emulator whose engine trains a tiny model in a child process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Optional

from trainings import Trained

from arkor_sync.emulator import Emulator, LoraEngine
from support.emulator_client import MODEL
from support.waiting import until

CHILD_IS_QUICK = 20.0  # seconds
NO_PING = {"ping_interval": 3600.0}  # a child that starts anew is silent for longer than 15 s


def engine_of(model: Path, **options: Any) -> LoraEngine:
    return LoraEngine(model, **{"device": "cpu", "threads": 1, **options})


def child_of(emulator: Emulator) -> Optional[int]:
    """Return the process id of the engine's child, if it has one."""
    child = emulator.engine._child  # type: ignore[attr-defined]
    return child.pid if child is not None and child.alive else None


def is_running(pid: int) -> bool:
    """Whether a process has not ended. One that nobody has waited for has."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def finished(emulator: Emulator, job_id: str) -> Trained:
    """Wait for the end of a job; return its events."""
    job = emulator.jobs[job_id]
    emulator.wait_for(lambda: job.terminal, timeout=120)
    return Trained(job.events)


def failure(emulator: Emulator, job_id: str) -> str:
    """Wait for a job to fail; return why."""
    finished(emulator, job_id)
    job = emulator.jobs[job_id]
    assert job.status == "failed", job
    assert job.events[-1]["type"] == "training.failed"
    assert job.events[-1]["error"] == job.error
    return str(job.error)


def create(emulator: Emulator, data: Dict[str, Any], **config: Any) -> str:
    return emulator.create_job(config={"model": MODEL, "datasetSource": data, **config})


def until_step(emulator: Emulator, job_id: str, step: int) -> None:
    """Wait until a job has told of a step."""
    job = emulator.jobs[job_id]
    emulator.wait_for(lambda: (job.step or 0) >= step or job.terminal, timeout=120)
    assert not job.terminal, job


def names(folder: Path) -> List[str]:
    return sorted(each.name for each in folder.iterdir())


def until_ended(pid: int, seconds: float = CHILD_IS_QUICK) -> None:
    until(lambda: not is_running(pid), seconds)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
