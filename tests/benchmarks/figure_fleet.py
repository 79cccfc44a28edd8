"""A fleet: what a store for several machines costs, and how soon another process takes over.

Run as a program it is a process of the fleet.
"""

from __future__ import annotations

import gc
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

from bench_clients import cloud
from bench_report import Figure, Row, Size, fresh, resident, say, spread
from bench_server import Server, raise_file_limit

from arkor_sync import Follower, SavedCursor, SQLCursorStore

sys.path.append(str(Path(__file__).parents[1]))
from support.postgres import Postgres
from support.waiting import until

ON_THE_DISK: Dict[str, str] = {}  # the server's own settings: a commit is on the disk
RUNS = 50  # that save at the same time
LEAST = 1_000  # saves a second, in batches
MOST_IDLE = 5.0  # per cent of a core
TTL = 3.0  # seconds, while take-overs are measured
JOBS = (10, 100)  # that are taken over by a process that has as many
LATEST = {signal.SIGKILL: 2.0, signal.SIGTERM: 1.0}  # seconds
PATIENCE = 300.0  # seconds; only ever waited out by a failure


def measure(size: Size) -> Figure:
    figure = Figure()
    with Postgres(ON_THE_DISK) as postgres, Server() as server:
        for name, runs in (("one run", 1), (f"{RUNS} runs, in batches", RUNS)):
            with database(postgres) as url:
                found = [fresh(saves, url, runs, size.saves) for _ in range(size.rounds)]
            add(figure, f"fenced saves, {name}", found, "a second", 0 if runs == 1 else LEAST)
        with database(postgres) as url:
            found = fresh(renewals, url, size.leases, size.rounds)
        add(figure, f"renewals of {size.leases:,} leases", found, "a second", 0)
        with database(postgres) as url:
            idle = fresh(followed, url, server.url, size.silent, size.idle)
        say(f"fleet, silent jobs: {idle}")
        figure.data["silent"] = idle
        figure.rows += rows_of_silent(size.silent, idle)
        for jobs in JOBS:
            for number, latest in LATEST.items():
                with database(postgres) as url:
                    took = [take_over(url, server.url, number, jobs) for _ in range(size.rounds)]
                add_take_over(figure, number, jobs, took, latest)
    return figure


def add_take_over(
    figure: Figure, number: signal.Signals, jobs: int, took: List[float], latest: float
) -> None:
    """Add a row for how long jobs had nobody."""
    name = f"take-over of {jobs} jobs, {number.name}"
    after = "the lease's end" if number == signal.SIGKILL else "the signal"
    text = f"{spread(took, 's', 2)} after {after}"
    say(f"fleet, {name}: {text}")
    figure.data[name] = took
    figure.rows.append(Row(name, text, f"at most {latest:g} s", max(took) <= latest))


def add(figure: Figure, name: str, found: List[float], unit: str, least: int) -> None:
    """Add a row for a rate, with the least that it must reach; 0 for none."""
    text = spread(found, unit, 0)
    say(f"fleet, {name}: {text}")
    figure.data[name] = found
    target = f"at least {least:,} {unit}" if least else "stated"
    figure.rows.append(Row(name, text, target, statistics.median(found) >= least))


def rows_of_silent(jobs: int, idle: Dict[str, float]) -> List[Row]:
    share = 100 * idle["CPU seconds a second"]
    each = 1e6 * idle["CPU seconds a second"] / jobs
    name = f"{jobs:,} silent jobs"
    return [
        Row(f"{name}, memory", f"{idle['bytes a job'] / 1000:.0f} kB a job", "stated", True),
        Row(
            f"{name}, CPU",
            f"{share:.1f} % of a core, {each:.0f} µs a second each",
            f"at most {MOST_IDLE:g} %",
            share <= MOST_IDLE,
        ),
        Row(f"{name}, connections to the store", f"{idle['connections']:.0f}", "stated", True),
    ]


@contextmanager
def database(postgres: Postgres) -> Iterator[str]:
    """Make a database with the tables of the store; yield its URL."""
    url = postgres.new_database()
    store = SQLCursorStore(url)
    store.create_tables()
    store.close()
    yield url
    postgres.drop_database(url)


