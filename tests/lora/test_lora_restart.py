"""The emulator is killed while it trains, and another carries on with its jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest
from jobs import names, until_ended
from talks import load_base
from trainings import MODEL, dataset_of, train

from arkor_sync import Callbacks, CloudApiClient, LoraConfig, ReconnectPolicy, create_trainer
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.project import ProjectState
from support.ending import ends_with_us

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's"),
]

SERVE = """
import json, sys
from arkor_sync.emulator import Emulator, LoraEngine
model, state, port = sys.argv[1:]
engine = LoraEngine(model, device="cpu", threads=1)
emulator = Emulator(engine, state_dir=state, port=int(port)).start()
print(json.dumps(emulator.environment()), flush=True)
sys.stdin.read()
"""
NOTHING_OF_IT = """
import sys
from arkor_sync.emulator import Emulator, LoraEngine
with Emulator(LoraEngine(sys.argv[1], device="cpu", threads=1)) as emulator:
    url = sys.argv[2]
    config = {"model": "m", "datasetSource": {"type": "blob", "url": url}, "maxSteps": 2}
    job_id = emulator.create_job(config=config)
    job = emulator.jobs[job_id]
    emulator.wait_for(lambda: job.terminal, timeout=120)
    messages = [{"role": "user", "content": "hi"}]
    reply = emulator.client().chat(messages, job=job.id)
    print(job.status, len("".join(reply)) > 0)
large = ("torch", "transformers", "peft", "numpy", "safetensors", "llguidance", "gguf")
print([name for name in large if name in sys.modules])
"""


class Server:
    """A process with an emulator, which can be killed and started again."""

    def __init__(self, model: Path, state: Path) -> None:
        self._model = model
        self._state = state
        self._process: Optional[subprocess.Popen[str]] = None
        self.environment: Dict[str, str] = {}

    def start(self) -> None:
        port = self.environment.get("ARKOR_CLOUD_API_URL", ":0").rpartition(":")[2]
        command = [sys.executable, "-c", SERVE, str(self._model), str(self._state), port]
        self._process = subprocess.Popen(
            ends_with_us(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.environment = json.loads(self._process.stdout.readline())

    @property
    def child(self) -> int:
        """The process that trains."""
        assert self._process is not None
        pid = self._process.pid
        (child,) = (
            Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or self._of_threads()
        )
        return int(child)

    def _of_threads(self) -> List[str]:
        assert self._process is not None
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        return [child for task in tasks for child in task.read_text().split()]

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "model", tmp_path / "state")
    yield made
    made.kill()


def test_a_job_outlives_its_emulator_and_is_what_it_would_have_been(
    server: Server, tmp_path: Path
) -> None:
    base = load_base(tmp_path / "model")
    data = dataset_of(tmp_path)
    expected = train(
        base,
        tmp_path / "whole",
        datasetSource=data,
        loraR=4,
        loraDropout=0.2,
        maxSteps=40,
        saveSteps={"steps": 5},
    )
    server.start()
    given = server.environment
    scope = ProjectState(given["ARKOR_ORG"], given["ARKOR_PROJECT"], given["ARKOR_PROJECT_ID"])
    client = CloudApiClient(
        base_url=given["ARKOR_CLOUD_API_URL"],
        credentials=TokenCredentials(given["ARKOR_TOKEN"]),
        scope=scope,
    )
    losses: Dict[int, List[float]] = {}
    saved: List[int] = []
    kills = [3, 22]  # before the first checkpoint, too
    ended: List[threading.Thread] = []

    def on_log(ctx: Any) -> None:
        losses.setdefault(ctx.step, []).append(ctx.loss)
        if kills and ctx.step >= kills[0]:
            kills.pop(0)
            child = server.child
            os.kill(child, signal.SIGSTOP)  # so that it cannot be ahead of what was told
            server.kill()
            os.kill(child, signal.SIGCONT)
            until_ended(child)
            ended.append(threading.current_thread())
            server.start()

    result = create_trainer(
        name="n",
        model=MODEL,
        dataset=data,
        max_steps=40,
        save_steps=5,
        lora=LoraConfig(r=4, alpha=16),
        extra={"loraDropout": 0.2},
        client=client,
        reconnect=ReconnectPolicy(base=0.05, cap=0.2),
        callbacks=Callbacks(on_log=on_log, on_checkpoint=lambda ctx: saved.append(ctx.step)),
    ).wait(240)
    assert result.status == "completed", result
    assert len(ended) == 2
    assert {step: [loss] for step, loss in expected.losses.items()} == losses
    assert saved == [5, 10, 15, 20, 25, 30, 35, 40]
    directory = tmp_path / "state" / result.job.id
    assert names(directory) == sorted(
        ["events.jsonl", "final", "job.json", *[f"checkpoint-{step}" for step in saved]]
    )
    weights = "adapter_model.safetensors"
    whole = (tmp_path / "whole" / "final" / weights).read_bytes()
    assert (directory / "final" / weights).read_bytes() == whole


def test_nothing_of_the_libraries_is_in_the_process_that_asks(tmp_path: Path) -> None:
    base = load_base(tmp_path / "model")
    url = dataset_of(tmp_path)["url"]
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_OF_IT, str(base.folder), url],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["completed True", "[]"]
