"""A local Arkor cloud: the same routes, a small trainer that really trains, and faults. Any thread.

It needs only the standard library, listens only on 127.0.0.1, and keeps its state in the object, or
its jobs in a directory.

    from arkor_sync import create_trainer
    from arkor_sync.emulator import Emulator

    with Emulator() as emulator:
        trainer = create_trainer(
            name="first-try",
            model="unsloth/gemma-4-E4B-it",
            dataset={"type": "huggingface", "name": "emulator/sample"},
            max_steps=20,
            client=emulator.client(),
        )
        print(trainer.wait().status)

Programs that make their own client find the emulator by environment variables:

    import os
    from arkor_sync import CloudApiClient
    from arkor_sync.emulator import Emulator

    with Emulator() as emulator:
        os.environ.update(emulator.environment())
        print(CloudApiClient().jobs.list())

`python -m arkor_sync.emulator` runs one for other processes.
"""

from arkor_sync.emulator.emulator import Emulator
from arkor_sync.emulator.engine.base import (
    ChatRequest,
    CheckpointNotFound,
    Engine,
    Ticket,
    TrainingFailed,
)
from arkor_sync.emulator.engine.lora.engine import LoraEngine
from arkor_sync.emulator.engine.ngram import NgramEngine
from arkor_sync.emulator.engine.scenarios import SCENARIOS, scenario
from arkor_sync.emulator.engine.scripted import ScriptedEngine
from arkor_sync.emulator.faults import KINDS, Fault, FaultBook
from arkor_sync.emulator.models import Frame, Job, Project, RecordedRequest, StreamConnection
from arkor_sync.emulator.recording import load_recording, record_sse
from arkor_sync.emulator.settings import Settings

__all__ = [
    "Emulator",
    "Settings",
    # engines
    "Engine",
    "LoraEngine",
    "NgramEngine",
    "ScriptedEngine",
    "ChatRequest",
    "CheckpointNotFound",
    "Ticket",
    "TrainingFailed",
    # scenarios and recordings
    "SCENARIOS",
    "scenario",
    "load_recording",
    "record_sse",
    # faults
    "Fault",
    "FaultBook",
    "KINDS",
    # records
    "Frame",
    "Job",
    "Project",
    "RecordedRequest",
    "StreamConnection",
]
