"""Replay: how fast a burst of logs is followed, beside the peers and the floor."""

from __future__ import annotations

import statistics
import time
import urllib.request
from functools import partial
from typing import Dict, List

from bench_clients import Client, Touch, floor, ours, warm_up
from bench_peers import installed
from bench_report import FLOOR, OURS, Figure, Row, Size, in_turns, pairs, say, spread
from bench_server import Server

FRAMINGS = {
    "close": "close-delimited, big writes",
    "chunked": "chunked, big writes",
    "each": "chunked, one event a chunk",
}
CHUNK = 65536


def measure(size: Size) -> Figure:
    figure = Figure()
    peers, _ = installed()
    clients = {OURS: ours, FLOOR: floor, **peers}
    with Server() as server:
        warm_up(server.url, clients.values())
        for framing, name in FRAMINGS.items():
            job = f"replay-{framing}-{size.replay}-0"
            urllib.request.urlopen(f"{server.url}/v1/jobs/{job}").close()  # it encodes the body
            spent = in_turns(
                size.rounds,
                {
                    n: partial(microseconds, c, server.url, job, size.replay)
                    for n, c in clients.items()
                },
            )
            figure.data[framing] = spent
            figure.rows += rows(name, spent)
            for client in clients:
                say(f"replay, {name}: {client}: {spread(spent[client], 'µs', 2)}")
    return figure


def microseconds(client: Client, base: str, job: str, events: int) -> float:
    """Return what an event takes."""
    touch = Touch()
    begin = time.perf_counter()
    client(base, job, touch, CHUNK)
    seconds = time.perf_counter() - begin
    if touch.calls != events:
        raise RuntimeError(f"{client} saw {touch.calls} of {events} events")
    return seconds / events * 1e6


def rows(framing: str, spent: Dict[str, List[float]]) -> List[Row]:
    peers = spent.keys() - {OURS, FLOOR}
    fastest = min(peers, key=lambda name: statistics.median(spent[name]))
    found = []
    for name in (fastest, FLOOR):
        least = 0.7 if name == FLOOR else 1.2
        ratio = statistics.median(b / a for a, b in pairs(spent[OURS], spent[name]))
        found.append(
            Row(
                f"replay, {framing}" + (", of the floor" if name == FLOOR else ""),
                spread(spent[OURS], "µs an event", 2),
                f"at least {least} times as fast",
                ratio >= least,
                f"{name}: {spread(spent[name], 'µs', 2)}",
                f"{ratio:.2f}",
            )
        )
    return found
