"""Whoever installed one extra, or none: the tests of the others are skipped, and say why.

A child collects this folder while the libraries of all other extras cannot be imported.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Set

import pytest
from packaging.requirements import Requirement

from support.extras import EXTRAS, FOR_USERS
from support.waiting import PATIENCE

HERE = Path(__file__).parent
NEED_NONE = {"test_blocks_that_need_extras.py", "test_each_extra_alone.py"}

NEEDS_A_KERNEL = "notebook"  # its tests run a kernel, which handlers-test installs

# What this folder imports, by the requirement that installs it.
MODULES = {
    "apprise": "apprise",
    "datadog": "datadog",
    "gevent": "gevent",
    "ipykernel": "ipykernel",
    "ipython": "IPython",
    "matplotlib": "matplotlib",
    "mlflow-skinny": "mlflow",
    "nbclient": "nbclient",
    "opentelemetry-api": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry.sdk",
    "posthog": "posthog",
    "psycopg": "psycopg",
    "sqlalchemy": "sqlalchemy",
    "tensorboardx": "tensorboardX",
    "tqdm": "tqdm",
    "wandb": "wandb",
}

OPTIONS = ["-pblocker", "-pno:cacheprovider", "-n0", "-m", "", "--collect-only", "-q", "-rs"]

BLOCKER = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
"""


def brought_by(extra: str) -> Set[str]:
    """List what an extra installs, with what that needs, of the modules above."""
    found: Set[str] = set()
    waiting = [Requirement(line) for line in EXTRAS[extra]]
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower()
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        try:
            waiting += map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:
            continue
    return {MODULES[name] for name in found if name in MODULES}


def collect(folder: Path, allowed: Set[str], **environment: str) -> Any:
    """Collect this folder's tests where no other of the modules can be imported."""
    blocked = sorted(set(MODULES.values()) - allowed)
    (folder / "blocker.py").write_text(f"BLOCKED = {blocked}\n{BLOCKER}")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    rest = {name: value for name, value in os.environ.items() if name != "ARKOR_EXTRAS"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, str(HERE)],
        cwd=HERE.parents[1],
        env={**rest, "PYTHONPATH": os.pathsep.join(paths), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


def skipped_in(printed: str) -> Dict[str, str]:
    """Return the extra that each test module says that it needs."""
    return dict(re.findall(r"(test_\w+\.py) needs the extra ([\w-]+)", printed))


def collected_in(printed: str) -> Set[str]:
    return set(re.findall(r"^tests/extras/(test_\w+\.py)::", printed, re.MULTILINE))


def test_where_no_extra_is_installed_all_that_needs_one_is_skipped(tmp_path: Path) -> None:
    done = collect(tmp_path, set())
    assert done.returncode == 0, done.stdout
    skipped = skipped_in(done.stdout)
    assert set(skipped) == {path.name for path in HERE.glob("test_*.py")} - NEED_NONE
    assert collected_in(done.stdout) == NEED_NONE
    assert skipped["test_database_logger.py"] == "database"
    assert skipped["test_gevent.py"] == "handlers-test"


def test_in_ci_a_library_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    done = collect(tmp_path, set(), ARKOR_EXTRAS="all")
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout
    for module in ("sqlalchemy", "posthog", "tqdm"):
        assert f"No module named '{module}'" in done.stdout


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(extra, marks=[] if extra == "database" else pytest.mark.slow)
        for extra in FOR_USERS
        if extra != "cli"  # its tests are in a folder of their own
    ],
)
def test_one_extra_alone_is_tested_and_the_others_are_skipped(extra: str, tmp_path: Path) -> None:
    allowed = brought_by(extra)
    done = collect(tmp_path, allowed)
    assert done.returncode == 0, done.stdout
    there = bool(allowed) and all(map(find_spec, allowed))
    if extra != NEEDS_A_KERNEL:
        assert (extra in skipped_in(done.stdout).values()) == (bool(allowed) and not there)
        assert (collected_in(done.stdout) > NEED_NONE) == there
