"""Runs that keep their positions in SQL, together with what their callbacks write."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from arkor_sync import Callbacks, SQLCursorStore, follow
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.command_line import REPOSITORY
from support.extras import need
from support.postgres import postgres
from support.waiting import PATIENCE, until

KILLS = int(os.environ.get("ARKOR_KILLS", "4"))
STEPS = 10


@pytest.fixture(autouse=True)
def _library() -> None:
    need("sqlalchemy")


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    server = postgres()
    url = server.new_database()
    yield url
    server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    found: str = request.getfixturevalue("postgresql_url")
    return found


@pytest.fixture
def make_store() -> Iterator[Callable[..., SQLCursorStore]]:
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> SQLCursorStore:
            store = SQLCursorStore(url, **options)
            stack.callback(store.close)
            store.create_tables()
            with store.transaction() as connection:
                connection.exec_driver_sql(
                    "CREATE TABLE IF NOT EXISTS effects (job text, step integer)"
                )
            return store

        yield make


def effects(store: SQLCursorStore) -> List[Any]:
    with store.transaction() as connection:
        rows = connection.exec_driver_sql("SELECT job, step FROM effects ORDER BY job, step")
        return [tuple(row) for row in rows]


def write(store: SQLCursorStore, ctx: Any) -> None:
    """Write what a callback was called for, in the transaction of its event."""
    store.connection().exec_driver_sql(f"INSERT INTO effects VALUES ('{ctx.job.id}', {ctx.step})")


def all_steps(*job_ids: str) -> List[Any]:
    return [(job_id, step) for job_id in sorted(job_ids) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_server_is_restarted_in_a_callback_and_each_effect_is_there_once(
    make_store: Any, postgresql_url: str, moment: str
) -> None:
    store = make_store(postgresql_url)
    restarts = []

    def on_log(ctx: Any) -> None:
        if moment == "after":
            write(store, ctx)
        if ctx.step in (3, 7) and ctx.step not in restarts:
            restarts.append(ctx.step)
            postgres().restart()
        if moment == "before":
            write(store, ctx)

    with Emulator(ScriptedEngine(steps=STEPS)) as arkor:
        job_id = arkor.create_job()
        run = follow(
            job_id,
            callbacks=Callbacks(on_log=on_log),
            client=arkor.client(),
            cursor_store=store,
            around=store.transaction,
        )
        assert run.wait(PATIENCE).status == "completed"
    assert restarts == [3, 7]
    assert effects(store) == all_steps(job_id)
    assert store.load(job_id).finished


def test_the_server_is_restarted_between_events_and_the_run_goes_on(
    make_store: Any, postgresql_url: str
) -> None:
    store = make_store(postgresql_url)
    seen: List[int] = []
    with Emulator(ScriptedEngine(steps=STEPS, manual=True)) as arkor:
        job_id = arkor.create_job()
        callbacks = Callbacks(on_log=lambda ctx: seen.append(ctx.step))
        run = follow(job_id, callbacks=callbacks, client=arkor.client(), cursor_store=store)
        for number in range(STEPS + 2):
            arkor.step(job_id)
            until(lambda number=number: store.load(job_id).delivered == number + 1)
            if number % 4 == 2:
                postgres().restart()
        assert run.wait(PATIENCE).status == "completed"
    assert seen == list(range(1, STEPS + 1))


@pytest.mark.parametrize("runs", [8, pytest.param(70, marks=pytest.mark.slow)])
def test_many_runs_share_a_few_connections(make_store: Any, url: str, runs: int) -> None:
    """With SQLite, in which one writes at a time, too: nobody ends because the file is locked."""
    store = make_store(url, max_connections=4)
    most = 0

    def on_log(ctx: Any) -> None:
        nonlocal most
        write(store, ctx)
        if url.startswith("postgresql") and ctx.step == STEPS // 2:
            most = max(most, postgres().connections(url))

    with Emulator(ScriptedEngine(steps=STEPS)) as arkor:
        job_ids = [arkor.create_job() for _ in range(runs)]
        followed = [
            follow(
                job_id,
                callbacks=Callbacks(on_log=on_log),
                client=arkor.client(),
                cursor_store=store,
                around=store.transaction,
            )
            for job_id in job_ids
        ]
        assert {run.wait(PATIENCE).status for run in followed} == {"completed"}
    assert effects(store) == all_steps(*job_ids)
    assert most <= 4


def test_an_abort_ends_the_wait_for_a_transaction(make_store: Any, postgresql_url: str) -> None:
    store = make_store(postgresql_url, max_connections=2)
    waits = threading.Event()

    def around() -> Any:
        waits.set()
        return store.transaction()

    # This transaction is the only one that there may be.
    with Emulator(ScriptedEngine(steps=STEPS)) as arkor, store.transaction():
        run = follow(
            arkor.create_job(),
            callbacks=Callbacks(on_log=lambda ctx: write(store, ctx)),
            client=arkor.client(),
            cursor_store=store,
            around=around,
        )
        assert waits.wait(PATIENCE)
        run.abort()
        until(lambda: store.holders([run.job.id])[0].expires_in <= 0)
    assert effects(store) == []


FOLLOWER = """
import sys
from arkor_sync import Callbacks, LeaseLostError, SQLCursorStore, follow

