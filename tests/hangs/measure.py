"""Print how long a run takes to stop, by phase: `python tests/hangs/measure.py [repetitions]`.

The milliseconds are counted from the call (for `wait(timeout)`: from the end of the timeout) to the
end of `wait()` and of both threads, over plain and TLS connections and every way to stop.
"""

from __future__ import annotations

import logging
import statistics
import sys
from pathlib import Path
from typing import Dict, List

sys.path.append(str(Path(__file__).parents[1]))  # for tests/support: this is a script

from stopping import STOPS, run_out_of_time, stop

from support.hang_phases import PHASES, Phase


def times(phase: Phase, how: str, tls: bool) -> float:
    if how == "wait(timeout)":
        return run_out_of_time(phase, tls)
    stopped = stop(phase, tls, how)
    return max(stopped.wait, stopped.threads)


def row(name: str, seconds: Dict[str, List[float]]) -> str:
    cells = [f"{1000 * statistics.median(s):4.0f} /{1000 * max(s):4.0f}" for s in seconds.values()]
    return f"{name:22}" + "".join(f"{cell:>15}" for cell in cells)


def main(repetitions: int = 5) -> None:
    logging.disable()
    ways = [*STOPS, "wait(timeout)"]
    total: Dict[str, List[float]] = {how: [] for how in ways}
    print(f"{'median / worst, ms':22}" + "".join(f"{how:>15}" for how in ways))
    for phase in PHASES:
        seconds: Dict[str, List[float]] = {}
        for how in ways:
            seconds[how] = [
                times(phase, how, tls)
                for tls in (False, True)
                if tls or phase.name != "TLS handshake"
                for _ in range(repetitions)
            ]
            total[how] += seconds[how]
        print(row(phase.name, seconds), flush=True)
    print(row("all phases", total))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
