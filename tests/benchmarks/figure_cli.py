"""Command line: what `--help`, `--version` and a completion take, over a bare interpreter."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any, Dict

from bench_report import Figure, Row, Size, in_turns, pairs, say, spread

MOST = 60  # milliseconds
BARE = "python -c pass"
CLICK = "import click"  # the library that reads the arguments: the floor
MAIN = "import sys; from arkor_sync.cli import main; sys.exit(main())"  # what pip installs
COMPLETION = {
    "_ARKOR_SYNC_COMPLETE": "bash_complete",
    "COMP_WORDS": "arkor-sync jo",
    "COMP_CWORD": "1",
}
COMMANDS: Dict[str, Any] = {
    "--help": (["--help"], {}),
    "--version": (["--version"], {}),
    "jobs --help": (["jobs", "--help"], {}),
    "completion of a word": ([], COMPLETION),
}


def measure(size: Size) -> Figure:
    with tempfile.TemporaryDirectory() as directory:
        measures = {
            BARE: partial(milliseconds, directory, ["-c", "pass"], {}),
            CLICK: partial(milliseconds, directory, ["-c", CLICK], {}),
        }
        for name, (arguments, variables) in COMMANDS.items():
            command = ["-c", MAIN, *arguments]
            measures[name] = partial(milliseconds, directory, command, variables)
        for each in measures.values():
            each()  # it writes the bytecode
        spent = in_turns(size.imports, measures)
    rows, over = [], {}
    say(f"cli, {BARE}: {spread(spent[BARE], 'ms')}")
    floor = statistics.median(click - bare for bare, click in pairs(spent[BARE], spent[CLICK]))
    for name in COMMANDS:
        more = over[name] = [ours - bare for bare, ours in pairs(spent[BARE], spent[name])]
        say(f"cli, {name}: {spread(spent[name], 'ms')}")
        rows.append(
            Row(
                f"arkor-sync {name}, over `{BARE}`",
                f"{statistics.median(more):+.1f} ms, of {spread(spent[name], 'ms')}; "
                f"`{CLICK}` alone {floor:+.1f} ms",
                f"at most {MOST} ms more",
                statistics.median(more) <= MOST,
            )
        )
    return Figure(rows, {"ms": spent, "over bare": over})


def once(base: str, size: Dict[str, Any]) -> Dict[str, float]:
    """Measure it once, for a comparison."""
    del base
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, (arguments, variables) in COMMANDS.items():
            command = partial(milliseconds, directory, ["-c", MAIN, *arguments], variables)
            command()  # it writes the bytecode
            times = [command() for _ in range(size["imports"])]
            found[f"cli, {name}, ms"] = statistics.median(times)
    return found


def milliseconds(directory: str, arguments: Any, variables: Dict[str, str]) -> float:
    """Return what an interpreter takes from its start to its end, when its bytecode is there."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": directory, **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=directory,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return 1000 * (time.perf_counter() - begin)
