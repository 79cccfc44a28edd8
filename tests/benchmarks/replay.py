"""How fast a burst of logs is followed, beside what else one would use. Run it from the checkout:

    pip install '.[bench]' && python tests/benchmarks/replay.py

The peers are bare loops: they parse, `json.loads` and call a function. Ours is the whole run:
reader thread, channel, worker thread, `LogContext`, callback, acknowledgement. The floor is a
socket, a split and `json.loads`. Rounds are interleaved, and each ratio is of figures of the same
round.
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable, Dict, List

sys.path.insert(0, str(Path(__file__).parent))
from bench_server import Server

FRAMINGS = ("close", "chunked", "each")


class Counter:
    """The function that everybody calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: Any) -> None:
        self.calls += 1


def ours(base: str, job: str, count: Counter) -> None:
    from arkor_sync import CloudApiClient, ProjectState, TokenCredentials, follow

    client = CloudApiClient(base, TokenCredentials("bench"), scope=ProjectState("o", "p", "i"))
    with follow(job, client=client, callbacks={"on_log": count}) as run:
        run.wait()


def floor(base: str, job: str, count: Counter) -> None:
    host, port = base.rpartition("/")[2].split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"GET {path(job)} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        tail = b""
        while data := sock.recv(65536):
            *blocks, tail = (tail + data).split(b"\n\n")
            for block in blocks:
                start = block.find(b"data: {")
                if start >= 0:
                    count(json.loads(block[start + 6 :].decode()))


def sseclient_py(base: str, job: str, count: Counter) -> None:
    import requests
    import sseclient

    with requests.get(base + path(job), stream=True) as response:
        for event in sseclient.SSEClient(response.iter_content(65536)).events():
            if event.data:
                count(json.loads(event.data))


def iter_lines(base: str, job: str, count: Counter) -> None:
    import requests

    with requests.get(base + path(job), stream=True) as response:
        for line in response.iter_lines(65536):
            if line.startswith(b"data: {"):
                count(json.loads(line[6:].decode()))


def httpx_sse(base: str, job: str, count: Counter) -> None:
    import httpx
    import httpx_sse as sse

    with httpx.Client() as client, sse.connect_sse(client, "GET", base + path(job)) as source:
        for event in source.iter_sse():
            if event.data:
                count(json.loads(event.data))


def requests_sse(base: str, job: str, count: Counter) -> None:
    import requests_sse as sse

    with sse.EventSource(base + path(job), max_connect_retry=0) as source:
        for event in source:
            if event.type == "end":
                break
            count(json.loads(event.data))


def launchdarkly(base: str, job: str, count: Counter) -> None:
    from ld_eventsource import SSEClient

    client = SSEClient(base + path(job))
    for event in client.events:
        if event.event == "end":
            break
        count(json.loads(event.data))
    client.close()


CLIENTS: Dict[str, Callable[[str, str, Counter], None]] = {
    "arkor_sync (whole run)": ours,
    "floor": floor,
    "sseclient-py": sseclient_py,
    "requests iter_lines": iter_lines,
    "httpx-sse": httpx_sse,
    "requests-sse": requests_sse,
    "launchdarkly-eventsource": launchdarkly,
}


def path(job: str) -> str:
    return f"/v1/jobs/{job}/events/stream"


def measure(client: Callable[[str, str, Counter], None], base: str, job: str, events: int) -> float:
    """Return microseconds an event."""
    count = Counter()
    begin = time.perf_counter()
    client(base, job, count)
    spent = time.perf_counter() - begin
    if count.calls not in (events, events + 1):  # a peer may count the terminal event as well
        raise RuntimeError(f"{client.__name__} saw {count.calls} of {events} events")
    return spent / events * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay a burst of logs to every client.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    figures: Dict[str, Dict[str, List[float]]] = {}
    with Server() as server:
        for framing in FRAMINGS:
            job = f"replay-{framing}-{options.events}-0"
            # The floor cannot read chunks.
            clients = {n: c for n, c in CLIENTS.items() if n != "floor" or framing == "close"}
            rounds: Dict[str, List[float]] = {name: [] for name in clients}
            for _ in range(options.rounds):
                for name, client in clients.items():
                    rounds[name].append(measure(client, server.url, job, options.events))
            figures[framing] = rounds
    print(f"{platform.machine()}, Python {platform.python_version()}, {options.events:,} events")
    for package in ("requests", "urllib3", "sseclient-py", "httpx-sse", "requests-sse"):
        print(f"  {package} {version(package)}")
    for framing, rounds in figures.items():
        print(f"\n{framing}: us an event, and how many times as fast ours was in the same round")
        own = rounds["arkor_sync (whole run)"]
        for name, spent in rounds.items():
            ratio = statistics.median(peer / mine for peer, mine in zip(spent, own))
            spread = f"{min(spent):6.2f} to {max(spent):6.2f}"
            print(f"  {name:26} {statistics.median(spent):6.2f}  ({spread})  {ratio:5.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