def saves(url: str, runs: int, each: int) -> float:
    """Save the positions of some runs, each on a thread of its own; return saves a second."""
    store = SQLCursorStore(url)
    run = os.urandom(4).hex()
    reservations = [store.reserve(f"{run}-{number}", lost) for number in range(runs)]
    each = max(1, each // runs)
    ready = threading.Barrier(runs + 1)

    def save(number: int) -> None:
        ready.wait()
        for step in range(each):
            reservations[number].save(SavedCursor(str(step), step, opening=("a" * 40, "b" * 40)))

    threads = [threading.Thread(target=save, args=(number,)) for number in range(runs)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for reservation in reservations:
        reservation.release()
    store.close()
    return runs * each / took


def lost(error: BaseException) -> None:
    raise error


def renewals(url: str, leases: int, rounds: int) -> List[float]:
    """Renew many leases of one process a few times; return renewals a second."""
    store = SQLCursorStore(url, ttl=3600)
    reservations = [store.reserve(str(number), lost) for number in range(leases)]
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        assert store._renew(reservations)
        found.append(leases / (time.perf_counter() - began))
    store.close()
    return found


def followed(url: str, base: str, jobs: int, seconds: float) -> Dict[str, float]:
    """Follow silent jobs, and look at this process when nothing but pings comes."""
    raise_file_limit()
    store = SQLCursorStore(url)
    wanted = ids(1)
    with Follower(lambda: wanted, {}, store=store, client=cloud(base), poll=1.0) as follower:
        until(lambda: len(follower.runs) == 1, PATIENCE)
        gc.collect()
        alone = resident()
        wanted = ids(jobs)
        until(lambda: len(follower.runs) == jobs, PATIENCE)
        gc.collect()
        together = resident()
        threading.Event().wait(store.ttl)  # until the beginning is over
        before = time.process_time()
        threading.Event().wait(seconds)
        cpu = time.process_time() - before
        connections = connections_to(url)
    store.close()
    return {
        "bytes a job": (together - alone) / (jobs - 1),
        "CPU seconds a second": cpu / seconds,
        "connections": connections,
    }


def connections_to(url: str) -> int:
    """Count the connections to a database, without the one that asks."""
    import psycopg

    question = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()"
    with psycopg.connect(url) as connection:
        row = connection.execute(question).fetchone()
    return int(row[0]) if row else 0


def ids(jobs: int) -> List[str]:
    """Return the ids of jobs that send two events, and then a ping every quarter of a minute."""
    return [f"idle-chunked-2-{15_000 + number}" for number in range(jobs)]


def take_over(url: str, base: str, number: signal.Signals, jobs: int) -> float:
    """End one of two processes; return how long its jobs had nobody who may follow them."""
    store = SQLCursorStore(url)
    member = [sys.executable, __file__, url, base, str(2 * jobs)]
    members = [subprocess.Popen(member, env=environment()) for _ in range(2)]
    try:
        until(lambda: shared(store, jobs), PATIENCE)
        victim, other = members
        victim.send_signal(number)
        began = time.monotonic()
        if number == signal.SIGKILL:
            victim.wait()
            left = [each.expires_in for each in store.holders() if is_of(victim, each.owner)]
            began = time.monotonic() + max(left)
        until(lambda: all(is_of(other, o) for o in owners(store)), PATIENCE)
        return time.monotonic() - began
    finally:
        for member in members:
            member.kill()
            member.wait()
        for each in store.holders():
            store.backend.release(each.job_id, str(each.owner), each.epoch)
        store.close()


def owners(store: SQLCursorStore) -> List[Any]:
    return [each.owner if each.expires_in > 0 else None for each in store.holders()]


def shared(store: SQLCursorStore, jobs: int) -> bool:
    """Whether two processes have so many jobs each."""
    found = owners(store)
    return None not in found and [found.count(each) for each in found] == [jobs] * (2 * jobs)


def is_of(process: subprocess.Popen[bytes], owner: Any) -> bool:
    return f"process {process.pid} " in str(owner)


def environment() -> Dict[str, str]:
    here = Path(__file__).parent
    path = (str(here), str(here.parent), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


if __name__ == "__main__":
    url, base, number = sys.argv[1:]
    store = SQLCursorStore(url, ttl=TTL)
    Follower(ids(int(number)), {}, store=store, client=cloud(base)).run()
