"""PgBouncer in transaction mode before a PostgreSQL: Debian's package `pgbouncer`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from support.postgres import USER, Postgres, name_of
from support.waiting import PATIENCE, until

_SETTINGS = """
[databases]
* = host={host}

[pgbouncer]
pool_mode = transaction
default_pool_size = {connections}
listen_addr =
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
logfile = {directory}/log
"""


@contextmanager
def pgbouncer(server: Postgres, url: str, connections: int) -> Iterator[str]:
    """Give all transactions on a database a few connections of the server; yield the URL of it.

    The test is skipped where it is not installed, or fails where ARKOR_EXTRAS=all.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        assert os.environ.get("ARKOR_EXTRAS") != "all", "pgbouncer is not installed"
        pytest.skip("this test needs pgbouncer")
    directory = Path(tempfile.mkdtemp(prefix="arkor-pgb-", dir="/tmp"))
    settings = {"host": server.host, "connections": connections, "directory": directory}
    (directory / "settings").write_text(_SETTINGS.format(**settings))
    (directory / "users").write_text(f'"{USER}" ""\n')
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it does not run as root
    if as_user:
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, "nobody")
    command = [program, "-q", *as_user, str(directory / "settings")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: list(directory.glob(".s.PGSQL.*")) or process.poll() is not None)
        assert process.poll() is None, (directory / "log").read_text()
        yield f"postgresql://{USER}@/{name_of(url)}?host={directory}&port=6432"
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            shutil.rmtree(directory)
