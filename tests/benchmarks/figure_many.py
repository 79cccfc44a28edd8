"""Many runs: what each costs a process that follows a thousand of them over TLS."""

from __future__ import annotations

import gc
import itertools
import os
import ssl
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import certifi
from bench_clients import cloud
from bench_report import Figure, Row, Size, fresh, resident, say
from bench_server import Server, raise_file_limit

from arkor_sync import follow

TLS = Path(__file__).parents[1] / "support" / "tls"
CERTIFICATE, KEY = str(TLS / "cert.pem"), str(TLS / "key.pem")
EVENTS = 10  # of each run
MOST = 200  # kB
FILES = 8  # that a run may need
PATIENCE = 300  # seconds; only ever waited out by a failure


def measure(size: Size) -> Figure:
    runs = min(size.runs, raise_file_limit() // FILES)
    with tls_server() as (url, bundle):
        found = fresh(follow_many, url, bundle, runs, size.idle)
    kilobytes = found["bytes a run"] / 1000
    contexts, delivered = found["TLS contexts"], found["delivered"]
    cpu = f"{found['CPU seconds a run and second'] * 1e6:.1f} µs of CPU a second"
    say(f"many runs: {found}")
    rows = [
        Row(
            f"{runs:,} runs, memory",
            f"{kilobytes:.0f} kB a run",
            f"at most {MOST} kB",
            kilobytes <= MOST,
        ),
        Row(f"{runs:,} runs, TLS contexts", str(contexts), "one", contexts == 1),
        Row(
            f"{runs:,} runs, events delivered",
            f"{delivered:,} of {runs * EVENTS:,}",
            "all",
            delivered == runs * EVENTS,
        ),
        Row(f"{runs:,} runs, each when idle", cpu, "stated", True),
    ]
    return Figure(rows, found)


def once(base: str, size: Dict[str, Any]) -> Dict[str, float]:
    """Measure it once, for a comparison."""
    del base
    runs = size["runs"]
    with tls_server() as (url, bundle):
        found = follow_many(url, bundle, runs, size["idle"])
    return {
        f"{runs:,} runs, memory of one, kB": found["bytes a run"] / 1000,
        f"{runs:,} runs, to begin one, ms": 1000 * found["seconds to begin a run"],
        f"{runs:,} runs, each when idle, µs of CPU a second": 1e6
        * found["CPU seconds a run and second"],
    }


@contextmanager
def tls_server() -> Iterator[Tuple[str, str]]:
    """Run a server that speaks TLS; give its URL and a file of certificates to trust."""
    with (
        tempfile.NamedTemporaryFile("w", suffix=".pem") as bundle,
        Server((CERTIFICATE, KEY)) as server,
    ):
        # All that a client usually trusts, because a small context would cost less.
        bundle.write(Path(certifi.where()).read_text() + Path(CERTIFICATE).read_text())
        bundle.flush()
        yield server.url, bundle.name


def follow_many(base: str, bundle: str, runs: int, idle: float) -> Dict[str, Any]:
    """Follow many jobs, and look at this process when nothing but a ping comes."""
    raise_file_limit()
    os.environ["REQUESTS_CA_BUNDLE"] = bundle
    client = cloud(base)
    job = f"idle-chunked-{EVENTS}-{idle * 1000:.0f}"
    delivered = itertools.count(1)
    enough = threading.Event()
    expected = 0

    def on_log(_: Any) -> None:
        if next(delivered) == expected:
            enough.set()

    with ExitStack() as stack:

        def begin(number: int) -> None:
            nonlocal expected
            expected += number * EVENTS
            enough.clear()
            for _ in range(number):
                stack.enter_context(follow(job, client=client, callbacks={"on_log": on_log}))
            enough.wait(PATIENCE)

        begin(1)  # whatever is needed once is there now
        gc.collect()
        alone, began = resident(), time.perf_counter()
        begin(runs - 1)
        seconds = time.perf_counter() - began
        gc.collect()
        together = resident()
        files = len(os.listdir("/proc/self/fd"))
        contexts = sum(issubclass(type(each), ssl.SSLContext) for each in gc.get_objects())
        before = time.process_time()
        threading.Event().wait(idle)
        cpu = time.process_time() - before
        threads = threading.active_count()
    return {
        "bytes a run": (together - alone) / (runs - 1),
        "TLS contexts": contexts,
        "delivered": next(delivered) - 1,
        "CPU seconds a run and second": cpu / runs / idle,
        "seconds between pings": idle,
        "seconds to begin a run": seconds / (runs - 1),
        "files": files,
        "threads": threads,
    }
