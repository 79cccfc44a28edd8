"""Import: what `import arkor_sync` takes in a fresh interpreter, over `import requests`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from typing import Any, Dict

from bench_report import OURS, Figure, Row, Size, in_turns, pairs, say, spread

MOST = 30  # milliseconds
REQUESTS, SCRIPT = "requests", "what a script needs"
STATEMENTS = {
    REQUESTS: "import requests",
    OURS: "import arkor_sync",
    SCRIPT: "from arkor_sync import Callbacks, ErrorPolicy, HuggingFaceDataset, LoraConfig, "
    "CloudApiClient, create_trainer",
}


def measure(size: Size) -> Figure:
    with tempfile.TemporaryDirectory() as directory:
        for statement in STATEMENTS.values():
            milliseconds(statement, directory)  # it writes the bytecode
        spent = in_turns(
            size.imports,
            {name: partial(milliseconds, text, directory) for name, text in STATEMENTS.items()},
        )
    for name, values in spent.items():
        say(f"import, {name}: {spread(values, 'ms')}")
    more = [ours - theirs for theirs, ours in pairs(spent[REQUESTS], spent[OURS])]
    row = Row(
        "import, over `import requests`",
        f"{statistics.median(more):+.1f} ms, of {spread(spent[OURS], 'ms')}",
        f"at most {MOST} ms more",
        statistics.median(more) <= MOST,
        f"requests: {spread(spent[REQUESTS], 'ms')}",
        f"{statistics.median(a / b for b, a in pairs(spent[REQUESTS], spent[OURS])):.2f}",
    )
    return Figure([row], {"ms": spent, "over requests": more})


def once(base: str, size: Dict[str, Any]) -> Dict[str, float]:
    """Measure it once, for a comparison."""
    del base
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in (OURS, SCRIPT):
            statement = STATEMENTS[name]
            milliseconds(statement, directory)  # it writes the bytecode
            times = [milliseconds(statement, directory) for _ in range(size["imports"])]
            found[f"import, {name}, ms"] = statistics.median(times)
    return found


def milliseconds(statement: str, directory: str) -> float:
    """Return what the statement takes when its bytecode is there."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": directory}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    code = (
        "import sys, time; sys.modules['orjson'] = None; begin = time.perf_counter()\n"
        f"{statement}\n"
        "print(1000 * (time.perf_counter() - begin))"
    )
    # Not here, where a checkout may lie about.
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=directory,
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)
