"""Whole runs inside of transactions in which everything goes wrong at random: effects exactly once.

Each seed draws a schedule as `test_chaos.py` does. Its callbacks write into a database in memory,
inside of `around`. Commits fail, and answers to commits are lost. Run after run follows the job,
until one comes to its end::

    ARKOR_CHAOS=2000 python -m pytest tests/chaos/test_chaos_around.py
    ARKOR_CHAOS_SEED=1234 python -m pytest tests/chaos/test_chaos_around.py
"""

from __future__ import annotations

import os
import random
import uuid
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

import pytest
from chaos_driver import described, key_of, styled
from chaos_schedule import AGAIN, END, ERRORS, SKIP, Schedule, draw

from arkor_sync import LeaseLostError, Redeliver, Skip, TokenCredentials, follow
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.stores.leased import LeasedStore
from support.memory_backend import MemoryBackend
from support.waiting import PATIENCE

SEED = os.environ.get("ARKOR_CHAOS_SEED")
ALL = [int(SEED)] if SEED else range(10 * int(os.environ.get("ARKOR_CHAOS", "60")))


def fits(schedule: Schedule) -> bool:
    """Whether the cloud itself loses nothing: the whole job is there, and can be read again."""
    gone = any(fault.kind == "replay_gone" for fault in schedule.faults)
    return schedule.mode == "safe" and schedule.ending in ("completed", "failed") and not gone


SEEDS = [seed for seed in ALL if fits(draw(seed))][: max(1, len(ALL) // 40)]
CALM = 4  # runs, after which nothing fails any more


class Broken(Exception):
    """There is no connection, or the commit has failed."""


class LostAnswer(Exception):
    """The transaction was committed, and the connection broke."""


class Database(MemoryBackend):
    """Keeps rows and positions, both as of the last commit."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rows: List[Any] = []
        self.calm = False
        self._random = random.Random(seed)

    @contextmanager
    def around(self) -> Iterator[None]:
        before = list(self.rows)
        luck = 1.0 if self.calm else self._random.random()
        if luck < 0.05:
            raise Broken("no connection")
        try:
            with self.transaction():
                yield
                if luck < 0.1:
                    raise Broken("the commit failed")
        except BaseException:
            self.rows = before
            raise
        if luck < 0.15:
            raise LostAnswer


def outcome(schedule: Schedule, handler: int, ctx: Any) -> Callable[[], None]:
    word = schedule.outcome(handler, key_of(ctx.event)[0], ctx.attempt)

    def act() -> None:
        if word in ERRORS:
            raise ERRORS[word](word)
        if word == SKIP:
            raise Skip
        if word == AGAIN:
            raise Redeliver

    return act


@pytest.mark.parametrize("seed", SEEDS)
def test_each_event_has_its_effects_exactly_once(seed: int, arkor_no_leaks: None) -> None:
    import concurrent.futures

    schedule, database = draw(seed), Database(seed)
    emulator = Emulator(framing=schedule.framing, ping_interval=0.04, fault_seed=seed)
    emulator.faults.add(*schedule.faults)
    seen: List[Any] = []

    def witness(ctx: Any) -> None:
        """Write a row for each event; it never fails itself."""
        database.rows.append(key_of(ctx.event)[0])

    def troubled(handler: int) -> Callable[[Any], Any]:
        def call(ctx: Any) -> Any:
            if database.calm:
                return None
            style = schedule.style(handler, key_of(ctx.event)[0], ctx.attempt)
            return styled(style, pool, outcome(schedule, handler, ctx))

        return call

    def fresh() -> TokenCredentials:
        token = uuid.uuid4().hex
        emulator.add_token(token)
        return TokenCredentials(token)

    names = [f"on_{n}" for n in ("started", "log", "checkpoint", "completed", "failed")]
    table = [dict.fromkeys(names, call) for call in (witness, *map(troubled, range(2)))]
    with emulator, concurrent.futures.ThreadPoolExecutor(2) as pool:
        job_id = emulator.create_job(ScriptedEngine(events=schedule.items))
        for number in range(CALM + 9):
            database.calm = number >= CALM
            store = LeasedStore(database, ttl=30.0)
            try:
                with follow(
                    job_id,
                    callbacks=table,
                    around=database.around,
                    error_policy=schedule.policy(seen.append, Broken, LostAnswer),
                    reconnect=schedule.reconnect(),
                    client=emulator.client(credentials=fresh),
                    cursor_store=store,
                    max_buffered_events=schedule.max_events,
                    max_event_bytes=schedule.max_event_bytes,
                ) as run:
                    result = run.wait(PATIENCE)
                break
            except LeaseLostError:
                raise
            except Exception as error:  # of a callback, of the database, of the cloud
                last = error
            finally:
                store.close()
        else:
            raise AssertionError(f"no run came to the end: {last!r}\n{described(schedule)}")
        job = emulator.jobs[job_id]
        told = [event["seq"] for event in job.events if "seq" in event]
    wanted = [key for key in told if key not in schedule.unreadable]
    again = f"ARKOR_CHAOS_SEED={seed} python -m pytest tests/chaos/test_chaos_around.py"
    assert database.rows == [*wanted, END], f"{again}\n{described(schedule)}"
    assert result.status == schedule.status
    assert database.positions[job_id][2], "it is finished with"
    assert emulator.errors == []
