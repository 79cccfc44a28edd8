"""What the child processes do. Each function here is the whole program of a child.

A cloud comes as the plain data that `hang_phases.Cloud` is made of.
"""

from __future__ import annotations

import asyncio
import builtins
import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import types
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

from hang_phases import BY_NAME, PATIENCE, Cloud, begin, is_in, reader_led_to, until, until_reached
from process_state import process_state

from arkor_sync import (
    Callback,
    CloudApiClient,
    FileCursorStore,
    ForkedRunError,
    HuggingFaceDataset,
    LeaseHeldError,
    ReconnectPolicy,
    Run,
    RunAborted,
    create_trainer,
    follow,
)
from arkor_sync.stream import process

LIFETIME = 60  # seconds; a child that nobody ends must not live for ever

state_at_start: Dict[str, Any] = {}


def say(*words: object) -> None:
    print(*words, flush=True)


def be_quiet_about_lost_connections() -> None:
    logging.getLogger("arkor_sync.stream").setLevel(logging.ERROR)


# Killed and started again.


class Ledger(Callback):
    """Writes each event down as its callback begins, and counts those that are done with.

    Args:
        hold_at: The event at which the callback never ends.
        slow: Whether a callback takes up to two milliseconds.
    """

    def __init__(self, hold_at: Optional[str], slow: bool) -> None:
        self._hold_at = hold_at
        self._slow = slow
        self._done = 0
        self._restored = 0

    def state_dict(self) -> Dict[str, int]:
        return {"done": self._done}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        self._done = state["done"]

    def _write(self, what: str) -> None:
        say("event", what, "after", self._done)
        if what == self._hold_at:
            say("held")
            threading.Event().wait()
        if self._slow:
            threading.Event().wait(random.random() / 500)
        self._done += 1

    def on_started(self, ctx: Any) -> None:
        self._write("started")

    def on_log(self, ctx: Any) -> None:
        self._write(f"log-{ctx.step}")

    def on_checkpoint(self, ctx: Any) -> None:
        self._write(f"checkpoint-{ctx.step}")

    def on_completed(self, ctx: Any) -> None:
        self._write("completed")


def follow_with_a_store(
    cloud: Dict[str, Any], store: str, hold_at: Optional[str] = None, slow: bool = False
) -> None:
    """Follow a job to its end, from where the last process was killed."""
    be_quiet_about_lost_connections()
    there = Cloud(**cloud)
    run = follow(
        there.job_id,
        client=there.client(),
        cursor_store=FileCursorStore(store),
        callbacks=Ledger(hold_at, slow),
        reconnect=ReconnectPolicy(base=0.001, cap=0.01),
    )
    say("result", run.wait(PATIENCE).status)


# One process follows a job.


def hold_the_lease(cloud: Dict[str, Any], store: str, heir: bool = False) -> None:
    """Follow a job that does not end; with an heir, fork a child that outlives this process."""
    there = Cloud(**cloud)
    run = follow(there.job_id, client=there.client(), cursor_store=FileCursorStore(store))
    if heir:
        child = os.fork()
        if child == 0:
            signal.alarm(LIFETIME)
            signal.pause()
        say("heir", child)
    say("holding")
    run.wait()


def hold_the_lease_past_children(cloud: Dict[str, Any], store: str) -> None:
    """Follow a job that does not end, and fork children that end in every way they can."""
    there = Cloud(**cloud)
    run = follow(there.job_id, client=there.client(), cursor_store=FileCursorStore(store))
    for leave in (os._exit, sys.exit):
        child = os.fork()
        if child == 0:
            run.close()
            leave(0)
        assert os.waitpid(child, 0)[1] == 0
    say("holding")
    run.wait()


def ask_for_the_lease(cloud: Dict[str, Any], store: str) -> None:
    """Say whether this process may follow the job."""
    there = Cloud(**cloud)
    try:
        run = follow(there.job_id, client=there.client(), cursor_store=FileCursorStore(store))
    except LeaseHeldError as error:
        say("refused:", error)
    else:
        say("granted")
        run.close()


# A fork while a run lives.


def check_that_it_is_forked(run: Run) -> None:
    """See that a run of the parent says so where it matters, and does nothing where it does not."""
    forbidden: List[Callable[[], object]] = [
        run.wait,
        run.result,
        run.cancel,
        run.stop,
        lambda: run.add_done_callback(print),
    ]
    for call in forbidden:
        assert f"followed by process {os.getppid()}" in refusal(call)
    run.abort("it is not mine")
    with run:
        assert not run.done()
    assert run.health().state
    assert repr(run)


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except ForkedRunError as error:
        return str(error)
    return "none"


