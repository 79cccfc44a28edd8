"""The benchmarks: how fast arkor_sync is, beside what else one would use.

    pip install '.[bench]' && python tests/benchmarks

prints one table. The peers are bare loops; ours is the whole run. Everything is measured in turns,
and each ratio is of figures of the same round. `--quick` only sees that it works.

    python tests/benchmarks --compare ../older-checkout

measures this checkout and another in turns. It prints how many times as fast this one is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, List

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
    "cli",
)
# Measured only where they are asked for: they need PostgreSQL, a language model, a web server.
ASKED_FOR = ("fleet", "lora", "studio")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python tests/benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--only", type=_names, default=FIGURES, help=",".join(FIGURES + ASKED_FOR))
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--events", type=int, help="events of a replay")
    parser.add_argument("--json", type=Path, help="write all that was measured there")
    parser.add_argument("--compare", type=Path, metavar="CHECKOUT", help="measure both checkouts")
    options = parser.parse_args()
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        del os.environ[name]  # everything here is on this machine
    raise_file_limit()
    # Everything is measured without orjson, but for the rows that name it.
    sys.modules["orjson"] = None  # type: ignore[assignment]
    report = compare(options) if options.compare else benchmark(options)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


def benchmark(options: argparse.Namespace) -> Dict[str, Any]:
    """Measure the figures, print the table, and return all that was measured."""
    from bench_node import ABSENT, node_versions
    from bench_peers import installed

    size = asked_for(QUICK if options.quick else Size(), options)
    _, absent = installed()
    if not node_versions():
        absent.append(ABSENT)
    rows: List[Row] = []
    data: Dict[str, Any] = {}
    for name in options.only:
        say(f"-- {name}")
        figure = import_module(f"figure_{name}").measure(size)
        rows += figure.rows
        data[name] = figure.data
    here = describe(node_versions())
    if absent:
        print(f"not installed, so not compared: {', '.join(absent)}")
    print("Ratio: how many times as fast a replay is; how many times as long all else takes.")
    print(f"\n{table(rows)}")
    return {
        "machine": here,
        "size": dataclasses.asdict(size),
        "absent": absent,
        "rows": [dataclasses.asdict(row) for row in rows],
        "data": data,
    }


def compare(options: argparse.Namespace) -> Dict[str, Any]:
    """Measure this checkout and another, print the table, and return all that was measured."""
    import bench_compare

    size = asked_for(bench_compare.SMALL if options.quick else bench_compare.SIZE, options)
    measured = bench_compare.measure(options.compare, options.only, size)
    here = describe({})
    print(f"{size.rounds} rounds in turns, each in a fresh process, without orjson.")
    print("Old and new: the median of the rounds (lowest to highest).")
    print("Old/new: the geometric mean of the rounds' ratios, above 1 where the new one is faster")
    print("or smaller, with Student's t interval of the logarithms. Met: it reaches 0.95.")
    print(f"\n{bench_compare.table(measured)}")
    return {"machine": here, "size": dataclasses.asdict(size), "data": measured}


def asked_for(size: Size, options: argparse.Namespace) -> Size:
    return dataclasses.replace(
        size,
        rounds=options.rounds or size.rounds,
        trainings=options.rounds or size.trainings,
        phases=options.rounds or size.phases,
        replay=options.events or size.replay,
    )


def describe(more: Dict[str, str]) -> Dict[str, Any]:
    """Print what this was measured on."""
    here = surroundings()
    here["packages"].update(more)
    print(f"{here['cores']} cores ({here['cpu']}), {here['system']}, {here['python']}")
    print(", ".join(f"{package} {version}" for package, version in here["packages"].items()))
    return here


def _names(text: str) -> List[str]:
    names = text.split(",")
    for name in names:
        if name not in FIGURES + ASKED_FOR:
            known = ", ".join(FIGURES + ASKED_FOR)
            raise argparse.ArgumentTypeError(f"{name!r} is none of {known}")
    return names


if __name__ == "__main__":
    main()
