"""What the child processes of the tests of forks do; see `scenarios.py`."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from functools import partial
from typing import Any, Callable, Dict, List, Tuple

from scenarios import LIFETIME, be_quiet_about_lost_connections, say

from arkor_sync import (
    Action,
    CloudApiClient,
    ErrorPolicy,
    ForkedRunError,
    HuggingFaceDataset,
    Run,
    RunAborted,
    SavedCursor,
    create_trainer,
    follow,
)
from arkor_sync._common import process
from arkor_sync.render import chart_png
from arkor_sync.render.chart import Chart
from support.hang_phases import BY_NAME, Cloud, begin, is_in, reader_led_to, until_reached
from support.waiting import PATIENCE, until


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
        signal.alarm(LIFETIME // 2)
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
    waiting = ("submission._main", "client.getresponse", "socket.readinto")
    until(lambda: any(is_in(t, waiting) for t in threading.enumerate() if t.name == "arkor-submit"))
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

    def follow_too() -> None:
        os.register_at_fork = install  # `first` may have been about to wait, with a lock in hand
        follow_to_its_end(client, there.job_id)

    in_a_child(follow_too)
    release.set()
    first.join(PATIENCE)


def return_from_a_callback_in_a_child(cloud: Dict[str, Any], how: str) -> None:
    """Fork in a callback, and have the child come back to the library that called it."""
    there = Cloud(**cloud)
    children: List[int] = []
    saved: List[str] = []
    said = threading.Event()

    def on_log(ctx: Any) -> None:
        assert said.wait(PATIENCE)  # or the child inherits what the main thread has half written
        if ctx.step == 2:
            children.append(os.fork())
        if children[:1] == [0]:
            signal.alarm(LIFETIME // 2)
            sys.stdout.write(f"child at {ctx.step}\n")  # not flushed: the child's end has to do so
            if how != "return":
                raise {"exit": SystemExit(7), "raise": ValueError("mine")}[how]

    store = WatchedStore(saved)
    callbacks = [{"on_log": on_log}, {"on_log": lambda ctx: say("second", ctx.step, os.getpid())}]
    run = follow(
        there.job_id,
        client=there.client(),
        callbacks=callbacks,
        cursor_store=store,
        error_policy=ErrorPolicy().on(ValueError, do=Action.RETRY, attempts=3),
    )
    say("parent is", os.getpid())
    said.set()
    say("result", run.wait(PATIENCE).status)
    say("child ended with", os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))


class WatchedStore:
    """Keeps nothing, as a database that every process reaches; says which process calls it."""

    def __init__(self, released: List[str]) -> None:
        self.released = released

    def load(self, job_id: str) -> SavedCursor:
        return SavedCursor()

    def save(self, job_id: str, saved: SavedCursor) -> None:
        say("saved by", os.getpid())

    def lease(self, job_id: str) -> Callable[[], None]:
        return lambda: say("released by", os.getpid())


def fork_while_a_store_that_all_reach_has_the_lease(cloud: Dict[str, Any]) -> None:
    """Fork children that end in every way they can; each inherits what gives the lease back."""
    there = Cloud(**cloud)
    run = follow(there.job_id, client=there.client(), cursor_store=WatchedStore([]))
    until(lambda: run.health().delivered == 3)
    in_a_child(lambda: None)
    in_a_child(lambda: os._exit(7))
    in_a_child(run.close)
    in_a_child(lambda: (run.abort(), gc.collect()))
    say("parent is", os.getpid())
    run.close()


def draw_in_a_child(cloud: Dict[str, Any]) -> None:
    """Fork while another thread draws, and draw in the child."""
    drawing, go_on = threading.Event(), threading.Event()

    def figure(*_: object) -> Any:
        drawing.set()
        go_on.wait(PATIENCE)
        raise LookupError("nothing is drawn")

    def draw() -> None:
        try:
            chart_png.render_png(Chart("job", "running", {}, []), "light")
        except LookupError:
            say("drawn")

    chart_png._figure = figure
    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    assert drawing.wait(PATIENCE)

    def draw_too() -> None:
        go_on.set()
        draw()

    in_a_child(draw_too)
    go_on.set()
    thread.join(PATIENCE)


def leave_a_stream_open_in_a_child(cloud: Dict[str, Any]) -> None:
    """Fork while an answer is read; the child leaves the block that closes the answer."""
    there = Cloud(**cloud)
    client = there.client()
    with client.jobs.events(there.job_id, transport=client.transport()) as stream:
        in_a_child(stream.__exit__)
        say("parent reads on", bool(stream.read()))


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
