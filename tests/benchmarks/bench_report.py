"""What the benchmarks share: how much is measured, the rows of the table, and where it was."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, TypeVar

T = TypeVar("T")
OURS, FLOOR = "arkor_sync", "floor"
PACKAGES = (
    "arkor-sync",
    "requests",
    "urllib3",
    "sseclient-py",
    "launchdarkly-eventsource",
    "httpx",
    "httpx-sse",
    "requests-sse",
    "orjson",
    "torch",
    "transformers",
    "peft",
    "trl",
)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        rounds: How often everything is measured, in turns.
        replay: Events of a replay, and of a burst for many callbacks.
        paced: Events that come one by one.
        pause: Milliseconds between those.
        stops: How often a run is stopped in each phase.
        cuts: How often a stream is cut.
        flood: Events for a slow callback.
        runs: Runs that are followed at the same time.
        idle: Seconds between their pings, and that they are looked at.
        imports: Fresh interpreters.
        saves: Positions that are saved to a store for several machines.
        leases: Leases that one process renews.
        silent: Jobs of a follower in which nothing happens.
        tiny: Whether a model of random numbers is trained, and not a real one.
        trainings: How often a model is trained in each way.
        steps: The steps of such a training that count.
        curve: Steps whose losses are compared.
        phases: How often a training is alone, and how often it is not.
    """

    rounds: int = 5
    replay: int = 200_000
    paced: int = 1_000
    pause: int = 5
    stops: int = 5
    cuts: int = 50
    flood: int = 1_000_000
    runs: int = 1_000
    idle: float = 15.0
    imports: int = 20
    saves: int = 5_000
    leases: int = 5_000
    silent: int = 500
    tiny: bool = False
    trainings: int = 10
    steps: int = 4
    curve: int = 12
    phases: int = 5


QUICK = Size(
    rounds=1,
    replay=2_000,
    paced=20,
    stops=1,
    cuts=3,
    flood=20_000,
    runs=10,
    idle=0.2,
    imports=2,
    saves=100,
    leases=20,
    silent=5,
    tiny=True,
    trainings=2,
    phases=2,
)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        figure: What was measured.
        ours: What it came to here.
        target: What it must reach.
        met: Whether it does.
        peer: The figure of the best peer, and its name.
        ratio: Ours to the peer's in the same round.
    """

    figure: str
    ours: str
    target: str
    met: bool
    peer: str = "—"
    ratio: str = "—"


@dataclass
class Figure:
    """What came of measuring: rows for the table, and all that was measured for the file."""

    rows: List[Row] = field(default_factory=list)
    data: Dict[str, Any] = field(default_factory=dict)


def table(rows: Sequence[Row]) -> str:
    """Write the table as GitHub reads it."""
    lines = [
        "| figure | ours | best peer | ratio | target | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        met = "yes" if row.met else "**no**"
        cells = (row.figure, row.ours, row.peer, row.ratio, row.target, met)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def in_turns(rounds: int, measures: Dict[str, Callable[[], T]]) -> Dict[str, List[T]]:
    """Measure everything once a round, each time beginning with another."""
    found: Dict[str, List[T]] = {name: [] for name in measures}
    names = list(measures)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(measures[name]())
    return found


def fresh(
    function: Callable[..., T],
    *args: Any,
    orjson: bool = False,
    checkout: Optional[Path] = None,
) -> T:
    """Call a function in a new process, where nothing that was measured before is left.

    Args:
        function: A function of a module here; what it returns is JSON.
        args: Its arguments, which are JSON as well.
        orjson: Whether orjson may be imported there.
        checkout: Where that process finds the package `arkor_sync`, if not where this one does.
    """
    call = {
        "module": function.__module__,
        "function": function.__name__,
        "args": args,
        "orjson": orjson,
        "checkout": str(checkout or ""),
    }
    path = [str(checkout or ""), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("bench_fresh.py")), json.dumps(call)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdout=subprocess.PIPE,
        check=True,
    )
    returned: T = json.loads(done.stdout)
    return returned


def resident() -> int:
    """Return how many bytes of this process are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def spread(values: Sequence[float], unit: str, digits: int = 1) -> str:
    """Write the median of some values and, where they differ, the lowest and the highest."""
    texts = [f"{v:,.{digits}f}" for v in (statistics.median(values), min(values), max(values))]
    ends = "" if texts[1] == texts[2] else f" ({texts[1]} to {texts[2]})"
    return f"{texts[0]} {unit}".rstrip() + ends


def pairs(first: Sequence[T], second: Sequence[T]) -> Iterator[Tuple[T, T]]:
    """Yield what was measured in the same round."""
    assert len(first) == len(second)
    return zip(first, second)


def say(text: str) -> None:
    """Tell whoever waits what was just found; the table alone goes to the standard output."""
    print(text, file=sys.stderr, flush=True)


def surroundings() -> Dict[str, Any]:
    """Tell what this was measured on."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": packages,
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
