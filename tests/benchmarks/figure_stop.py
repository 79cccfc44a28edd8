"""Stop: from `abort()` to the end of `wait()` and of both threads, in every phase of a run."""

from __future__ import annotations

import logging
import statistics
import sys
from pathlib import Path
from typing import Dict, List

from bench_report import Figure, Row, Size, fresh, say, spread

MEDIAN, WORST = 20, 100  # milliseconds


def measure(size: Size) -> Figure:
    phases = fresh(stops, size.stops)
    for phase, values in phases.items():
        say(f"stop, {phase}: {spread(values, 'ms')}")
    times = [value for values in phases.values() for value in values]
    median, worst = statistics.median(times), max(times)
    row = Row(
        f"stop, `abort()` in {len(phases)} phases",
        f"median {median:.1f} ms, worst {worst:.1f} ms",
        f"median {MEDIAN} ms, worst {WORST} ms",
        median <= MEDIAN and worst <= WORST,
    )
    return Figure([row], {"ms": phases})


def stops(repetitions: int) -> Dict[str, List[float]]:
    """Return milliseconds by phase, over plain and TLS connections."""
    sys.path.append(str(Path(__file__).parents[1] / "hangs"))
    from measure import times

    from support.hang_phases import PHASES

    logging.disable()
    return {
        f"{phase.name}, {'TLS' if tls else 'plain'}": [
            1000 * times(phase, "abort", tls) for _ in range(repetitions)
        ]
        for phase in PHASES
        for tls in (False, True)
        if tls or phase.name != "TLS handshake"
    }
