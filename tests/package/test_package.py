"""The package as a whole: what importing it does, and which module may import which."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest

import arkor_sync

PACKAGE = Path(arkor_sync.__file__).parent
ROOT = Path(__file__).resolve().parents[2]

# The floors of the house, the lowest first. A module imports from its own floor and those below.
FLOORS: List[Set[str]] = [
    {"_version", "errors"},
    {"_json", "_record", "callback_names", "frames", "events", "job_config", "models"},
    {"bursts", "error_policy", "reconnect", "client_version", "chat_request", "_files"},
    {"stream"},
    {"exchange", "chat", "credentials", "oauth"},
    {"routes", "project", "client"},
    {"contexts", "callbacks", "result", "options"},
    {"persistence", "history"},
    {"run"},
    {"trainer"},
    {"handlers"},
]
# `project` needs a client, which needs a scope: both name each other only in annotations.


def modules() -> Iterator[Path]:
    return (path for path in sorted(PACKAGE.rglob("*.py")) if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_at_runtime(path: Path) -> Iterator[str]:
    """List what a module imports from this package, outside TYPE_CHECKING blocks."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            module = node.module or ""
            if module == "arkor_sync":
                yield from (alias.name for alias in node.names)
            elif module.startswith("arkor_sync."):
                yield module.split(".")[1]


def test_imports_only_go_down() -> None:
    floor: Dict[str, int] = {name: i for i, names in enumerate(FLOORS) for name in names}
    for path in modules():
        name = name_of(path)
        if name in ("__init__", "emulator", "testing"):
            continue
        for imported in imports_at_runtime(path):
            assert floor[imported] <= floor[name], f"{name} imports {imported}, a floor above it"


def test_the_emulator_imports_nothing_from_the_rest() -> None:
    for path in modules():
        if name_of(path) == "emulator":
            assert set(imports_at_runtime(path)) <= {"emulator"}, path


@pytest.mark.parametrize(
    "name", ["frames", "events", "error_policy", "reconnect", "errors", "callback_names"]
)
def test_the_pure_modules_hold_no_io_no_threads_and_no_clock(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not names & {"threading", "socket", "time", "os", "queue", "random", "asyncio"}


def test_every_module_says_what_it_is() -> None:
    for path in modules():
        assert ast.get_docstring(ast.parse(path.read_text())), path


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
        if isinstance(value, type) or callable(value):
            assert value.__doc__, f"{name} has no docstring"


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
