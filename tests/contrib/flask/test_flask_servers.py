"""Jobs that a web server has submitted are followed by another process, and outlive the server."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

import pytest
import requests

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.ending import ends_with_us
from support.extras import need
from support.waiting import PATIENCE, until

HERE = Path(__file__).parent
SERVERS = {
    "gunicorn sync": ["gunicorn", "web_app:app", "-b", "127.0.0.1:0", "-w", "2"],
    "gunicorn gthread": [
        *("gunicorn", "web_app:app", "-b", "127.0.0.1:0", "-w", "2"),
        *("-k", "gthread", "--threads", "4", "--preload"),
    ],
    "waitress": ["waitress", "--listen", "127.0.0.1:0", "web_app:app"],
}


@contextlib.contextmanager
def process(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a group of its own, and kill the group at the end."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            ends_with_us([sys.executable, "-m", *command]),
            cwd=HERE,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def notes(database: Path) -> List[str]:
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY id")]


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_a_job_outlives_the_web_server_that_submitted_it(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("flask_sqlalchemy")
    need(SERVERS[server][0])
    database = tmp_path / "shop.db"
    with Emulator(ScriptedEngine(steps=3, manual=True)) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TEST_DATABASE", f"sqlite:///{database}")
        paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        made = "from web_app import app, db; app.app_context().push(); db.create_all()"
        subprocess.run([sys.executable, "-c", made], cwd=HERE, check=True)
        flask = ["flask", "--app", "web_app", "arkor"]
        subprocess.run([sys.executable, "-m", *flask, "create-tables"], cwd=HERE, check=True)

        with process(tmp_path / "web.log", *SERVERS[server]) as web:
            url = until(
                lambda: re.search(
                    r"http://127\.0\.0\.1:[1-9]\d*", (tmp_path / "web.log").read_text()
                )
            )[0]
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(f"{url}/train/order-17", timeout=PATIENCE).json()
                assert session.post(f"{url}/train/order-17", timeout=PATIENCE).json() == answer
            assert emulator.connections() == [], "the web process follows nothing"
            with process(tmp_path / "follow.log", *flask, "follow", "--poll", "0.1") as follower:
                emulator.step(answer["job"], 2)
                until(lambda: notes(database) == ["bot [order-17]: 1"])
                os.killpg(web.pid, signal.SIGKILL)
                web.wait()
                emulator.step(answer["job"], 99)
                whole = [f"bot [order-17]: {each}" for each in (1, 2, 3, "completed")]
                until(lambda: notes(database) == whole)
                follower.send_signal(signal.SIGTERM)
                assert follower.wait(PATIENCE) == 0, (tmp_path / "follow.log").read_text()
        assert list(emulator.jobs) == [answer["job"]]
    assert "Traceback" not in (tmp_path / "follow.log").read_text()


@pytest.mark.slow
def test_the_follower_that_is_killed_is_replaced_and_each_effect_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("flask_sqlalchemy")
    database = tmp_path / "shop.db"
    with Emulator(ScriptedEngine(steps=9, manual=True)) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TEST_DATABASE", f"sqlite:///{database}")
        monkeypatch.setenv("TEST_TTL", "1")
        paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        made = (
            "from web_app import app, db; app.app_context().push(); db.create_all(); "
            "app.test_cli_runner().invoke(args=['arkor', 'create-tables']); "
            "print(app.test_client().post('/train/order-17').json['job'])"
        )
        job_id = subprocess.run(
            [sys.executable, "-c", made], cwd=HERE, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        flask = ["flask", "--app", "web_app", "arkor", "follow", "--poll", "0.1"]
        for step in range(1, 6):
            with process(tmp_path / f"{step}.log", *flask):
                emulator.step(job_id, 2 if step == 1 else 1)
                until(lambda step=step: len(notes(database)) >= step)  # and then it is killed
        with process(tmp_path / "last.log", *flask):
            emulator.step(job_id, 99)
            until(lambda: notes(database)[-1:] == ["bot [order-17]: completed"])
        whole = [*range(1, 10), "completed"]
        assert notes(database) == [f"bot [order-17]: {each}" for each in whole]
