"""Replay: how fast a burst of logs is followed, beside the peers, Node and the floor.

Every replay is a process of its own, so that none is measured with what another has left.
"""

from __future__ import annotations

import statistics
import time
import urllib.request
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Callable, Dict, List

from bench_clients import Touch, floor, ours, warm_up
from bench_node import NODE, node_microseconds, node_versions
from bench_peers import PEERS, installed
from bench_report import FLOOR, OURS, Figure, Row, Size, fresh, in_turns, pairs, say, spread
from bench_server import Server

FRAMINGS = {
    "close": "close-delimited, big writes",
    "chunked": "chunked, big writes",
    "each": "chunked, one event a chunk",
}
ORJSON = "arkor_sync with orjson"
CHUNK = 65536


def measure(size: Size) -> Figure:
    figure = Figure()
    peers, _ = installed()
    with Server() as server:
        for framing, name in FRAMINGS.items():
            job = f"replay-{framing}-{size.replay}-0"
            urllib.request.urlopen(f"{server.url}/v1/jobs/{job}").close()  # it encodes the body
            what = server.url, job, size.replay
            measures: Dict[str, Callable[[], float]] = {
                client: partial(fresh, microseconds, client, *what)
                for client in (OURS, FLOOR, *peers)
            }
            if has_orjson():
                measures[ORJSON] = partial(fresh, microseconds, OURS, *what, orjson=True)
            if node_versions():
                measures[NODE] = partial(node_microseconds, *what)
            spent = in_turns(size.rounds, measures)
            figure.data[framing] = spent
            figure.rows += rows(name, spent)
            for client, values in spent.items():
                say(f"replay, {name}: {client}: {spread(values, 'µs', 2)}")
    return figure


def has_orjson() -> bool:
    """Tell whether orjson is installed, which this process may not import."""
    try:
        return bool(version("orjson"))
    except PackageNotFoundError:
        return False


def microseconds(name: str, base: str, job: str, events: int) -> float:
    """Return what an event takes."""
    client = {OURS: ours, FLOOR: floor}.get(name) or PEERS[name]()
    warm_up(base, [client])
    touch = Touch()
    begin = time.perf_counter()
    client(base, job, touch, CHUNK)
    seconds = time.perf_counter() - begin
    if touch.calls != events:
        raise RuntimeError(f"{name} saw {touch.calls} of {events} events")
    return seconds / events * 1e6


def once(base: str, size: Dict[str, Any]) -> Dict[str, float]:
    """Measure our part of it once, for a comparison."""
    events = size["replay"]
    return {
        f"replay, {name}, µs an event": microseconds(
            OURS, base, f"replay-{framing}-{events}-0", events
        )
        for framing, name in FRAMINGS.items()
    }


def rows(framing: str, spent: Dict[str, List[float]]) -> List[Row]:
    fastest = min(
        spent.keys() - {OURS, ORJSON, FLOOR, NODE}, key=lambda name: statistics.median(spent[name])
    )

    def row(suffix: str, ours: str, peer: str, least: float) -> Row:
        ratio = statistics.median(b / a for a, b in pairs(spent[ours], spent[peer]))
        return Row(
            f"replay, {framing}{suffix}",
            spread(spent[ours], "µs an event", 2),
            f"at least {least} times as fast",
            ratio >= least,
            f"{peer}: {spread(spent[peer], 'µs', 2)}",
            f"{ratio:.2f}",
        )

    found = [row("", OURS, fastest, 1.2), row(", of the floor", OURS, FLOOR, 0.7)]
    if NODE in spent:
        found.append(row(", beside Node", OURS, NODE, 0.95))
    if ORJSON in spent and NODE in spent:
        found.append(row(", with orjson, beside Node", ORJSON, NODE, 1.3))
    elif ORJSON in spent:
        found.append(row(", with orjson", ORJSON, fastest, 1.2))
    return found
