"""What the child processes do. Each function here is the whole program of a child.

A cloud comes as the plain data that `hang_phases.Cloud` is made of.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
from typing import Any, Dict, Iterator, List, Optional

from process_state import process_state

from arkor_sync import (
    Callback,
    FileCursorStore,
    HuggingFaceDataset,
    LeaseHeldError,
    ReconnectPolicy,
    RunError,
    WaitTimeout,
    create_trainer,
    exit_on,
    follow,
)
from support.hang_phases import (
    BY_NAME,
    Cloud,
    begin,
    reader_led_to,
    until_reached,
    until_waited_for,
)
from support.waiting import PATIENCE, until

LIFETIME = int(3 * PATIENCE)  # seconds; a child that nobody ends must not live for ever

state_at_start: Dict[str, Any] = {}


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")  # at once: a child may be writing, too
    sys.stdout.flush()


def be_quiet_about_lost_connections() -> None:
    logging.getLogger("arkor_sync.stream").setLevel(logging.ERROR)


# Killed and started again.


class Ledger(Callback):
    """Writes each event down as its callback begins, and counts those that are done with.

    Args:
        hold_at: The event at which the callback never ends.
        at_most: Events until a callback never ends; each takes up to two milliseconds. None for
            as many as there are, without a delay.
    """

    def __init__(self, hold_at: Optional[str], at_most: Optional[int]) -> None:
        self._hold_at = hold_at
        self._left = at_most
        self._done = 0

    def state_dict(self) -> Dict[str, int]:
        return {"done": self._done}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        self._done = state["done"]

    def _write(self, what: str) -> None:
        say("event", what, "after", self._done)
        if self._left is not None:
            self._left -= 1
            threading.Event().wait(random.random() / 500)
        if what == self._hold_at or self._left == 0:
            say("held")
            threading.Event().wait()
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
    cloud: Dict[str, Any],
    store: str,
    hold_at: Optional[str] = None,
    at_most: Optional[int] = None,
) -> None:
    """Follow a job to its end, from where the last process was killed."""
    be_quiet_about_lost_connections()
    there = Cloud(**cloud)
    run = follow(
        there.job_id,
        client=there.client(),
        cursor_store=FileCursorStore(store),
        callbacks=Ledger(hold_at, at_most),
        reconnect=ReconnectPolicy(base=0.001, cap=0.01),
    )
    say("result", run.wait(PATIENCE).status)


# One process follows a job.


def hold_the_lease(cloud: Dict[str, Any], store: str, heir: bool = False) -> None:
    """Follow a job that does not end; with an heir, fork a child that outlives this process."""
    there = Cloud(**cloud)
    run = follow(there.job_id, client=there.client(), cursor_store=FileCursorStore(store))
    if heir:
        lives, tell = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(LIFETIME)
            os.write(tell, b".")  # its fork hooks have run
            signal.pause()
        os.read(lives, 1)
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


# A process that may have no more threads.


@contextlib.contextmanager
def no_more_threads() -> Iterator[None]:
    """Have the system refuse every new thread, as under `ulimit -u` and in small containers.

    The limit does not hold for root, so root becomes a user without rights for that time.
    """
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    is_root = os.geteuid() == 0
    if is_root:
        os.setresuid(65533, 65533, 0)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, limits)
        if is_root:
            os.seteuid(0)
            os.setresuid(0, 0, 0)


def follow_without_threads(cloud: Dict[str, Any], store: str) -> None:
    """Try to follow a job when no thread can start, and then when one can."""
    there = Cloud(**cloud)
    client = there.client()
    calls: List[str] = []
    callbacks = {"on_log": lambda ctx: calls.append("log"), "on_end": lambda ctx: calls.append("")}
    options: Dict[str, Any] = {
        "client": client,
        "cursor_store": FileCursorStore("."),
        "callbacks": callbacks,
    }
    os.chdir(store)  # which the user without rights may write to, but not find from the root
    follow(there.job_id, client=client, abort_event=threading.Event()).close()  # imports all
    for event in (None, threading.Event()):
        with no_more_threads():
            try:
                follow(there.job_id, **options, abort_event=event)
            except RunError as error:
                refused = str(error)
            else:
                refused = "not refused"
        say("refused", refused)
        say("threads", [each.name for each in threading.enumerate()], calls)
    run = follow(there.job_id, **options)
    say("granted")
    run.close()


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
        if waits:
            until_waited_for()
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
        threading.Thread(target=say_that_it_waits, daemon=True).start()
        run.wait()


def begin_and_return(cloud: Dict[str, Any]) -> None:
    there = Cloud(**cloud)
    run = follow(there.job_id, client=there.client())
    until(lambda: run.health().delivered == 3)


def leave_a_run_in_a_child_of_multiprocessing(cloud: Dict[str, Any]) -> None:
    """Have a child that `multiprocessing` forks end while its run lives."""
    child = multiprocessing.get_context("fork").Process(target=begin_and_return, args=(cloud,))
    child.start()
    child.join(PATIENCE)
    sys.exit(child.exitcode)


def exit_while_submitting(cloud: Dict[str, Any]) -> None:
    """Exit when the time for a submission is over."""
    trainer = trainer_of(cloud)
    try:
        trainer.wait(0)
    except WaitTimeout:
        sys.exit(3)


# A program that ends by SIGTERM, and says so.


def trainer_of(cloud: Dict[str, Any], **options: Any) -> Any:
    return create_trainer(
        name="nightly",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("arkorlab/triage-demo"),
        client=Cloud(**cloud).client(),
        **options,
    )


def be_ended_while_submitting(cloud: Dict[str, Any]) -> None:
    """Wait for a job whose submission is not answered."""
    with exit_on(signal.SIGTERM):
        trainer_of(cloud).wait()


def be_ended_in_a_phase(cloud: Dict[str, Any], name: str, store: str) -> None:
    """Wait for a run in a phase until a signal comes."""
    there, phase = Cloud(**cloud), BY_NAME[name]
    with (
        reader_led_to(there.tarpit),
        exit_on(signal.SIGTERM),
        begin(phase, there, cursor_store=FileCursorStore(store)) as run,
    ):
        until_reached(phase, run)
        threading.Thread(target=say_that_it_waits, daemon=True).start()
        run.wait()


def be_ended_in_a_callback(cloud: Dict[str, Any], store: str, gate: str, inside: bool) -> None:
    """Wait for a run whose callback goes on until a file is there.

    Args:
        cloud: The cloud.
        store: The folder of the cursor store.
        gate: The file.
        inside: Whether the run is in a `with` of its own.
    """
    there = Cloud(**cloud)

    def on_log(ctx: Any) -> None:
        say("begins", ctx.step)
        if ctx.step == 2:
            until(lambda: ctx.run.health().state == "stopping")
            say("is stopping")
            until(lambda: os.path.exists(gate))
        say("ends", ctx.step)

    with exit_on(signal.SIGTERM):
        run = follow(
            there.job_id,
            client=there.client(),
            cursor_store=FileCursorStore(store),
            callbacks={"on_log": on_log},
            abort_grace=PATIENCE,
        )
        with run if inside else contextlib.nullcontext():
            run.wait()


def say_that_it_waits() -> None:
    until_waited_for()
    os.write(1, b"waits\n")  # a thread that is in print() as the interpreter exits is fatal


def follow_and_look_around(cloud: Dict[str, Any]) -> None:
    """See that a whole run leaves the process as the interpreter began it."""
    there = Cloud(**cloud)

    async def on_log(ctx: Any) -> None:
        await asyncio.sleep(0)

    follow(there.job_id, client=there.client(), callbacks={"on_log": on_log}).wait(PATIENCE)
    for what, value in process_state().items():
        assert value == state_at_start[what], (what, value, state_at_start[what])
