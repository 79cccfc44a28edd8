"""What a user would pick instead: bare loops that parse, `json.loads` and call a function.

Each is written as its documentation shows it. Two read blocks whose size their user chooses; they
get the size that suits each figure best. A function here imports its library and returns the loop.
"""

from __future__ import annotations

import json
from typing import Callable, Dict, List, Tuple

from bench_clients import LOG, Client, Touch, path


def launchdarkly() -> Client:
    from ld_eventsource import SSEClient

    def client(base: str, job: str, touch: Touch, chunk: int) -> None:
        source = SSEClient(base + path(job))
        for event in source.events:
            data = json.loads(event.data)
            if data["type"] != LOG:
                break
            touch.data(data)
        source.close()

    return client


def httpx_sse() -> Client:
    import httpx
    from httpx_sse import connect_sse

    def client(base: str, job: str, touch: Touch, chunk: int) -> None:
        with httpx.Client() as http, connect_sse(http, "GET", base + path(job)) as source:
            for event in source.iter_sse():
                data = json.loads(event.data)
                if data["type"] != LOG:
                    break
                touch.data(data)

    return client


def requests_sse() -> Client:
    from requests_sse import EventSource

    def client(base: str, job: str, touch: Touch, chunk: int) -> None:
        with EventSource(base + path(job)) as source:
            for event in source:
                data = json.loads(event.data)
                if data["type"] != LOG:
                    break
                touch.data(data)

    return client


def iter_lines() -> Client:
    import requests

    def client(base: str, job: str, touch: Touch, chunk: int) -> None:
        with requests.get(base + path(job), stream=True) as response:
            for line in response.iter_lines(chunk):
                if line.startswith(b"data: {"):
                    data = json.loads(line[6:].decode())
                    if data["type"] != LOG:
                        break
                    touch.data(data)

    return client


def sseclient_py() -> Client:
    import requests
    from sseclient import SSEClient

    def client(base: str, job: str, touch: Touch, chunk: int) -> None:
        with requests.get(base + path(job), stream=True) as response:
            for event in SSEClient(response.iter_content(chunk)).events():
                data = json.loads(event.data)
                if data["type"] != LOG:
                    break
                touch.data(data)

    return client


PEERS: Dict[str, Callable[[], Client]] = {
    "launchdarkly-eventsource": launchdarkly,
    "httpx-sse": httpx_sse,
    "requests-sse": requests_sse,
    "requests iter_lines": iter_lines,
    "sseclient-py": sseclient_py,
}


def installed() -> Tuple[Dict[str, Client], List[str]]:
    """Return the peers that are here, and the names of those that are not."""
    here: Dict[str, Client] = {}
    absent: List[str] = []
    for name, load in PEERS.items():
        try:
            here[name] = load()
        except ImportError:
            absent.append(name)
    return here, absent
