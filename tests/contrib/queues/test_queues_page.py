"""The programs of the page on other queues, each with a real worker of its library."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from arkor_sync import RedisCursorStore
from arkor_sync.emulator import Emulator
from arkor_sync.emulator.engine.scripted import ScriptedEngine
from support.ending import ends_with_us
from support.extras import need
from support.valkey import Valkey
from support.waiting import PATIENCE, until

need("redis")

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "arkor_sync" / "contrib" / "queues.md").read_text("utf-8")
PROGRAMS = dict(re.findall(r"^## (\S+)\n.*?```py\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))

RQ = "from rq.cli import main; main()"
HUEY = "from huey.bin.huey_consumer import consumer_main; consumer_main()"
WORKERS = {
    "RQ": ("rq", ["-c", RQ, "worker", "training", "--with-scheduler", "--url", "URL"]),
    "Dramatiq": ("dramatiq", ["-m", "dramatiq", "jobs", "--processes", "1", "--threads", "2"]),
    "Huey": ("huey", ["-c", HUEY, "jobs.huey", "-w", "2", "-d", "0.1"]),
}
BEGIN = {
    "RQ": "jobs.queue.enqueue(jobs.follow_job, job_id)",
    "Dramatiq": "jobs.follow_job.send(job_id)",
    "Huey": "jobs.follow_job(job_id)",
}
DJANGO = """
import sys
from django.conf import settings
BACKEND = "django.tasks.backends.immediate.ImmediateBackend"
settings.configure(TASKS={"default": {"BACKEND": BACKEND}}, USE_TZ=True)
import django
django.setup()
import jobs
print(jobs.follow_job.enqueue(sys.argv[1]).return_value)
"""


class Place:
    """A folder with the program as `jobs.py`, and what runs it."""

    def __init__(self, name: str, folder: Path, valkey: Valkey, emulator: Emulator) -> None:
        program = PROGRAMS[name]
        assert "SECONDS = 60" in program
        (folder / "jobs.py").write_text(program.replace("SECONDS = 60", "SECONDS = 0.5"))
        self._folder = folder
        self._log = folder / "log"
        self._url = valkey.url
        self._env = {
            **os.environ,
            **emulator.environment(),
            "REDIS_URL": valkey.url,
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        }

    def run(self, code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self._folder,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @contextlib.contextmanager
    def worker(self, command: List[str]) -> Iterator[None]:
        with self._log.open("w") as out:
            process = subprocess.Popen(
                ends_with_us(
                    [sys.executable, *(each.replace("URL", self._url) for each in command)]
                ),
                cwd=self._folder,
                env=self._env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)

    def steps(self) -> List[int]:
        return [int(step) for step in re.findall(r"step (\d+) ", self._log.read_text("utf-8"))]


def test_the_page_has_a_program_for_each_queue() -> None:
    assert set(PROGRAMS) == {*WORKERS, "django.tasks"}


@pytest.mark.slow
@pytest.mark.arkor(engine=ScriptedEngine(steps=6, manual=True))
@pytest.mark.parametrize("name", WORKERS)
def test_a_job_is_followed_in_slices(
    valkey: Valkey, arkor_emulator: Any, tmp_path: Path, name: str
) -> None:
    module, command = WORKERS[name]
    need(module)
    place = Place(name, tmp_path, valkey, arkor_emulator)
    store = RedisCursorStore(valkey.url)
    job_id = arkor_emulator.create_job()
    with place.worker(command):
        for _ in range(2):  # a message that comes twice does no harm
            place.run(f"import sys, jobs; job_id = sys.argv[1]; {BEGIN[name]}", job_id)
        arkor_emulator.step(job_id, 3)
        until(lambda: store.load(job_id).delivered == 3)
        (holder,) = store.holders([job_id])
        until(lambda: store.holders([job_id])[0].epoch > holder.epoch)  # another slice
        arkor_emulator.step(job_id, 10)
        until(lambda: store.load(job_id).finished)
    assert place.steps() == [1, 2, 3, 4, 5, 6]
    store.close()


@pytest.mark.arkor(engine=ScriptedEngine(steps=3))
def test_a_task_of_django_follows_to_the_end_where_it_runs_at_once(
    valkey: Valkey, arkor_emulator: Any, tmp_path: Path
) -> None:
    need("django")
    try:
        import django.tasks  # noqa: F401
    except ModuleNotFoundError:
        pytest.skip("Django has tasks from 6.0 on")
    place = Place("django.tasks", tmp_path, valkey, arkor_emulator)
    printed = place.run(DJANGO, arkor_emulator.create_job())
    assert re.findall(r"step (\d) ", printed) == ["1", "2", "3"]
    assert printed.endswith("completed\n")
