"""Weights & Biases in its offline mode, read back from the file that it would send later.

Each test is a process of its own: what wandb keeps for a process is not for a test to tidy up.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from wandb.proto import wandb_internal_pb2

from arkor_sync.emulator import ScriptedEngine
from support.logger_runs import EVENTS

PREPARED = """
import logging, os, signal, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor

from arkor_sync import CloudApiClient, follow
from arkor_sync.handlers import WandbLogger

logging.basicConfig(format="%(message)s")
client = CloudApiClient()

def train(job_id, *callbacks):
    return follow(job_id, client=client, callbacks=callbacks).wait(60).status
"""


def in_a_process(code: str, emulator: Any, folder: Path, *job_ids: str) -> Any:
    environment = {**emulator.environment(), "WANDB_MODE": "offline", "WANDB_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + code, *job_ids],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


def records_in(folder: Path, run_id: str) -> List[Any]:
    """Read W&B's file: LevelDB's format of a log, in blocks of 32 KiB."""
    [path] = folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb")
    data, start, whole, records = path.read_bytes(), 7, b"", []
    while start + 7 <= len(data):
        if 32768 - start % 32768 < 7:
            start += 32768 - start % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, start)
        whole += data[start + 7 : start + 7 + size]
        start += 7 + size
        if kind in (1, 4):  # all of it, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            records.append(record)
            whole = b""
    return records


def of_type(records: List[Any], kind: str) -> List[Any]:
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def items(updates: Any) -> Dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


def history_in(records: List[Any]) -> List[Dict[str, Any]]:
    rows = [items(history.item) for history in of_type(records, "history")]
    hidden = ("_timestamp", "_runtime", "_wandb")
    return [{name: row[name] for name in row if not name.startswith(hidden)} for row in rows]


@pytest.fixture
def job_id(arkor_emulator: Any) -> str:
    source = {"type": "blob", "url": "https://host/data", "token": "s3cret"}
    config = {"model": "unsloth/gemma-4-E4B-it", "datasetSource": source, "maxSteps": 3}
    made: str = arkor_emulator.create_job(config=config, name="a run")
    return made


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_run_is_a_wandb_run_with_the_jobs_id(
    arkor_emulator: Any, job_id: str, tmp_path: Path
) -> None:
    code = """
logger = WandbLogger("triage", "first try")
again = {"on_started": logger.on_started, "on_log": logger.on_log}
print(train(sys.argv[1], logger, again), logger._runs)
"""
    done = in_a_process(code, arkor_emulator, tmp_path, job_id)
    assert done.stdout == "completed {}\n"
    records = records_in(tmp_path, job_id)
    first = {"loss": 3.0, "learning_rate": 0.001, "gradNorm": 0.5, "eval_loss": 3.125}
    assert history_in(records) == [
        {"_step": 1, **first},
        {"_step": 2, "loss": 2.5},
        {"_step": 3, "loss": 2.0, "eval_loss": 2.25},
    ]
    run = of_type(records, "run")[0]
    assert (run.run_id, run.project, run.display_name) == (job_id, "triage", "first try")
    config: Dict[str, Any] = {}
    for update in [run.config, *of_type(records, "config")]:
        config.update(items(update.update))
    assert config["maxSteps"] == 3
    assert config["datasetSource.url"] == "https://host/data"
    assert "s3cret" not in json.dumps(config)
    assert [each.exit_code for each in of_type(records, "exit")] == [0]


@pytest.mark.arkor(engine=ScriptedEngine(fails_at=2))
def test_a_failed_run_has_an_exit_code(arkor_emulator: Any, job_id: str, tmp_path: Path) -> None:
    code = "print(train(sys.argv[1], WandbLogger()))"
    assert in_a_process(code, arkor_emulator, tmp_path, job_id).stdout == "failed\n"
    records = records_in(tmp_path, job_id)
    assert [each.exit_code for each in of_type(records, "exit")] == [1]


@pytest.mark.arkor(engine=ScriptedEngine(steps=30))
def test_two_runs_at_once_are_two_wandb_runs(arkor_emulator: Any, tmp_path: Path) -> None:
    jobs = [arkor_emulator.create_job(name=name) for name in ("one", "two")]
    code = """
logger = WandbLogger()
with ThreadPoolExecutor(2) as pool:
    print(*pool.map(lambda job_id: train(job_id, logger), sys.argv[1:]))
"""
    done = in_a_process(code, arkor_emulator, tmp_path, *jobs)
    assert done.stdout == "completed completed\n"
    for job in jobs:
        history = history_in(records_in(tmp_path, job))
        assert [row["_step"] for row in history] == list(range(1, 31))


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_finish_that_hangs_does_not_hold_the_run_up(
    arkor_emulator: Any, job_id: str, tmp_path: Path
) -> None:
    code = """
let_go, ended = threading.Event(), threading.Event()
from wandb.sdk.wandb_run import Run
finish = Run.finish

def hang(self, exit_code=None):
    let_go.wait(30)
    finish(self, exit_code)
    ended.set()

Run.finish = hang
print(train(sys.argv[1], WandbLogger(flush_timeout=0.05)), ended.is_set())
let_go.set()
print(ended.wait(30))
"""
    done = in_a_process(code, arkor_emulator, tmp_path, job_id)
    assert done.stdout == "completed False\nTrue\n"
    assert re.search(r"WandbLogger: .+ of job .+ not delivered within 0\.1 s: ", done.stderr)


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_wandb_process_that_dies_in_the_middle_does_not_harm_the_run(
    arkor_emulator: Any, job_id: str, tmp_path: Path
) -> None:
    code = """
from pathlib import Path

logger = WandbLogger(flush_timeout=1.0)
killed = []

def its_processes():
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = path.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            command = path.joinpath("cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if parent == str(os.getpid()) and b"wandb-core" in command:
            yield int(path.name)

def on_log(ctx):
    if ctx.step == 2:
        assert logger._states._states[ctx.job.id].outbox.flush(20)
        for pid in its_processes():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

print(train(sys.argv[1], logger, {"on_log": on_log}), len(killed), flush=True)
os._exit(0)  # how wandb leaves a program is its own business
"""
    done = in_a_process(code, arkor_emulator, tmp_path, job_id)
    assert done.stdout == "completed 1\n"
