"""The package as a whole: what importing it does, and what its public names are."""

from __future__ import annotations

import ast
import configparser
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import arkor_sync

ROOT = Path(__file__).resolve().parents[2]


def in_a_fresh_interpreter(code: str) -> str:
    """Run code with every warning an error, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_starts_nothing_opens_nothing_and_loads_nothing_slow() -> None:
    code = """
import requests, sys
opened = []
sys.addaudithook(lambda event, args: opened.append((event, args)) if active else None)
active = True
import arkor_sync
active = False
import json, threading
touched = [str(a[0]) for e, a in opened if e == "open" and not str(a[0]).endswith((".py", ".pyc"))]
started = [e for e, a in opened if e.startswith(("socket.", "_thread.", "subprocess.", "os.mkdir"))]
slow = [m for m in ("dataclasses_json", "marshmallow", "backoff", "asyncio", "arkor_sync.emulator")
        if m in sys.modules]
print(json.dumps([touched, started, slow, threading.active_count()]))
"""
    touched, started, slow, threads = json.loads(in_a_fresh_interpreter(code))
    assert touched == []
    assert started == []
    assert slow == []
    assert threads == 1


def test_importing_costs_little_on_top_of_requests() -> None:
    """Best of several: other load on the machine can only make it look slower."""
    code = """
import requests, time
before = time.process_time()
import arkor_sync
print(time.process_time() - before)
"""
    assert any(float(in_a_fresh_interpreter(code)) < 0.1 for _ in range(10))


def test_every_public_name_is_there_and_documented() -> None:
    for name in arkor_sync.__all__:
        value = getattr(arkor_sync, name)
        if isinstance(value, type) or inspect.isfunction(value):
            assert value.__doc__, f"{name} has no docstring"


def test_the_core_needs_four_packages() -> None:
    """urllib3 comes with requests: a bound of ours would shut out programs that need 1.26."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = dict(line.split(">=") for line in setup["options"]["install_requires"].split())
    assert set(needed) == {"requests", "sseclient-py", "dataclasses-json", "backoff"}
    # Older ones send a .netrc's password to other hosts, and stop checking certificates.
    assert tuple(map(int, needed["requests"].split("."))) >= (2, 32, 4)


def test_the_readme_and_ci_run_the_same_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    noxfile = (ROOT / "noxfile.py").read_text()
    commands = re.findall(r"^pip install .* && python .*$", readme, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert f'"{command}"' in noxfile


def test_the_example_imports_only_what_is_public() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("arkor_sync"):
                public = ("arkor_sync", "arkor_sync.emulator", "arkor_sync.handlers")
                assert node.module in public, path
