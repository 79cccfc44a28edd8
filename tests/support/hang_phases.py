"""Every phase that a run can be in when it is stopped, brought about over real sockets.

A phase has two sides, which may live in different processes: `serve` is the cloud's, `begin` and
`until_reached` are the run's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
import traceback
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

import requests

from arkor_sync import (
    Action,
    CloudApiClient,
    ErrorPolicy,
    ProjectState,
    ReconnectPolicy,
    Run,
    TokenCredentials,
    follow,
)
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.run_threads import named
from support.servers import CERTIFICATE, KEY, full_backlog, mute
from support.waiting import until

LONG = 1e6  # seconds


def return_nothing(ctx: Any) -> None:
    pass


def return_a_future(ctx: Any) -> Any:
    return Future()


async def return_a_coroutine(ctx: Any) -> None:
    await asyncio.Event().wait()


def fail(ctx: Any) -> None:
    raise ValueError("it always fails")


@dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        name: What it is called.
        thread: Which of the run's threads is in it: `reader` or `worker`.
        seen_in: Functions on that thread's stack, the outer ones first, that tell that it is there.
            Each by its module and its name, which is a public one.
        fault: What the cloud does.
        tarpit: What the reader's connections lead to instead of the cloud.
        on_log: The callback.
        options: How the run is followed.
    """

    name: str
    thread: str
    seen_in: Tuple[str, ...]
    fault: Optional[Fault] = None
    tarpit: str = ""
    on_log: Callable[[Any], Any] = return_nothing
    options: Mapping[str, Any] = field(default_factory=dict)


PHASES = [
    Phase(
        "connecting",
        "reader",
        ("connection.connect", "wait.wait_for_write"),
        tarpit="full backlog",
        options={"reconnect": ReconnectPolicy(connect_timeout=LONG)},
    ),
    Phase(
        "TLS handshake",
        "reader",
        ("ssl.do_handshake",),
        tarpit="mute",
        options={"reconnect": ReconnectPolicy(connect_timeout=LONG)},
    ),
    Phase(
        "waiting for headers",
        "reader",
        ("jobs.events", "client.getresponse", "socket.readinto"),
        Fault("stall_before_headers", route="stream"),
    ),
    Phase("reading the body", "reader", ("bodies.read",)),
    Phase(
        "reading the record",
        "reader",
        ("jobs.get", "client.getresponse", "socket.readinto"),
        Fault("stall_before_headers", route="get_job", nth=2),
        options={"stale_after": 0.05},
    ),
    Phase(
        "full channel",
        "reader",
        ("channel.put", "threading.wait"),
        on_log=return_a_future,
        options={"max_buffered_events": 2},
    ),
    Phase(
        "backing off",
        "reader",
        ("clock.wait", "threading.wait"),
        Fault("status", route="stream", status=503),
        options={"reconnect": ReconnectPolicy(base=LONG, cap=LONG)},
    ),
    Phase(
        "awaiting a future",
        "worker",
        ("awaiting.wait_for", "threading.wait"),
        on_log=return_a_future,
    ),
    Phase(
        "awaiting a coroutine",
        "worker",
        ("base_events.run_until_complete", "selectors.select"),
        on_log=return_a_coroutine,
    ),
    Phase(
        "retry delay",
        "worker",
        ("clock.wait", "threading.wait"),
        on_log=fail,
        options={
            "error_policy": ErrorPolicy().on(do=Action.RETRY, attempts=2, base=LONG, cap=LONG)
        },
    ),
]
BY_NAME = {phase.name: phase for phase in PHASES}


@dataclass(frozen=True)
class Cloud:
    """Where a phase can be reached: a cloud with one job, as plain data for another process."""

    url: str
    token: str
    scope: Tuple[str, str, str]
    job_id: str
    tarpit: int = 0

    def client(self) -> CloudApiClient:
        session = requests.Session()
        session.verify = CERTIFICATE
        session.trust_env = False
        return CloudApiClient(
            self.url,
            TokenCredentials(self.token),
            scope=ProjectState(*self.scope),
            session=session,
        )


def cloud_of(emulator: Emulator, job_id: str, tarpit: int = 0) -> Cloud:
    scope = (emulator.org_slug, emulator.project_slug, emulator.project_id)
    return Cloud(emulator.url, emulator.token, scope, job_id, tarpit)


@contextlib.contextmanager
def serve(phase: Phase, tls: bool = False) -> Iterator[Cloud]:
    """Run a cloud, and with it whatever the phase needs."""
    with contextlib.ExitStack() as stack:
        engine = ScriptedEngine(steps=20, silent_at=8)
        emulator = stack.enter_context(Emulator(engine, tls=(CERTIFICATE, KEY) if tls else None))
        if phase.fault is not None:
            emulator.faults.add(phase.fault)
        tarpit = stack.enter_context(_TARPITS[phase.tarpit]()) if phase.tarpit else 0
        yield cloud_of(emulator, emulator.create_job(), tarpit)
        assert emulator.errors == []


def begin(phase: Phase, cloud: Cloud, **more: Any) -> Run:
    """Follow the cloud's job so that the run comes into the phase."""
    options: Dict[str, Any] = {
        "client": cloud.client(),
        "callbacks": {"on_log": phase.on_log},
        **phase.options,
        **more,
    }
    return follow(cloud.job_id, **options)


def until_reached(phase: Phase, run: Run) -> None:
    """Wait until one of the run's threads is seen in the phase."""
    name = f"arkor-{phase.thread}-{run.job.id}"
    until(lambda: any(is_in(thread, phase.seen_in) for thread in named(name)))


def until_waited_for() -> None:
    """Wait until the main thread waits for a run, and a signal finds it in nothing but that."""
    main = threading.main_thread()

    def blocked() -> bool:
        # In the last line of `Condition.wait` but the clean-up, it has given back the lock.
        *_, last = traceback.extract_stack(sys._current_frames()[main.ident or 0])
        return is_in(main, ("run.wait", "threading.wait")) and "waiter.acquire(" in str(last.line)

    until(blocked)


def is_in(thread: threading.Thread, functions: Tuple[str, ...]) -> bool:
    """Tell whether these functions are on a thread's stack, in this order."""
    frame = sys._current_frames().get(thread.ident or 0)
    frames = traceback.extract_stack(frame) if frame else []
    stack = iter([f"{Path(each.filename).stem}.{each.name}" for each in frames])
    return all(function in stack for function in functions)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """See that no descriptor is open afterwards that was not open before."""
    gc.disable()  # what only the garbage collector closes is not closed
    try:
        before = set(_descriptors())
        yield
        left = set(_descriptors()) - before
        assert not left, f"left open: {left}"
    finally:
        gc.enable()


def _descriptors() -> Iterator[str]:
    """Say what each open descriptor is; a number alone may belong to another thing by now."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists them is closed
            yield f"{number}: {os.readlink(f'/proc/self/fd/{number}')}"


@contextlib.contextmanager
def reader_led_to(port: int) -> Iterator[None]:
    """Lead the connections of reader threads to another port of this machine; 0 leads nowhere."""
    resolve: Any = socket.getaddrinfo

    def misleading(host: Any, original: Any, *more: Any, **named: Any) -> Any:
        if port and threading.current_thread().name.startswith("arkor-reader-"):
            original = port
        return resolve(host, original, *more, **named)

    socket.getaddrinfo = misleading  # type: ignore[assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = resolve


_TARPITS = {"full backlog": full_backlog, "mute": mute}
