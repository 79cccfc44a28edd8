"""Runs one schedule against an emulator, and holds what happened against the oracle."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import faulthandler
import json
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence
from unittest import mock

import requests
from chaos_oracle import AGAIN_ATTEMPTS, Entry, Oracle, Wrong, check_complete, check_order
from chaos_schedule import ABORT_RUN, AGAIN, END, ERRORS, EXIT, SAVE, SKIP, STOP, Key, Schedule

from arkor_sync import (
    ArkorConnectionError,
    CloudApiClient,
    CloudApiError,
    ConflictError,
    CursorStoreError,
    FileCursorStore,
    ReconnectExhausted,
    Redeliver,
    ResponseError,
    Run,
    RunAborted,
    SavedCursor,
    Skip,
    StopTraining,
    StreamProtocolError,
    TokenCredentials,
    TrainingEvent,
    TrainingResult,
    WaitTimeout,
    follow,
)
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.stream import reader
from arkor_sync.stream.cursor import Cursor
from support.servers import CERTIFICATE

WATCHDOG = 60.0  # seconds; nothing here takes one
LOSSES = ("skip", "reorder", "repeat_id", "bad_utf8", "missing_field", "garbage", "huge_event")
NETWORK = (CloudApiError, StreamProtocolError, ResponseError, ReconnectExhausted)
NAMES = ("started", "log", "checkpoint", "completed", "failed", "cancelled")


class Driver:
    """One schedule being run.

    Attributes:
        trace: What the worker thread of the run at hand did.
    """

    def __init__(self, schedule: Schedule, emulator: Emulator, directory: Path) -> None:
        self.trace: List[Entry] = []
        self._schedule = schedule
        self._emulator = emulator
        self._store = Store(directory, self) if schedule.phases > 1 else None
        self._acked: List[Key] = []  # and saved, by all runs
        self._saved = 0  # of what the run at hand has acknowledged
        self._killed = False
        self._saves = 0  # by all runs
        self._dead: List[Any] = []
        self._calls = 0
        self._interrupted = False  # whether somebody stopped the run at hand
        self._pool = concurrent.futures.ThreadPoolExecutor(2, "chaos")
        self._job_id = ""
        self._fed_at = 0.0

    def run(self) -> None:
        """Run the schedule.

        Raises:
            Wrong: A promise was broken.
        """
        schedule = self._schedule
        with contextlib.ExitStack() as stack:
            stack.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(schedule.switch_interval)
            stack.enter_context(self._pool)
            stack.enter_context(mock.patch("arkor_sync.run.Cursor", self._cursor))
            # So long that a machine which stands still does not use it up: what the record ends
            # is lost. It is cut short when there is nothing left to lose.
            stack.enter_context(mock.patch.object(reader, "CANCEL_GRACE", WATCHDOG / 2))
            self._submit()
            for phase in range(schedule.phases):
                last = phase == schedule.phases - 1
                if self._follow(last):
                    break
            self._check_requests()

    # -- the job ------------------------------------------------------------------------------

    def _submit(self) -> None:
        schedule, emulator = self._schedule, self._emulator
        engine = ScriptedEngine(events=schedule.items, manual=schedule.pace == "live")
        self._job_id = emulator.create_job(engine)
        if schedule.pace == "burst" and schedule.ending in ("record", "silence"):
            emulator.wait_for(lambda: len(self._job.log) == len(schedule.items))
            self._end_job()

    @property
    def _job(self) -> Any:
        return self._emulator.jobs[self._job_id]

    def _end_job(self) -> None:
        if not self._job.terminal:
            self._emulator.finish(self._job_id, self._schedule.status, silent=True)
        if self._schedule.ending == "record":
            self._emulator.finish(self._job_id, None)

    def _keys(self) -> List[Key]:
        """Return what the log holds, the end included, which the record may hold instead."""
        numbers = [event["seq"] for event in self._job.events if "seq" in event]
        return [*numbers, END]

    def _feed(self) -> None:
        """Let a live job tell one thing more, once what it told before has been dealt with."""
        log, items = self._job.log, self._schedule.items
        if self._job.ended or (self._schedule.ending == "silence" and self._job.terminal):
            return
        told = [key for key in self._keys() if key != END]
        behind = len(told) - len(self._all_acked())
        # Only a job that runs can be asked for its whole history, so nothing may be outstanding.
        last = len(log) >= len(items) - 1
        patient = self._schedule.mode == "lossy" and time.monotonic() > self._fed_at + 0.03
        if behind > (0 if last else 3) and not patient:
            return
        self._fed_at = time.monotonic()
        if len(log) < len(items):
            self._emulator.step(self._job_id)
        elif self._schedule.ending in ("record", "silence"):
            self._end_job()

    # -- a run --------------------------------------------------------------------------------

    def _follow(self, last: bool) -> bool:
        """Follow the job with one run; return whether there is nothing left to do."""
        schedule = self._schedule
        self.trace, self._dead, self._calls, self._interrupted = [], [], 0, False
        self._saved, self._killed = 0, False
        run = self._begin()
        error: Optional[BaseException] = None
        result: Optional[TrainingResult] = None
        try:
            with contextlib.closing(run):
                self._steer(run)
                result = run.wait(WATCHDOG)
        except WaitTimeout:
            raise Wrong(f"the run hangs\n{stacks()}") from None
        except BaseException as ending:
            error = ending
        oracle = Oracle(schedule)
        oracle.read(self.trace)
        acked = [*self._acked, *oracle.acked]
        check_order(schedule, self._keys(), acked, self._losses())
        self._check_ending(run, oracle, result, error)
        # What was acknowledged and not saved, another process does not know.
        self._acked += oracle.acked if self._store is None else oracle.acked[: self._saved]
        if self._killed or result is None:
            return False
        if result.stop_reason:
            return self._check_stopped()
        if self._interrupted and acked[-1:] != [END]:
            return False  # stopped in the last event's callbacks, a run still has its result
        if not self._may_lose_the_rest():
            check_complete(schedule, self._keys(), acked, self._losses())
        if self._store is not None and self._acked == acked:
            self._check_finished()
        return True

    def _begin(self) -> Run:
        schedule = self._schedule
        table = [
            {f"on_{name}": self._callback(handler, f"on_{name}") for name in NAMES}
            for handler in range(schedule.handlers)
        ]
        self._abort_event = threading.Event()
        for attempts_left in reversed(range(9)):
            try:
                return follow(
                    self._job_id,
                    callbacks=table,
                    error_policy=schedule.policy(self._dead.append),
                    reconnect=schedule.reconnect(),
                    client=self._client(),
                    cursor_store=self._store,
                    abort_event=self._abort_event if schedule.action[0] == "abort event" else None,
                    stale_after=schedule.stale_after,
                    max_buffered_events=schedule.max_events,
                    max_buffered_bytes=schedule.max_bytes,
                    max_event_bytes=schedule.max_event_bytes,
                )
            except (ArkorConnectionError, CloudApiError, ResponseError):
                if not attempts_left:
                    raise
        raise AssertionError

    def _client(self) -> CloudApiClient:
        emulator = self._emulator

        def fresh() -> TokenCredentials:
            if not self._schedule.fresh_tokens:
                return TokenCredentials(emulator.token)
            token = uuid.uuid4().hex
            emulator.add_token(token)
            return TokenCredentials(token)

        session = requests.Session()
        session.verify, session.trust_env = CERTIFICATE, False
        return emulator.client(credentials=fresh, session=session)

    def _steer(self, run: Run) -> None:
        """Do what the schedule's main thread does, until the run is over or nothing is left."""
        action, after = self._schedule.action
        live = self._schedule.pace == "live"
        needed = live or self._schedule.may_end_in_silence
        pause = threading.Event()
        began = time.monotonic()
        while not run.done() and (needed or action != "none"):
            waited = time.monotonic() - began
            if waited >= WATCHDOG:
                break
            if action != "none" and self._calls >= after:
                self._act(run, action)
                action = "none"
            if live:
                self._feed()
            if self._job.terminal and not self._job.ended:
                lost = self._schedule.mode == "lossy" and waited > 5  # it may never come
                if lost or {*self._keys()} - {*self._all_acked()} <= {END}:
                    reader.CANCEL_GRACE = 0.1
            run.health()
            pause.wait(0.001)

    def _act(self, run: Run, action: str) -> None:
        if action == "cancel":
            try:
                run.cancel()
            except (ConflictError, ArkorConnectionError):
                return  # the job was quicker
            except CloudApiError:
                if self._schedule.mode != "fatal":
                    raise
            return
        if action == "stop":
            try:
                # A callback may have aborted the run meanwhile.
                self._interrupted = run.stop("chaos") or self._interrupted
            except CloudApiError:
                if self._schedule.mode != "fatal":
                    raise
            return
        self._interrupted = True
        if action == "kill":
            self._killed = True
            run.close()
        elif action == "abort":
            run.abort("chaos")
        elif action == "close":
            run.close()
        else:
            self._abort_event.set()

    # -- the worker thread --------------------------------------------------------------------

    def _cursor(self, saved: SavedCursor) -> Cursor:
        """Make a cursor that tells of what is acknowledged."""
        trace = self.trace

        class Recording(Cursor):
            def acknowledge(self, events: Sequence[TrainingEvent]) -> None:
                # Events may be acknowledged together; each was done with after its last call.
                told = [n for n, each in enumerate(trace) if each.callback is None]
                position = told[-1] + 1 if told else 0
                for event in events:
                    key, identity = key_of(event)
                    entry = Entry(key, identity, event.id, problem=event.problem is not None)
                    calls = [n for n, each in enumerate(trace) if each.identity == identity]
                    position = max([position, *(n + 1 for n in calls)])
                    trace.insert(position, entry)
                    position += 1
                super().acknowledge(events)

        remembered = self._schedule.remembered
        return Recording(saved, remembered) if remembered else Recording(saved)

    def _callback(self, handler: int, name: str) -> Callable[[Any], Any]:
        schedule = self._schedule

        def call(ctx: Any) -> Any:
            key, identity = key_of(ctx.event)
            self.trace.append(Entry(key, identity, ctx.event.id, name, handler, ctx.attempt))
            self._calls += 1
            if schedule.dawdles(handler, key):
                wait_a_little_for(
                    lambda: ctx.run.health().queue_depth >= min(schedule.max_events, 8)
                )
            word = schedule.outcome(handler, key, ctx.attempt)
            return styled(
                schedule.style(handler, key, ctx.attempt), self._pool, lambda: self._do(word, ctx)
            )

        return call

    def _do(self, word: str, ctx: Any) -> None:
        if word in ERRORS:
            raise ERRORS[word](word)
        if word == SKIP:
            raise Skip
        if word == AGAIN:
            raise Redeliver(attempts=AGAIN_ATTEMPTS)
        if word == STOP:
            raise StopTraining("chaos")
        if word == EXIT:
            raise SystemExit(7)
        if word == ABORT_RUN:
            self._interrupted = True
            ctx.run.abort("chaos")

    # -- what must be true afterwards ---------------------------------------------------------

    def _all_acked(self) -> List[Key]:
        return [*self._acked, *self.acked_now()]

    def acked_now(self) -> List[Key]:
        """List what the run at hand has acknowledged."""
        now = [entry.key for entry in self.trace if entry.callback is None]
        return [key for key in now if key is not None]

    def save(self, write: Callable[[], None]) -> None:
        """Save a position, if the run at hand was not killed."""
        if self._killed:
            return
        write()
        self._saved = len(self.acked_now())

    def save_fails(self, saved: SavedCursor) -> bool:
        """Tell whether the next save fails."""
        self._saves += 1
        if self._saves not in self._schedule.failing_saves:
            return False
        if saved.finished and (not self.trace or self.trace[-1].key != END):
            return True  # the job was stopped: that it was, is kept or not, and nobody decides
        acked = self.trace[-1]
        attempt = 1 + (acked.attempt if acked.callback == SAVE else 0)
        self.trace.append(acked._replace(callback=SAVE, attempt=attempt))
        return True

    def _losses(self) -> int:
        """Count how often the server itself lost, changed or moved an event."""
        return sum(
            fired
            for fault, fired in self._emulator.faults.tally()
            if fault.kind in LOSSES and fault.count is not None
        )

    def _may_lose_the_rest(self) -> bool:
        """Tell whether the server could not resume, and the job may have ended before."""
        ended_early = self._schedule.mode == "lossy" or self._job.status == "cancelled"
        return ended_early and any(
            fired for fault, fired in self._emulator.faults.tally() if fault.kind == "replay_gone"
        )

    def _check_ending(
        self,
        run: Run,
        oracle: Oracle,
        result: Optional[TrainingResult],
        error: Optional[BaseException],
    ) -> None:
        health = run.health()
        acks = [entry for entry in self.trace if entry.callback is None]
        told = [health.delivered, health.skipped, health.given_up, len(self._dead)]
        saved = len(acks) - isinstance(error, CursorStoreError)
        if self._interrupted and self.trace and self.trace[-1].callback == SAVE:
            # Somebody who stops the run may have come before it was decided about the failed save.
            saved = min(saved, max(health.delivered, saved - 1))
        mine = [saved, sum(e.problem for e in acks), oracle.given_up, oracle.given_up]
        # Somebody who stops the run may have come before the outcome of the last call.
        cut_short = self._interrupted and self.trace and self.trace[-1].callback is not None
        if told != mine and not (cut_short and told[:2] == mine[:2]):
            raise Wrong(f"delivered, skipped, given up, dead letters: {told}, not {mine}")
        stopped = result is not None and result.stop_reason is not None
        # In the callback of the job's end the result stands, whatever becomes of the callback.
        kept = cut_short and result is not None and self.trace[-1].key == END
        if cut_short and (stopped or kept or isinstance(error, RunAborted)):
            return
        if health.queue_high_water > self._schedule.max_events:
            raise Wrong(f"{health.queue_high_water} events were queued")
        if oracle.verdict is not None:
            own = {AGAIN: Redeliver, EXIT: SystemExit, SAVE: CursorStoreError}
            wanted = {**ERRORS, **own}[oracle.verdict]
            if type(error) is not wanted:
                raise Wrong(f"a callback raised {wanted.__name__}, wait() {error!r}")
        elif result is not None:
            if not (oracle.between_events or result.stop_reason or self._interrupted):
                raise Wrong("the run ended in the middle of an event")
            called = {entry.callback for entry in self.trace if entry.key == END} - {None, SAVE}
            if result.status != self._job.status or called - {f"on_{result.status}"}:
                raise Wrong(f"{result.status}, called {called}, the job: {self._job.status}")
        elif isinstance(error, RunAborted):
            if not self._interrupted:
                raise Wrong(f"nobody aborted it: {error}")
        elif not (isinstance(error, NETWORK) and self._schedule.mode != "safe"):
            raise error or Wrong("no result and no error")

    def _check_stopped(self) -> bool:
        """Check a job that the program has stopped; return whether that could be kept."""
        if self._store is None:
            return True
        if not self._store.load(self._job_id).finished:
            if self._saves not in self._schedule.failing_saves:
                raise Wrong("a stopped job may be followed again")
            return False
        self._check_finished()
        return True

    def _check_finished(self) -> None:
        """Follow the job once more: there is nothing left to call."""
        self.trace = []
        with self._begin() as run:
            run.wait(WATCHDOG)
        if self.trace:
            raise Wrong("a job that was finished with was delivered again")

    def _check_requests(self) -> None:
        """Check that streams were resumed after events, and after nothing else."""
        ids = {entry.id for entry in self._job.log}
        ids |= {f"garbage-{number}" for number in range(99)} | {None}
        for stream in self._emulator.connections():
            if stream.last_event_id not in ids:
                raise Wrong(f"resumed after {stream.last_event_id!r}")


