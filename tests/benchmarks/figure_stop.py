"""Stop: from `abort()` to the end of `wait()` and of both threads, in every phase of a run."""

from __future__ import annotations

import contextlib
import logging
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

from bench_report import Figure, Row, Size, fresh, say, spread

from arkor_sync import RunAborted

MEDIAN, WORST = 20, 100  # milliseconds
TESTS = str(Path(__file__).parents[1])
HANGS = str(Path(TESTS, "hangs"))
SETTLED = 0.3  # seconds, in which a run comes into any of the phases


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
    sys.path += [TESTS, HANGS]
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


def once(base: str, size: Dict[str, Any]) -> Dict[str, float]:
    """Measure it once, for a comparison.

    A phase is known by the names of functions, and another checkout has other names. So here a run
    is given the time to come into its phase.
    """
    del base, size
    sys.path.append(TESTS)
    from support.hang_phases import PHASES, begin, reader_led_to, serve
    from support.run_threads import threads_of

    logging.disable()
    times = []
    for phase in PHASES:
        with serve(phase, phase.name == "TLS handshake") as cloud, reader_led_to(cloud.tarpit):
            run = begin(phase, cloud)
            threads = list(threads_of(run))
            time.sleep(SETTLED)
            aborted = time.perf_counter()
            run.abort("enough")
            with contextlib.suppress(RunAborted):
                run.wait()
            for thread in threads:
                thread.join()
            times.append(1000 * (time.perf_counter() - aborted))
    return {
        "stop, `abort()`, median of the phases, ms": statistics.median(times),
        "stop, `abort()`, slowest phase, ms": max(times),
    }
