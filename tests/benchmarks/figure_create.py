"""Create: what `trainer.start()` asks of the network when the project's state is on disk."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import Any, Dict, List
from unittest import mock

from bench_report import Figure, Row, Size, fresh, say

from arkor_sync import HuggingFaceDataset, create_trainer
from arkor_sync.emulator import Emulator, ScriptedEngine

TRIPS, CONNECTIONS = 2, 1


def measure(size: Size) -> Figure:
    del size
    first, later = fresh(starts)
    say(f"create: {first}, with state on disk: {later}")
    trips, connections = len(later["requests"]), later["connections"]
    row = Row(
        "create, with state on disk",
        f"{trips} round trip(s), {connections} connection(s), {later['ms']:.1f} ms",
        f"at most {TRIPS} round trips, {CONNECTIONS} connection",
        trips <= TRIPS and connections <= CONNECTIONS,
    )
    return Figure([row], {"without state": first, "with state": later})


def once(base: str, size: Dict[str, Any]) -> Dict[str, float]:
    """Measure it once, for a comparison."""
    del base, size
    _, later = starts()
    return {"create, with state on disk, ms": later["ms"]}


def starts() -> List[Dict[str, Any]]:
    """Submit two jobs from an empty home directory; the second finds what the first left."""
    connections = 0

    def count(event: str, _: Any) -> None:
        nonlocal connections
        connections += event == "socket.connect"

    sys.addaudithook(count)
    found = []
    with tempfile.TemporaryDirectory() as home, Emulator(ScriptedEngine(steps=1)) as emulator:
        environment = {"HOME": home, "ARKOR_CLOUD_API_URL": emulator.url, "ARKOR_TOKEN": ""}
        with mock.patch.dict(os.environ, environment):
            for _ in range(2):
                asked, connected, begin = len(emulator.requests), connections, time.perf_counter()
                create_trainer(
                    name="bench",
                    model="unsloth/gemma-4-E4B-it",
                    dataset=HuggingFaceDataset("arkorlab/triage-demo"),
                    cwd=home,
                ).start()
                found.append(
                    {
                        "requests": [f"{r.method} {r.path}" for r in emulator.requests[asked:]],
                        "connections": connections - connected,
                        "ms": 1000 * (time.perf_counter() - begin),
                    }
                )
    return found