url, job_id = sys.argv[1:]
store = SQLCursorStore(url, ttl=1.0 if url.startswith("postgresql") else 3.0)

def on_log(ctx):
    values = f"('{job_id}', {ctx.step})"
    store.connection().exec_driver_sql(f"INSERT INTO effects VALUES {values}")
    print(ctx.step, flush=True)

callbacks = Callbacks(on_log=on_log)
options = {"cursor_store": store, "around": store.transaction, "lease_wait": 60}
try:
    print(follow(job_id, callbacks=callbacks, **options).wait().status, flush=True)
except LeaseLostError:
    print("lost", flush=True)
"""


class Processes:
    """Processes that follow a job, one after the other."""

    def __init__(self, arkor: Emulator, url: str, home: Path) -> None:
        self._environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            **arkor.environment(),
        }
        self._url = url
        self._home = home
        self.started: List[subprocess.Popen[str]] = []

    def start(self, job_id: str) -> subprocess.Popen[str]:
        self.started.append(
            subprocess.Popen(
                [sys.executable, "-c", FOLLOWER, self._url, job_id],
                stdout=subprocess.PIPE,
                env=self._environment,
                cwd=self._home,
                text=True,
            )
        )
        return self.started[-1]

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.started:
            each.kill()
            each.communicate()


@pytest.mark.slow
def test_killed_at_random_moments_each_effect_is_there_once(
    make_store: Any, url: str, tmp_path: Path
) -> None:
    moments = random.Random("killed while it follows with a transaction")
    store = make_store(url)
    steps = 20 * KILLS
    engine = ScriptedEngine(steps=steps)
    with Emulator(engine) as arkor, Processes(arkor, url, tmp_path) as processes:
        job_id = arkor.create_job()
        for _ in range(KILLS):
            child = processes.start(job_id)
            assert child.stdout is not None
            for _ in range(moments.randrange(1, 10)):
                assert child.stdout.readline()
            child.kill()
        last = processes.start(job_id)
        assert last.communicate(timeout=PATIENCE)[0].splitlines()[-1] == "completed"
    assert effects(store) == [(job_id, step) for step in range(1, steps + 1)]


@pytest.mark.slow
def test_a_holder_that_was_frozen_past_its_lease_writes_nothing_when_it_comes_back(
    make_store: Any, postgresql_url: str, tmp_path: Path
) -> None:
    store = make_store(postgresql_url)
    engine = ScriptedEngine(steps=STEPS, manual=True)
    with Emulator(engine) as arkor, Processes(arkor, postgresql_url, tmp_path) as processes:
        job_id = arkor.create_job()
        frozen = processes.start(job_id)
        arkor.step(job_id, 3)
        until(lambda: store.load(job_id).delivered == 3)
        frozen.send_signal(signal.SIGSTOP)
        heir = processes.start(job_id)
        until(lambda: store.holders([job_id])[0].epoch == 2)
        arkor.step(job_id, STEPS - 1)
        assert heir.communicate(timeout=PATIENCE)[0].splitlines()[-1] == "completed"
        frozen.send_signal(signal.SIGCONT)
        assert frozen.communicate(timeout=PATIENCE)[0].splitlines()[-1] == "lost"
    assert effects(store) == all_steps(job_id)
    assert store.holders([job_id])[0].epoch == 2
