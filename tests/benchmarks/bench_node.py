"""The peer in another language: Node's `fetch`, the npm package eventsource-parser, `JSON.parse`.

That is what the TypeScript SDK is made of. It is measured where `node` is, and the package in the
folder that ARKOR_BENCH_NODE names:

    npm install --prefix ~/.cache/arkor-sync-benchmarks eventsource-parser
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict

from bench_clients import path

NODE = "Node"
WARM_UP = "flood-chunked-20000-0"  # followed first, so that Node has compiled what it runs often
PACKAGE = "eventsource-parser"
FOLDER = os.environ.get("ARKOR_BENCH_NODE") or "~/.cache/arkor-sync-benchmarks"
ABSENT = f"{NODE} (it needs node, and: npm install --prefix {FOLDER} {PACKAGE})"
_MODULES = Path(FOLDER).expanduser() / "node_modules"


def node_versions() -> Dict[str, str]:
    """Return the versions of Node and of the package; nothing if one of them is missing."""
    manifest = _MODULES / PACKAGE / "package.json"
    if not manifest.exists() or shutil.which("node") is None:
        return {}
    done = subprocess.run(["node", "--version"], stdout=subprocess.PIPE, text=True, check=True)
    return {
        "node": done.stdout.strip().lstrip("v"),
        PACKAGE: json.loads(manifest.read_text())["version"],
    }


def node_microseconds(base: str, job: str, events: int) -> float:
    """Return what an event takes."""
    script = Path(__file__).with_name("bench_node.cjs")
    done = subprocess.run(
        ["node", str(script), base + path(WARM_UP), base + path(job)],
        env={**os.environ, "NODE_PATH": str(_MODULES)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    if found["events"] != events:
        raise RuntimeError(f"Node saw {found['events']} of {events} events")
    microseconds: float = 1000 * found["milliseconds"] / events
    return microseconds
