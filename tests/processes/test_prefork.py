"""Runs inside a prefork server: gunicorn with two workers, loaded before the fork and after it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
import requests
from children import COMMAND, PYTHONPATH

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.hang_phases import Cloud, cloud_of
from support.waiting import PATIENCE, until

GRACEFUL = 10.0  # seconds that gunicorn gives its workers to end
LOADS = pytest.mark.parametrize("preload", [False, True], ids=["in the workers", "preloaded"])


class Server:
    """A running gunicorn."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        until(lambda: self._said("Listening at: (http://.*?) ") and self._said("Booting worker", 2))
        self.url = self._said("Listening at: (http://.*?) ")[0]

    @property
    def log(self) -> str:
        return self._log.read_text()

    def get(self, path: str) -> Dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer: Dict[str, Any] = session.get(self.url + path, timeout=PATIENCE).json()
        return answer

    def get_from_both_workers(self, path: str, meanwhile: Any) -> List[Dict[str, Any]]:
        """Ask twice at the same time; each worker serves one request at a time."""
        answers: List[Dict[str, Any]] = []
        asking = [
            threading.Thread(target=lambda: answers.append(self.get(path)), daemon=True)
            for _ in range(2)
        ]
        for thread in asking:
            thread.start()
        meanwhile()
        for thread in asking:
            thread.join(PATIENCE)
        assert len({answer["pid"] for answer in answers}) == 2
        return answers

    def stop(self) -> float:
        """Stop it as a deployment does; return the seconds it took."""
        workers = [int(pid) for pid in self._said(r"Booting worker with pid: (\d+)")]
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.log
        took = time.monotonic() - began
        for pid in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        complaints = re.findall(r"Traceback|Warning|Exception|ERROR|CRITICAL|SIGKILL", self.log)
        # Gunicorn leaves its listening socket unclosed. Both workers say so at the same time, and
        # their lines can be mixed: so words are counted, not lines dropped.
        own = f"unclosed <socket.*laddr=\\('127.0.0.1', {self.url.rpartition(':')[2]}\\)>"
        expected = len(re.findall(own, self.log))
        assert sorted(complaints) == ["Exception"] * expected + ["Warning"] * expected, self.log
        return took

    def _said(self, pattern: str, times: int = 1) -> List[str]:
        found = re.findall(pattern, self.log)
        return found if len(found) >= times else []


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=3, manual=True)) as emulator:
        yield emulator
        assert emulator.errors == []


@pytest.fixture
def cloud(emulator: Emulator) -> Cloud:
    """A cloud with one job, which does not end."""
    return cloud_of(emulator, emulator.create_job(ScriptedEngine(steps=5, silent_at=2)))


@contextlib.contextmanager
def gunicorn(cloud: Cloud, directory: Path, preload: bool, **environment: str) -> Iterator[Server]:
    log = directory / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *COMMAND,
                *("-m", "gunicorn", "prefork_app:application"),
                *("--workers", "2", "--bind", "127.0.0.1:0"),
                *("--graceful-timeout", str(int(GRACEFUL))),
                *(["--preload"] if preload else []),
            ],
            cwd=directory,
            stdout=output,
            stderr=output,
            env={
                **os.environ,
                "PYTHONPATH": PYTHONPATH,
                "TEST_CLOUD": json.dumps(vars(cloud)),
                **environment,
            },
        )
        try:
            yield Server(process, log)
        finally:
            process.kill()
            process.wait()


@LOADS
def test_workers_follow_runs_and_stop_cleanly(
    emulator: Emulator, cloud: Cloud, tmp_path: Path, preload: bool
) -> None:
    def train_them() -> None:
        for job_id in emulator.wait_for(two_more_jobs, PATIENCE):
            if job_id != cloud.job_id:
                emulator.step(job_id, 99)

    def two_more_jobs() -> Any:
        return emulator.jobs if len(emulator.jobs) == 3 else None

    with gunicorn(cloud, tmp_path, preload) as server:
        answers = server.get_from_both_workers("/train", train_them)
        assert len({answer["job"] for answer in answers}) == 2
        assert [(a["status"], a["steps"]) for a in answers] == [("completed", [1, 2, 3])] * 2
        server.get("/keep")
        emulator.wait_for(lambda: emulator.open_streams, PATIENCE)
        assert server.stop() < GRACEFUL
        assert f"job {cloud.job_id} goes on; follow({cloud.job_id!r}) attaches to it" in server.log
    emulator.wait_for(lambda: not emulator.open_streams, PATIENCE)


def test_a_run_that_the_master_follows_is_refused_in_its_workers(
    emulator: Emulator, cloud: Cloud, tmp_path: Path
) -> None:
    with gunicorn(cloud, tmp_path, preload=True, TEST_FOLLOW_AT_IMPORT="1") as server:
        answer = server.get("/inherited")
        assert answer["error"] == "ForkedRunError"
        assert f"followed by process {server.process.pid}" in answer["text"]
        emulator.wait_for(emulator.connections, PATIENCE)
        assert server.stop() < GRACEFUL
    assert len(emulator.connections()) == 1
