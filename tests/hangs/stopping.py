"""The ways to stop a run, and how long each takes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Optional

from arkor_sync import Run, WaitTimeout
from support.hang_phases import (
    Phase,
    begin,
    no_descriptor_left,
    reader_led_to,
    serve,
    until_reached,
    until_waited_for,
)
from support.run_threads import threads_of
from support.waiting import PATIENCE

TIMEOUT = 0.02  # seconds, of the wait that runs out

Stop = Callable[[Run, threading.Event], object]

STOPS: Dict[str, Stop] = {
    "stop": lambda run, event: run.stop("enough"),
    "abort": lambda run, event: run.abort("enough"),
    "close": lambda run, event: run.close(),
    "abort_event": lambda run, event: event.set(),
    "Ctrl-C": lambda run, event: os.kill(os.getpid(), signal.SIGINT),
}


@dataclass(frozen=True)
class Stopped:
    """What came of stopping a run.

    Attributes:
        wait: Seconds from the call to the end of `wait()` in the main thread.
        threads: Seconds from the call to the end of the run's threads.
        outcome: What `wait()` returned or raised.
    """

    wait: float
    threads: float
    outcome: Any


@contextlib.contextmanager
def reached(phase: Phase, tls: bool, **more: Any) -> Iterator[Run]:
    """Bring a run into a phase; afterwards, see that nothing of it is left."""
    with no_descriptor_left(), serve(phase, tls) as cloud, reader_led_to(cloud.tarpit):
        run = begin(phase, cloud, **more)
        try:
            until_reached(phase, run)
            yield run
        finally:
            run.close(PATIENCE)
        assert threads_of(run) == []


def stop(
    phase: Phase,
    tls: bool,
    how: str,
    *,
    afterwards: Callable[[], object] = lambda: None,
    **more: Any,
) -> Stopped:
    """Stop a run in a phase while the main thread waits for it.

    Args:
        phase: The phase.
        tls: Whether the cloud speaks TLS.
        how: One of `STOPS`.
        afterwards: Called when the wait has ended.
        more: Options of the run.
    """
    event = threading.Event()
    with reached(phase, tls, abort_event=event, **more) as run:
        threads = threads_of(run)
        called = 0.0

        def call() -> None:
            nonlocal called
            until_waited_for()
            called = time.monotonic()
            STOPS[how](run, event)

        caller = threading.Thread(target=call, daemon=True)
        caller.start()
        outcome = outcome_of(run)
        waited = time.monotonic() - called
        afterwards()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} does not end"
        ended = time.monotonic() - called
        caller.join(PATIENCE)
        return Stopped(waited, ended, outcome)


def run_out_of_time(phase: Phase, tls: bool) -> float:
    """Wait for a run in a phase with a timeout; return the seconds that it took too long."""
    with reached(phase, tls) as run:
        began = time.monotonic()
        outcome = outcome_of(run, TIMEOUT)
        late = time.monotonic() - began - TIMEOUT
        assert type(outcome) is WaitTimeout, outcome
        assert len(threads_of(run)) == 2, "the run goes on"
        return late


def outcome_of(run: Run, timeout: Optional[float] = PATIENCE) -> Any:
    try:
        return run.wait(timeout)
    except BaseException as error:
        return error
