"""A system without the modules and functions that only POSIX has, as Windows is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, List

from support.waiting import PATIENCE

# The standard library and the dependencies have found out what the system has when they are
# imported, so they come first.
WITHOUT = """
import asyncio, json, multiprocessing, os, select, signal, socket, ssl, subprocess, sys, tempfile
import backoff, dataclasses_json, pytest, requests, sseclient

BLOCKED = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}

class Block:
    def find_spec(self, name, path=None, target=None):
        if name in BLOCKED:
            raise ModuleNotFoundError(name)

for name in BLOCKED:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Block())
MISSING = {
    os: "O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK chown fchmod fchown fork forkpty "
    "geteuid getgid getpgid getuid getxattr killpg listxattr mkfifo pread pwrite register_at_fork "
    "sched_getaffinity setsid setxattr",
    select: "epoll poll",
    signal: "SIGALRM SIGHUP SIGKILL SIGUSR1 pthread_kill setitimer",
    socket: "AF_UNIX socketpair",
}
for module, names in MISSING.items():
    for name in filter(lambda name: hasattr(module, name), names.split()):
        delattr(module, name)
"""

IMPORTS = """
import importlib.util, pathlib, arkor_sync
root = pathlib.Path(arkor_sync.__file__).parent
files = [each.relative_to(root.parent).with_suffix("") for each in sorted(root.rglob("*.py"))]
names = [".".join(each.parts).removesuffix(".__init__") for each in files]
# Django's models cannot be imported without a site, and PyTorch looks for what is missing here.
of_an_extra = ("arkor_sync.contrib.", "arkor_sync.emulator.engine.lora.")
if not importlib.util.find_spec("flask"):
    of_an_extra += ("arkor_sync.studio.",)
if not importlib.util.find_spec("click"):
    of_an_extra += ("arkor_sync.cli.",)
names = [name for name in names if not name.startswith(of_an_extra)]
imported = [importlib.import_module(name).__name__ for name in names]
for name in arkor_sync.__all__:
    getattr(arkor_sync, name)
print(json.dumps(imported))
"""

USES = """
from arkor_sync import *
from arkor_sync.history import History
try:
    FileCursorStore("cursors").lease("job-1")
except CursorStoreError as error:
    refused = str(error)
state = ProjectState("org", "project", "id")
write_project_state(state)
write_project_state(state)
path = credentials_path()
write_credentials(AnonymousCredentials("secret", "id", None, "org"))
History().to_csv("history.csv")
print(json.dumps([refused, read_project_state() == state, read_credentials().bearer]))
"""


def without_posix(code: str, folder: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    imported: List[str] = without_posix(IMPORTS, tmp_path)
    assert {"arkor_sync.run", "arkor_sync.stores.files", "arkor_sync.emulator"} <= set(imported)


def test_what_needs_flock_says_so_and_the_rest_works(tmp_path: Path) -> None:
    refused, same, bearer = without_posix(USES, tmp_path)
    assert "cannot be locked: this system has no flock" in refused
    assert (same, bearer) == (True, "secret")
    assert (tmp_path / "history.csv").exists()
