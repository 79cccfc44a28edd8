"""Latency: from the moment an event is sent to the moment the callback is entered."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from typing import Any, Dict, List, Tuple

from bench_clients import Client, Stamps, floor, floor_of_two_threads, ours, warm_up
from bench_peers import installed
from bench_report import FLOOR, OURS, Figure, Row, Size, in_turns, pairs, say, spread
from bench_server import Server

# What the peers that read blocks are told to read: the most that still comes at once.
CHUNKS = {"close": 1, "chunked": 65536}
NAMES = {"close": "close-delimited", "chunked": "chunked"}
WARM_UP = 0.1  # of the events: connecting, and the first of everything
MEDIAN, P99 = 0, 1
TWO_THREADS = f"{FLOOR}, called on another thread"  # no peer: it is printed, for comparison
MET = 0.9  # of the rounds: the p99 of one round says little, because so few events decide it

Lags = Dict[str, List[Tuple[float, float]]]


def measure(size: Size) -> Figure:
    figure = Figure()
    peers, _ = installed()
    clients = {OURS: ours, FLOOR: floor, TWO_THREADS: floor_of_two_threads, **peers}
    with Server() as server:
        warm_up(server.url, clients.values())
        for framing, chunk in CHUNKS.items():
            job = f"paced-{framing}-{size.paced}-{size.pause}"
            lags = in_turns(
                size.rounds,
                {n: partial(microseconds, c, server.url, job, chunk) for n, c in clients.items()},
            )
            late = [n for n in peers if at(MEDIAN, lags[n]) >= 1000 * size.pause]
            figure.data[framing] = {"median and p99": lags, "buffering": late}
            figure.rows += rows(NAMES[framing], lags, late)
            for name, found in lags.items():
                texts = (spread([pair[k] for pair in found], "µs", 0) for k in (MEDIAN, P99))
                note = ", buffers" if name in late else ""
                say(f"latency, {NAMES[framing]}: {name}: {' and p99 '.join(texts)}{note}")
    return figure


def microseconds(client: Client, base: str, job: str, chunk: int) -> Tuple[float, float]:
    """Return the median and the 99th percentile."""
    stamps = Stamps()
    client(base, job, stamps, chunk)
    lags = sorted(stamps.lags[int(len(stamps.lags) * WARM_UP) :])
    return statistics.median(lags) / 1000, lags[int(len(lags) * 0.99)] / 1000


def once(base: str, size: Dict[str, Any]) -> Dict[str, float]:
    """Measure our part of it once, for a comparison."""
    warm_up(base, [ours])
    found = {}
    for framing, name in NAMES.items():
        job = f"paced-{framing}-{size['paced']}-{size['pause']}"
        median, p99 = microseconds(ours, base, job, CHUNKS[framing])
        found[f"latency, {name}, median, µs"] = median
        found[f"latency, {name}, p99, µs"] = p99
    return found


def at(which: int, lags: List[Tuple[float, float]]) -> float:
    return statistics.median(pair[which] for pair in lags)


def rows(framing: str, lags: Lags, late: List[str]) -> List[Row]:
    """Compare with the fastest peer. One that sees an event when the next is sent is no peer."""
    peers = lags.keys() - {OURS, FLOOR, TWO_THREADS}
    peer = min(peers - set(late) or peers, key=lambda name: at(MEDIAN, lags[name]))
    both = list(pairs(lags[OURS], lags[peer]))
    more = statistics.median(a[MEDIAN] - b[MEDIAN] for a, b in both)
    ratios = [a[P99] / b[P99] for a, b in both]
    met = sum(ratio <= 1.5 for ratio in ratios)

    def row(which: int, name: str, target: str, is_met: bool, ratio: str) -> Row:
        mine, theirs = ([pair[which] for pair in lags[client]] for client in (OURS, peer))
        figure = f"latency, {framing}, {name}"
        best = f"{peer}: {spread(theirs, 'µs', 0)}"
        return Row(figure, spread(mine, "µs", 0), target, is_met, best, ratio)

    median = statistics.median(a[MEDIAN] / b[MEDIAN] for a, b in both)
    found = [
        row(
            MEDIAN,
            "median",
            "at most 150 µs more",
            more <= 150,
            f"{median:.2f}, {more:+.0f} µs",
        ),
        row(
            P99,
            "p99",
            f"at most 1.5 times in {MET:.0%} of the rounds",
            met >= MET * len(both),
            f"{spread(ratios, '', 2)}, met in {met} of {len(both)}",
        ),
    ]
    if late:
        found[0] = replace(found[0], peer=f"{found[0].peer}; {', '.join(late)} buffer")
    return found
