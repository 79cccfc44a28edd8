"""Compares this checkout with another: every figure from both, in turns, in fresh processes.

Only this checkout's benchmark code runs. It uses nothing but public names of `arkor_sync` and
`arkor_sync.emulator`, so the other checkout may have its modules in other places.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from bench_report import QUICK, Size, fresh, say, spread
from bench_server import Server

THIS = Path(__file__).parents[2]
SIZE = Size(rounds=15, flood=200_000, cuts=10, runs=100, idle=1.0, imports=3)
SMALL = dataclasses.replace(QUICK, rounds=2)  # one ratio has no interval
LEAST = 0.95  # where the 95 % interval may end at the least
OLD, NEW = "old", "new"

Measured = Dict[str, Dict[str, List[float]]]


def measure(other: Path, figures: Sequence[str], size: Size) -> Measured:
    """Return each figure's values by the name of the figure, old and new, a value a round."""
    found: Measured = {}
    modules = [import_module(f"figure_{figure}") for figure in figures]
    checkouts = [(OLD, other), (NEW, THIS)]
    with Server() as server:
        for framing in ("close", "chunked", "each") if "replay" in figures else ():
            job = f"replay-{framing}-{size.replay}-0"
            urllib.request.urlopen(f"{server.url}/v1/jobs/{job}").close()  # it encodes the body
        for number in range(size.rounds):
            for once in [module.once for module in modules if hasattr(module, "once")]:
                for side, checkout in checkouts:
                    values = fresh(once, server.url, dataclasses.asdict(size), checkout=checkout)
                    for name, value in values.items():
                        found.setdefault(name, {OLD: [], NEW: []})[side].append(value)
            checkouts.reverse()
            say(f"-- round {number + 1} of {size.rounds}")
    return found


def interval(ratios: Sequence[float]) -> Tuple[float, float, float]:
    """Return the geometric mean of the ratios, and the ends of its 95 % interval.

    It is Student's t interval of the mean of their logarithms.
    """
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    margin = student(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - margin), math.exp(mean + margin)


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution.

    It is the first terms of a series, which from 4 degrees of freedom are right within 1 %.
    """
    z = statistics.NormalDist().inv_cdf(0.975)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def table(measured: Measured) -> str:
    """Write the table as GitHub reads it."""
    lines = [
        "| figure | old | new | old/new | 95 % interval | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, sides in measured.items():
        mean, low, high = interval([old / new for old, new in zip(sides[OLD], sides[NEW])])
        digits = 2 if statistics.median(sides[NEW]) < 10 else 0 if name.endswith("µs") else 1
        old, new = (spread(sides[side], "", digits) for side in (OLD, NEW))
        met = "yes" if high >= LEAST else "**no**"
        lines.append(f"| {name} | {old} | {new} | {mean:.3f} | {low:.3f} to {high:.3f} | {met} |")
    return "\n".join(lines)