class Store(FileCursorStore):
    """A cursor store that fails now and then."""

    def __init__(self, directory: Path, driver: Driver) -> None:
        super().__init__(directory)
        self._driver = driver

    def save(self, job_id: str, saved: SavedCursor) -> None:
        if self._driver.save_fails(saved):
            raise CursorStoreError("the disk is full")
        self._driver.save(lambda: super(Store, self).save(job_id, saved))


def key_of(event: TrainingEvent) -> Any:
    """Return the event's number, and what makes it one event and not another."""
    if event.is_terminal:
        return END, END
    content = json.dumps(event.data, sort_keys=True)
    return event.data.get("seq"), (event.id, content)


def styled(style: str, pool: concurrent.futures.Executor, act: Callable[[], None]) -> Any:
    """Act now, or return something that acts when it is waited for."""
    if style == "plain":
        return act()
    if style == "late future":
        return pool.submit(act)
    if style == "done future":
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        try:
            future.set_result(act())
        except BaseException as error:
            future.set_exception(error)
        return future

    async def later() -> None:
        await asyncio.sleep(0)
        act()

    return later() if style == "coroutine" else Awaitable(later)


class Awaitable:
    """What can be awaited and is neither a coroutine nor a future."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def __await__(self) -> Iterator[Any]:
        return self._function().__await__()  # type: ignore[no-any-return]


def wait_a_little_for(predicate: Callable[[], Any]) -> None:
    """Wait for something that may never come."""
    pause, deadline = threading.Event(), time.monotonic() + 0.02
    while not predicate() and time.monotonic() < deadline:
        pause.wait(0.001)


def stacks() -> str:
    """Return the stack of every thread."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read()


def described(schedule: Schedule) -> str:
    """Return a schedule as text, a line for each thing."""
    lines: Dict[str, Any] = dict(vars(schedule))
    lines["items"] = [item if isinstance(item, bytes) else item[1] for item in schedule.items]
    lines["faults"] = "".join(f"\n      {fault.wire()}" for fault in schedule.faults)
    lines["rows"] = "".join(f"\n      {row}" for row in schedule.rows)
    return "\n".join(f"  {name}: {value}" for name, value in lines.items())