def in_a_child(work: Callable[[], object]) -> None:
    """Fork a child that does something and exits as an interpreter does; say how it ended."""
    child = os.fork()
    if child == 0:
        signal.alarm(LIFETIME // 4)
        work()
        sys.exit(7)
    say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def fork_in_a_phase(cloud: Dict[str, Any], name: str) -> None:
    """Fork children in a phase of a run, which then is what it was."""
    be_quiet_about_lost_connections()
    there, phase = Cloud(**cloud), BY_NAME[name]
    with reader_led_to(there.tarpit):
        runs = [begin(phase, there)]
        until_reached(phase, runs[0])
        before = standing(runs[0])

        def forget() -> None:
            runs.clear()
            gc.collect()

        in_a_child(lambda: check_that_it_is_forked(runs[0]))
        in_a_child(lambda: os._exit(7))
        in_a_child(forget)
        assert standing(runs[0]) == before
        until_reached(phase, runs[0])
        stop_at_once(runs[0])


def standing(run: Run) -> Tuple[object, ...]:
    health = run.health()
    return health.state, health.reconnects, health.failures, run.done()


def stop_at_once(run: Run) -> None:
    began = time.monotonic()
    run.close()
    try:
        run.wait()
    except RunAborted:
        say("stopped", time.monotonic() - began)


def fork_with_an_idle_event_loop(cloud: Dict[str, Any]) -> None:
    """Fork while the event loop of the callbacks rests; the child must leave it alone."""
    there = Cloud(**cloud)
    rested, go_on = threading.Event(), threading.Event()

    def on_log(ctx: Any) -> Any:
        if ctx.step == 1:
            return asyncio.sleep(0)
        if ctx.step == 2:
            rested.set()
            assert go_on.wait(PATIENCE)
            return None
        return asyncio.sleep(PATIENCE)

    runs = [follow(there.job_id, client=there.client(), callbacks={"on_log": on_log})]
    assert rested.wait(PATIENCE)

    def forget() -> None:
        runs.clear()
        gc.collect()

    in_a_child(forget)
    go_on.set()
    until_reached(BY_NAME["awaiting a coroutine"], runs[0])
    stop_at_once(runs[0])


def follow_to_its_end(client: CloudApiClient, job_id: str) -> None:
    steps: List[int] = []
    callbacks = {"on_log": lambda ctx: steps.append(ctx.step)}
    result = follow(job_id, client=client, callbacks=callbacks).wait(PATIENCE)
    say("followed", job_id, result.status, steps)


def follow_in_a_child(cloud: Dict[str, Any], others: List[str], how: str) -> None:
    """Follow a job, and have a child process follow others with the same client."""
    there = Cloud(**cloud)
    client = there.client()
    run = follow(there.job_id, client=client)
    until(lambda: run.health().delivered == 3)
    for job_id in others:
        if how == "os.fork":
            in_a_child(partial(follow_to_its_end, client, job_id))
        else:
            context: Any = multiprocessing.get_context(how)
            child = context.Process(target=follow_to_its_end, args=(client, job_id))
            child.start()
            child.join()
            say("child", child.exitcode)
            child.close()
    say("go on")
    say("result", run.wait(PATIENCE).status)


def fork_while_a_trainer_submits(cloud: Dict[str, Any]) -> None:
    """Fork while another thread is in the midst of the submission."""
    there = Cloud(**cloud)
    trainer = create_trainer(
        name="forked",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("arkorlab/triage-demo"),
        client=there.client(),
    )
    submitting = threading.Thread(target=lambda: say("parent", trainer.start().id), daemon=True)
    submitting.start()
    until(lambda: is_in(submitting, ("start", "getresponse", "readinto")))
    in_a_child(lambda: say("own", trainer.wait(PATIENCE).job.id))
    say("go on")
    submitting.join(PATIENCE)


def fork_while_locks_are_held(cloud: Dict[str, Any], other: str) -> None:
    """Fork while another thread holds every lock that a run and its client have."""
    there = Cloud(**cloud)
    client = there.client()
    run = follow(there.job_id, client=client)
    until(lambda: run.health().delivered == 3)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        taken = [lock for lock in locks_of(run, client, process.__dict__) if lock.acquire(False)]
        say("locks", len(taken))
        held.set()
        assert release.wait(PATIENCE)
        for lock in taken:
            lock.release()

    holding = threading.Thread(target=hold, daemon=True)
    holding.start()
    assert held.wait(PATIENCE)
    in_a_child(lambda: (check_that_it_is_forked(run), follow_to_its_end(client, other)))
    release.set()
    holding.join(PATIENCE)
    say("go on")
    say("result", run.wait(PATIENCE).status)


def fork_while_the_first_run_begins(cloud: Dict[str, Any]) -> None:
    """Fork while another thread installs what the first run of a process needs."""
    there = Cloud(**cloud)
    client = there.client()
    installing, release = threading.Event(), threading.Event()
    install = os.register_at_fork

    def install_slowly(**hooks: Any) -> None:
        installing.set()
        assert release.wait(PATIENCE)
        install(**hooks)

    os.register_at_fork = install_slowly
    first = threading.Thread(target=follow_to_its_end, args=(client, there.job_id), daemon=True)
    first.start()
    assert installing.wait(PATIENCE)
    in_a_child(lambda: (release.set(), follow_to_its_end(client, there.job_id)))
    release.set()
    first.join(PATIENCE)


def locks_of(*roots: Any) -> List[Any]:
    """Find the locks in what this package's objects are made of."""
    plain = (dict, list, tuple, set, frozenset, partial, types.MethodType, types.CellType)
    found: Dict[int, Any] = {}
    queue = list(roots)
    seen = set()
    while queue:
        each = queue.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, (type(threading.Lock()), type(threading.RLock()))):
            found[id(each)] = each
        elif isinstance(each, types.FunctionType):
            queue += each.__closure__ or ()
        elif isinstance(each, plain) or type(each).__module__.startswith(("arkor", "threading")):
            queue += gc.get_referents(each)
    return list(found.values())


