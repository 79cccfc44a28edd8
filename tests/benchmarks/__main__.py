"""The benchmarks: how fast arkor_sync is, beside what else one would use.

    pip install '.[bench]' && python tests/benchmarks

prints one table. The peers are bare loops; ours is the whole run. Everything is measured in turns,
and each ratio is of figures of the same round. `--quick` only sees that it works.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, List

from bench_peers import installed
from bench_report import QUICK, Row, Size, say, surroundings, table
from bench_server import raise_file_limit

FIGURES = (
    "replay",
    "latency",
    "burst",
    "stop",
    "recovery",
    "memory",
    "many",
    "import",
    "create",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python tests/benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--only", type=_names, default=FIGURES, help=",".join(FIGURES))
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--events", type=int, help="events of a replay")
    parser.add_argument("--json", type=Path, help="write all that was measured there")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    size = dataclasses.replace(
        size,
        rounds=options.rounds or size.rounds,
        replay=options.events or size.replay,
    )
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        del os.environ[name]  # everything here is on this machine
    raise_file_limit()

    here = surroundings()
    _, absent = installed()
    rows: List[Row] = []
    data: Dict[str, Any] = {}
    for name in options.only:
        say(f"-- {name}")
        figure = import_module(f"figure_{name}").measure(size)
        rows += figure.rows
        data[name] = figure.data
    print(f"{here['cores']} cores ({here['cpu']}), {here['system']}, {here['python']}")
    print(", ".join(f"{package} {version}" for package, version in here["packages"].items()))
    if absent:
        print(f"not installed, so not compared: {', '.join(absent)}")
    print("Ratio: how many times as fast a replay is; how many times as long all else takes.")
    print(f"\n{table(rows)}")
    if options.json:
        report = {
            "machine": here,
            "size": dataclasses.asdict(size),
            "absent": absent,
            "rows": [dataclasses.asdict(row) for row in rows],
            "data": data,
        }
        options.json.write_text(json.dumps(report, indent=2))


def _names(text: str) -> List[str]:
    names = text.split(",")
    for name in names:
        if name not in FIGURES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(FIGURES)}")
    return names


if __name__ == "__main__":
    main()
