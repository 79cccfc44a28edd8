"""A site with Celery workers, each a process as `celery worker` starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from arkor_sync import RedisCursorStore
from support.ending import ends_with_us
from support.valkey import Valkey
from support.waiting import PATIENCE, until

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Worker:
    """One `celery worker`, with what it printed."""

    def __init__(self, env: Dict[str, str], *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.log = Path(self._folder.name) / "log"
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-l", "INFO"]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                ends_with_us([*command, "--without-mingle", "--without-gossip", *options]),
                cwd=self._folder.name,
                env=env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(lambda: " ready." in self.text() or self._died())

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def end(self, number: int = signal.SIGTERM) -> str:
        """Send a signal, and wait for the worker to end; return what it has printed."""
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        return self.text()

    def remove(self) -> None:
        """Kill what is left of it, the processes of its pool too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self._folder.cleanup()

    def _died(self) -> bool:
        assert self.process.poll() is None, self.text()
        return False


class Result:
    """What became of a task. It is looked up each time, and leaves nothing behind."""

    def __init__(self, app: Any, task_id: str) -> None:
        self._app = app
        self._id = task_id

    @property
    def state(self) -> str:
        return str(self._app.backend.get_task_meta(self._id, cache=False)["status"])

    def get(self) -> Any:
        """Wait for the task; return its result, or raise its error."""
        until(lambda: self.state in ("SUCCESS", "FAILURE"))
        found = self._app.backend.get_task_meta(self._id, cache=False)["result"]
        if isinstance(found, Exception):
            raise found
        return found

    def terminate(self) -> None:
        self._app.control.revoke(self._id, terminate=True)


class Site:
    """The tasks as a web process calls them, without an import of the app, and the workers.

    Attributes:
        settings: What the app of the workers is told.
    """

    def __init__(self, valkey: Valkey, emulator: Any) -> None:
        from celery import Celery

        self.emulator = emulator
        self.settings: Dict[str, Any] = {"url": valkey.url, "broker": valkey.broker_url}
        self.valkey = valkey.client(decode_responses=True)
        self.store = RedisCursorStore(valkey.url)
        self._app = Celery("site", broker=valkey.broker_url, backend=valkey.broker_url)
        self._workers: List[Worker] = []

    def worker(self, *options: str) -> Worker:
        """Start a worker: `-c 2`, `--pool threads`."""
        made = Worker(
            {
                **os.environ,
                **self.emulator.environment(),
                "SITE": json.dumps(self.settings),
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
            },
            *options,
        )
        self._workers.append(made)
        return made

    def visible_worker(self, *options: str) -> Worker:
        """Start a worker for which each message that is not acknowledged by now was given up.

        A worker looks for such messages when it starts, and then every 100 seconds.
        """
        self.settings["transport"] = {"visibility_timeout": 1}
        newest = max((at for _, at in self.valkey.zscan_iter("unacked_index")), default=0.0)
        until(lambda: time.time() > newest + 1)
        return self.worker(*options)

    def send(self, task: str, *args: Any, **kwargs: Any) -> Result:
        """Queue a task."""
        return Result(self._app, self._app.send_task(f"arkor.{task}", args, kwargs).id)

    def follow(self, job_id: str) -> Result:
        return self.send("follow_task", job_id)

    def steps(self, job_id: str) -> List[int]:
        """The steps whose callback has ended, in order."""
        return [int(step) for step in self.valkey.lrange(f"steps:{job_id}", 0, -1)]

    def begun(self, job_id: str) -> List[int]:
        """The steps whose callback has begun, in order."""
        return [int(step) for step in self.valkey.lrange(f"begun:{job_id}", 0, -1)]

    def pid(self) -> int:
        """The process that called the last callback."""
        return int(self.valkey.lindex("pids", -1))

    def messages(self) -> int:
        """How many messages wait for a worker, or are with one."""
        return int(self.valkey.llen("celery")) + int(self.valkey.hlen("unacked"))

    def shut_down(self) -> None:
        """Tell the workers to end, by a message."""
        self._app.control.shutdown()

    def is_followed(self, job_id: str) -> bool:
        return any(each.expires_in > 0 for each in self.store.holders([job_id]))

    def delivered(self, job_id: str) -> int:
        """How many events are saved as done."""
        return self.store.load(job_id).delivered

    def close(self) -> None:
        for worker in self._workers:
            worker.remove()
        self._app.close()
        self.store.close()
        self.valkey.close()