# The interpreter exits while a run lives.


def exit_in_a_phase(cloud: Dict[str, Any], name: str, code: int) -> None:
    """Exit in a phase of a run that nobody waits for."""
    be_quiet_about_lost_connections()
    there, phase = Cloud(**cloud), BY_NAME[name]
    with reader_led_to(there.tarpit):
        run = begin(phase, there, abort_event=threading.Event())
        until_reached(phase, run)
        say("exits", time.monotonic())
        sys.exit(code)


def exit_in_a_callback(cloud: Dict[str, Any], runs: int) -> None:
    """Exit while the callbacks of some runs are stuck."""
    there = Cloud(**cloud)
    stuck = threading.Barrier(runs + 1)

    def get_stuck(ctx: Any) -> None:
        stuck.wait(PATIENCE)
        threading.Event().wait()

    kept = [
        follow(there.job_id, client=there.client(), callbacks={"on_log": get_stuck})
        for _ in range(runs)
    ]
    stuck.wait(PATIENCE)
    say("exits", time.monotonic())
    sys.exit(3 if kept else 4)


def fail_in_main(cloud: Dict[str, Any]) -> None:
    """Exit by an exception of the main program while a run lives."""
    there = Cloud(**cloud)
    run = follow(there.job_id, client=there.client())
    until(lambda: run.health().delivered == 3)
    raise LookupError("mine")


def raise_in_a_callback(cloud: Dict[str, Any], error: str, waits: bool) -> None:
    """Have a callback raise, and let the program end with what `wait()` makes of it."""
    there = Cloud(**cloud)

    def on_log(ctx: Any) -> None:
        raise {"SystemExit": SystemExit(5)}.get(error) or getattr(builtins, error)("mine")

    run = follow(there.job_id, client=there.client(), callbacks={"on_log": on_log})
    if waits:
        run.wait(PATIENCE)
    until(run.done)


def wait_for_ever(cloud: Dict[str, Any], name: str) -> None:
    """Wait for a run in a phase until a signal comes."""
    be_quiet_about_lost_connections()
    there, phase = Cloud(**cloud), BY_NAME[name]
    with reader_led_to(there.tarpit):
        run = begin(phase, there)
        until_reached(phase, run)
        say("waits")
        run.wait()


def follow_and_look_around(cloud: Dict[str, Any]) -> None:
    """See that a whole run leaves the process as the interpreter began it."""
    there = Cloud(**cloud)

    async def on_log(ctx: Any) -> None:
        await asyncio.sleep(0)

    follow(there.job_id, client=there.client(), callbacks={"on_log": on_log}).wait(PATIENCE)
    for what, value in process_state().items():
        assert value == state_at_start[what], (what, value, state_at_start[what])
