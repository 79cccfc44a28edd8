"""A run stops at once, in whatever phase it is and however it is told to.

`python tests/hangs/measure.py` prints how long it takes.
"""

from __future__ import annotations

import socket
import threading
from typing import Any, List

import pytest
from stopping import STOPS, Stopped, run_out_of_time, stop

from arkor_sync import RunAborted, TrainingResult, follow
from arkor_sync.cloud.transport import Transport
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.errors import ArkorConnectionError, ArkorTimeoutError
from support.hang_phases import PHASES, Phase, cloud_of
from support.servers import full_backlog
from support.waiting import PATIENCE, shortest, until

LIMIT = 0.1  # seconds
ENDS = ("completed", "failed", "cancelled")

WHERE = [
    pytest.param(phase, tls, id=f"{phase.name}, {'tls' if tls else 'plain'}")
    for phase in PHASES
    for tls in (False, True)
    if tls or phase.name != "TLS handshake"
]


@pytest.mark.parametrize("how", STOPS)
@pytest.mark.parametrize(("phase", "tls"), WHERE)
def test_it_stops_at_once(phase: Phase, tls: bool, how: str) -> None:
    def measure() -> float:
        stopped = stop(phase, tls, how)
        check_outcome(how, stopped.outcome)
        return max(stopped.wait, stopped.threads)

    assert shortest(measure, LIMIT) < LIMIT


def check_outcome(how: str, outcome: Any) -> None:
    if how == "stop":
        assert (outcome.status, outcome.stop_reason) == ("cancelled", "enough")
    elif how == "Ctrl-C":
        assert type(outcome) is KeyboardInterrupt
    else:
        assert type(outcome) is RunAborted, outcome
        assert outcome.callback is None


@pytest.mark.parametrize(("phase", "tls"), WHERE)
def test_a_wait_ends_when_its_time_is_over(phase: Phase, tls: bool) -> None:
    assert shortest(lambda: run_out_of_time(phase, tls), LIMIT) < LIMIT


# A running callback: the exception, since nothing can interrupt Python code.

GRACE = 0.1  # seconds


class Stuck:
    """A callback that runs until it is released, and the phase of being in it."""

    def __init__(self) -> None:
        self.released = threading.Event()
        seen_in = ("test_stopping.hang_in_here", "threading.wait")
        self.phase = Phase("callback", "worker", seen_in, on_log=self.hang_in_here)

    def hang_in_here(self, ctx: Any) -> None:
        assert self.released.wait(PATIENCE)

    def stop(self, how: str) -> Stopped:
        release = self.released.set
        return stop(self.phase, False, how, afterwards=release, abort_grace=GRACE)


def test_a_stopped_runs_callback_is_waited_for_and_then_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def measure() -> float:
        stopped = Stuck().stop("stop")
        assert type(stopped.outcome) is TrainingResult, "the cloud stopped the job, so this stands"
        assert stopped.outcome.status == "cancelled"
        assert stopped.wait >= GRACE * 0.9
        return stopped.wait - GRACE

    assert shortest(measure, LIMIT) < LIMIT
    assert "on_log of job" in caplog.text
    assert "in hang_in_here" in caplog.text


@pytest.mark.parametrize("how", [how for how in STOPS if how not in ("stop", "Ctrl-C")])
def test_a_running_callback_is_waited_for_and_then_named_with_its_stack(how: str) -> None:
    def measure() -> float:
        stopped = Stuck().stop(how)
        assert type(stopped.outcome) is RunAborted
        assert stopped.outcome.callback == "on_log"
        assert "in hang_in_here" in stopped.outcome.stack
        assert "on_log for event 2 is still running" in str(stopped.outcome)
        assert stopped.wait >= GRACE * 0.9
        return stopped.wait - GRACE

    assert shortest(measure, LIMIT) < LIMIT


def test_ctrl_c_does_not_wait_for_a_running_callback() -> None:
    def measure() -> float:
        stopped = Stuck().stop("Ctrl-C")
        assert type(stopped.outcome) is KeyboardInterrupt
        return stopped.wait

    assert shortest(measure, min(LIMIT, GRACE)) < min(LIMIT, GRACE)


# A stop whose answer is slower than the stream, which then says that the job failed.


@pytest.mark.parametrize("emits", ["failed", "end"])
def test_a_stop_is_no_failure_even_if_the_stream_is_faster_than_the_answer(emits: str) -> None:
    called: List[str] = []
    callbacks = {f"on_{end}": lambda ctx: called.append(ctx.event.type) for end in ENDS}
    engine = ScriptedEngine(steps=9, silent_at=2)
    with Emulator(engine, cancel_emits=emits) as emulator:
        emulator.faults.add(Fault("slow_drip", route="cancel_job", size=40, seconds=0.01))
        cloud = cloud_of(emulator, emulator.create_job())
        with follow(cloud.job_id, client=cloud.client(), callbacks=callbacks) as run:
            until(lambda: run.health().delivered == 3)
            assert run.stop("enough")
            result = run.wait(PATIENCE)
    assert (result.status, result.stop_reason) == ("cancelled", "enough")
    assert called == []


def test_a_stop_whose_answer_is_lost_still_ends_as_cancelled() -> None:
    with Emulator(ScriptedEngine(steps=9, silent_at=2)) as emulator:
        emulator.faults.add(Fault("reset_peer", route="cancel_job"))
        cloud = cloud_of(emulator, emulator.create_job())
        with follow(cloud.job_id, client=cloud.client()) as run:
            until(lambda: run.health().delivered == 3)
            with pytest.raises(ArkorConnectionError):
                run.stop("enough")
            assert run.wait(PATIENCE).status == "cancelled"


# The instant before a connection is attempted, which no look at a stack can hit.


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_interrupt_just_before_the_connect_is_not_lost(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Transport._start_connecting

    def interrupted(self: Transport, sock: socket.socket, target: Any) -> None:
        self.interrupt()
        begin(self, sock, target)

    with full_backlog() as port, Transport() as transport:
        monkeypatch.setattr(Transport, "_start_connecting", interrupted)
        with pytest.raises(ArkorConnectionError, match="interrupted") as caught:
            transport.request("GET", f"{scheme}://127.0.0.1:{port}", timeout=(PATIENCE, PATIENCE))
        assert not isinstance(caught.value, ArkorTimeoutError)
