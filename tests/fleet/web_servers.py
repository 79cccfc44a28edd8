"""The web servers: how each is started with a web application, and asked."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from support.ending import ends_with_us
from support.waiting import PATIENCE, until

APPLICATION = "{application}:application"
RECYCLED = 15  # requests after which a worker is replaced
ASKED = 10.0  # seconds that an answer may take


def _gunicorn(*options: str) -> List[str]:
    recycling = ("--max-requests", str(RECYCLED), "--max-requests-jitter", "5")
    served = ("--bind", "unix:{socket}", "--workers", "2", "--graceful-timeout", "10")
    return [sys.executable, "-m", "gunicorn", APPLICATION, *served, *recycling, *options]


def _uwsgi(*options: str) -> List[str]:
    program = shutil.which("uwsgi", path=sysconfig.get_path("scripts")) or "uwsgi"
    served = ("--http-socket", "{socket}", "--module", APPLICATION, "--home", sys.prefix)
    workers = ("--master", "--processes", "2", "--enable-threads", "--need-app", "--no-orphans")
    ending = ("--die-on-term", "--max-requests", str(RECYCLED), "--worker-reload-mercy", "10")
    return [program, *served, *workers, *ending, *options]


SERVERS: Dict[str, List[str]] = {
    "gunicorn sync": _gunicorn(),
    "gunicorn gthread": _gunicorn("--worker-class", "gthread", "--threads", "4"),
    "gunicorn gevent": _gunicorn("--worker-class", "gevent"),
    "gunicorn preload": _gunicorn("--preload"),
    "uWSGI": _uwsgi(),
    "uWSGI lazy-apps": _uwsgi("--lazy-apps"),
    "waitress": [sys.executable, "-m", "waitress", "--unix-socket={socket}", APPLICATION],
}

KILL_WORKER, KILL_ALL = "kill -9 of a worker", "kill -9 of the whole server"
RELOAD, REDEPLOY = "SIGHUP", "SIGTERM, and a new server"
OF_SERVER = (KILL_WORKER, KILL_ALL, RELOAD, REDEPLOY)


def until_seldom(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for a condition that takes time to look at, and look at it seldom."""
    pause = threading.Event()
    until(lambda: condition() or pause.wait(0.2), patience)


class _Connection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ASKED)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ASKED)
        self.sock.connect(self._path)


class Server:
    """A web server, started again after it was ended.

    Args:
        name: One of `SERVERS`.
        application: The module of a web application.
        directory: Where its socket and its log are.
        environment: Variables of its environment.
    """

    def __init__(
        self, name: str, application: str, directory: Path, environment: Dict[str, str]
    ) -> None:
        self._socket = str(directory / "s")
        self._log = directory / "server.log"
        values = {"socket": self._socket, "application": application}
        self._command = [each.format(**values) for each in SERVERS[name]]
        self._environment = environment
        self._directory = directory
        self._has_master = name != "waitress"
        self.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._socket)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                ends_with_us(self._command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._directory,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        until_seldom(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log[-8000:]
        return self.ask("/") is not None

    def ask(self, path: str) -> Optional[Dict[str, Any]]:
        """Ask once; return None where no whole answer came."""
        connection = _Connection(self._socket)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        assert response.status in (200, 503), self.log[-8000:]
        answer: Dict[str, Any] = json.loads(body)
        return answer

    def disturb(self, kind: str, workers: List[int]) -> None:
        """Have something happen to it; the worker that has answered last is the victim."""
        if kind == KILL_WORKER and self._has_master and workers:
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(workers[-1]) == self._process.pid:  # it was not replaced meanwhile
                    os.kill(workers[-1], signal.SIGKILL)
        elif kind == RELOAD and self._has_master:
            self._process.send_signal(signal.SIGHUP)
        elif kind == REDEPLOY:
            self.stop()
            self.start()
        else:
            self.kill()
            self.start()

    def stop(self) -> None:
        """Stop it as a deployment does."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)

    def kill(self) -> None:
        """Kill all of its processes, as a machine does that loses its power."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
