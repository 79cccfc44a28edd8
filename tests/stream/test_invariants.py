"""The eleven invariants of the engine, a test or more with the name of each."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorTimeoutError,
    AuthenticationError,
    RunAborted,
)
from arkor_sync.stream.error_policy import ErrorPolicy
from arkor_sync.stream.reconnect import ReconnectPolicy
from support.clocks import FakeClock
from support.fake_cloud import (
    END,
    PING,
    Hold,
    Seen,
    checkpoint,
    completed,
    failed,
    frame,
    job,
    log,
    logs,
    make_run,
    started,
)
from support.run_threads import has_ended
from support.waiting import PATIENCE

LOST = ArkorConnectionError("reset by peer")


class Flaky:
    """An on_log that fails on chosen calls of chosen steps."""

    def __init__(self, step: int, times: int) -> None:
        self.step = step
        self.left = times
        self.seen: List[Any] = []

    def __call__(self, ctx: Any) -> None:
        self.seen.append((ctx.step, ctx.attempt))
        if ctx.step == self.step and self.left:
            self.left -= 1
            raise RuntimeError(f"boom at {ctx.step}")


# 1. Two cursors


def test_two_cursors_a_broken_connection_resumes_after_the_last_event_read() -> None:
    release = threading.Event()

    def slow(ctx: Any) -> None:
        assert release.wait(PATIENCE)

    # All three events are read while the first one's callback still runs: none is acknowledged.
    run, jobs = make_run([logs(1, 3), LOST], [release.set, completed()], callbacks={"on_log": slow})
    run.start().wait(PATIENCE)
    assert jobs.resumed == [None, "3"]


def test_two_cursors_a_redelivery_resumes_after_the_last_event_acknowledged() -> None:
    flaky = Flaky(step=2, times=1)
    run, jobs = make_run(
        [logs(1, 5), Hold()],
        [logs(2, 5) + completed()],
        callbacks={"on_log": flaky},
        error_policy=ErrorPolicy.reconnect(attempts=2),
    )
    run.start().wait(PATIENCE)
    assert jobs.resumed == [None, "1"]
    assert flaky.seen == [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (5, 1)]


def test_two_cursors_the_acknowledged_one_waits_for_the_callback() -> None:
    acknowledged = []

    def look(ctx: Any) -> None:
        acknowledged.append(ctx.run.health().acknowledged_id)

    run, _ = make_run([logs(1, 3) + completed()], callbacks={"on_log": look})
    run.start().wait(PATIENCE)
    assert acknowledged == [None, "1", "2"]
    assert run.health().acknowledged_id == "end"


def test_two_cursors_ping_and_end_move_neither() -> None:
    ping = b"id: 77\nevent: ping\ndata:\n\n"
    end = b"id: 88\nevent: end\ndata: {}\n\n"
    run, jobs = make_run([logs(1, 2) + ping, LOST], [end], [completed()])
    run.start().wait(PATIENCE)
    assert jobs.resumed == [None, "2", "2"]


# 2. Epochs


def test_epochs_a_reader_blocked_on_a_full_channel_does_not_deadlock_a_redelivery() -> None:
    flaky = Flaky(step=1, times=1)
    run, jobs = make_run(
        [logs(1, 50), Hold()],
        [logs(1, 50) + completed()],
        callbacks={"on_log": flaky},
        error_policy=ErrorPolicy.reconnect(attempts=2),
        max_buffered_events=2,
    )
    run.start().wait(PATIENCE)
    assert jobs.resumed == [None, None]
    assert [step for step, _ in flaky.seen] == [1, *range(1, 51)]


def test_epochs_an_event_of_the_old_connection_is_never_delivered_after_a_redelivery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old connection has brought an event that the new one does not have."""
    steps: List[int] = []
    read, rewound = threading.Event(), threading.Event()

    def on_log(ctx: Any) -> None:
        steps.append(ctx.step)
        if (ctx.step, ctx.attempt) == (1, 1):
            assert read.wait(PATIENCE)
            raise RuntimeError("boom")

    run, _ = make_run(
        [logs(1, 1), logs(98, 99), Hold()],
        [logs(1, 2) + completed()],
        callbacks={"on_log": on_log},
        error_policy=ErrorPolicy.reconnect(attempts=2),
    )
    put, rewind = run._channel.put, run._channel.rewind

    def put_late(events: Any, epoch: int) -> Any:
        if events[0].id == "98":
            read.set()
            assert rewound.wait(PATIENCE)
        return put(events, epoch)

    def rewind_and_tell(*arguments: Any) -> bool:
        done = rewind(*arguments)
        rewound.set()
        return done

    monkeypatch.setattr(run._channel, "put", put_late)
    monkeypatch.setattr(run._channel, "rewind", rewind_and_tell)
    run.start().wait(PATIENCE)
    assert rewound.is_set()
    assert steps == [1, 1, 2]


# 3. In order, once


@pytest.mark.parametrize(
    "second",
    [logs(3, 6), logs(1, 6), logs(2, 3) + logs(2, 6)],
    ids=["exact resume", "replayed from the start", "overlapping and duplicated"],
)
@pytest.mark.parametrize("end", [LOST, b""], ids=["cut", "clean end"])
def test_in_order_once_whatever_the_network_does(second: bytes, end: Any) -> None:
    seen = Seen()
    first = [started() + logs(1, 2), b'id: 3\ndata: {"type": "training.l']
    run, _ = make_run(
        [*first, end] if end else first,
        [second, PING],
        [logs(5, 7) + completed()],
        callbacks=seen.table(),
    )
    run.start().wait(PATIENCE)
    assert seen.steps == [1, 2, 3, 4, 5, 6, 7]
    assert seen.calls[0] == "started"
    assert seen.calls[-1] == "completed"


def test_in_order_once_also_for_events_without_an_id() -> None:
    bare = [log(step, id=None) for step in range(1, 5)]
    seen = Seen()
    run, _ = make_run(
        [bare[0] + bare[1]],
        [bare[0] + bare[1] + bare[2]],
        [b"".join(bare) + completed(None)],
        callbacks=seen.table(),
    )
    run.start().wait(PATIENCE)
    assert seen.steps == [1, 2, 3, 4]


def test_in_order_once_two_events_that_share_an_id_are_two_events() -> None:
    seen = Seen()
    run, _ = make_run(
        [log(1, id="t") + checkpoint(1, id="t"), LOST],
        [log(1, id="t") + checkpoint(1, id="t") + completed()],
        callbacks=seen.table(),
    )
    run.start().wait(PATIENCE)
    assert seen.calls == ["log", "checkpoint", "completed"]


def test_in_order_once_callbacks_that_are_done_are_not_called_for_a_redelivery() -> None:
    first, second, third = Seen(), Flaky(step=2, times=2), Seen()
    run, _ = make_run(
        [logs(1, 2), Hold()],
        [logs(2, 2), Hold()],
        [logs(2, 3) + completed()],
        callbacks=[{"on_log": first.table()["on_log"]}, {"on_log": second}, third.table()],
        error_policy=ErrorPolicy.reconnect(attempts=3),
    )
    run.start().wait(PATIENCE)
    assert first.steps == [1, 2, 3]
    assert second.seen == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1)]
    assert third.steps == [1, 2, 3]


@pytest.mark.parametrize(
    ("begins_with", "more"),
    [
        (frame(None, {"type": "keepalive"}), []),
        (b"data: {cut\n\n", []),
        (log(4), [4]),
        (log(4, id=None), [4]),
    ],
    ids=["an unknown frame", "a malformed one", "a new log", "a new log without an id"],
)
def test_in_order_once_also_if_a_redelivery_begins_with_something_else(
    begins_with: bytes, more: List[int]
) -> None:
    seen, flaky, hold = Seen(), Flaky(step=2, times=1), Hold()

    def wait_until_all_was_read(ctx: Any) -> None:
        assert hold.reached.wait(PATIENCE)

    run, jobs = make_run(
        [logs(1, 2) + log(3, id=None), hold],
        [begins_with + log(2) + log(3, id=None) + completed()],
        callbacks=[{"on_log": wait_until_all_was_read}, {"on_log": flaky}, seen.table()],
        error_policy=ErrorPolicy.reconnect(attempts=3),
    )
    run.start().wait(PATIENCE)
    assert jobs.resumed == [None, "1"]
    assert seen.steps == [1, 2, 3, *more]
    assert flaky.seen == [(1, 1), (2, 1), (2, 2), (3, 1), *((step, 1) for step in more)]


# 4. Attempts outlive the connection


def test_attempts_are_counted_by_event_and_outlive_the_connection() -> None:
    flaky = Flaky(step=1, times=99)
    run, jobs = make_run(
        *[[logs(1, 1), Hold()]] * 10,
        callbacks={"on_log": flaky},
        error_policy=ErrorPolicy.reconnect(attempts=4),
    )
    with pytest.raises(RuntimeError, match="boom"):
        run.start().wait(PATIENCE)
    assert flaky.seen == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert len(jobs.resumed) == 4
    assert run.failure is not None
    assert run.failure.attempt == 4


# 5. Unfinished bytes are dropped


@pytest.mark.parametrize("cut", range(1, len(log(2))))
def test_unfinished_bytes_are_dropped_at_every_cut(cut: int) -> None:
    seen = Seen()
    run, jobs = make_run([log(1) + log(2)[:cut]], [log(2) + completed()], callbacks=seen.table())
    run.start().wait(PATIENCE)
    assert seen.steps == [1, 2]
    assert jobs.resumed == [None, "1"]


# 6. Bookkeeping first


def test_bookkeeping_first_no_policy_can_lose_a_result() -> None:
    def broken(ctx: Any) -> None:
        assert ctx.run.outcome.status == "completed"
        raise RuntimeError("webhook down")

    run, _ = make_run([started() + completed()], callbacks={"on_completed": broken})
    with pytest.raises(RuntimeError, match="webhook down"):
        run.start().wait(PATIENCE)
    assert run.outcome is not None
    assert run.outcome.artifacts == [{"a": 1}]
    assert run.job.status == "completed"


# 7. No thread dies unreported


def test_no_thread_dies_unreported_the_reader() -> None:
    seen = Seen()
    run, _ = make_run([logs(1, 2), ZeroDivisionError("a bug of ours")], callbacks=seen.table())
    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        run.start().wait(PATIENCE)
    assert seen.steps == [1, 2], "what was read before is still delivered"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_no_thread_dies_unreported_the_worker(kind: Any) -> None:
    def leave(ctx: Any) -> None:
        raise kind("leaving")

    policy = ErrorPolicy.log()
    run, _ = make_run([logs(1, 2)], callbacks={"on_log": leave}, error_policy=policy)
    run.start()
    with pytest.raises(kind):
        run.wait(PATIENCE)


def test_no_thread_dies_unreported_a_permanent_status_comes_after_what_was_read() -> None:
    seen = Seen()
    run, _ = make_run(
        [logs(1, 3), LOST], AuthenticationError(401, "expired"), callbacks=seen.table()
    )
    with pytest.raises(AuthenticationError):
        run.start().wait(PATIENCE)
    assert seen.steps == [1, 2, 3]


# 8. Everything stops


def _stops(run: Any) -> None:
    run.abort("enough")
    with pytest.raises(RunAborted, match="enough"):
        run.wait(PATIENCE)
    assert has_ended(run)


def test_everything_stops_while_reading() -> None:
    hold = Hold()
    run, _ = make_run([logs(1, 1), hold])
    run.start()
    assert hold.reached.wait(PATIENCE)
    _stops(run)


def test_everything_stops_while_blocked_on_a_full_channel() -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(ctx: Any) -> None:
        entered.set()
        assert release.wait(PATIENCE)

    run, _ = make_run([logs(1, 100), Hold()], callbacks={"on_log": slow}, max_buffered_events=1)
    run.start()
    assert entered.wait(PATIENCE)
    run.abort("enough")
    release.set()
    _stops(run)


def test_everything_stops_while_backing_off() -> None:
    backing_off = threading.Event()

    class SlowClock(FakeClock):
        def wait(self, event: threading.Event, seconds: float) -> bool:
            backing_off.set()
            return event.wait(PATIENCE)

    run, _ = make_run(LOST, clock=SlowClock())
    run.start()
    assert backing_off.wait(PATIENCE)
    _stops(run)


def test_everything_stops_while_waiting_for_a_future() -> None:
    from concurrent.futures import Future

    entered = threading.Event()

    def pending(ctx: Any) -> Any:
        entered.set()
        return Future()

    run, _ = make_run([logs(1, 1), Hold()], callbacks={"on_log": pending})
    run.start()
    assert entered.wait(PATIENCE)
    _stops(run)
    assert run.health().acknowledged_id is None


def test_everything_stops_a_running_callback_is_named_after_the_grace() -> None:
    entered, release = threading.Event(), threading.Event()

    def stuck_in_here(ctx: Any) -> None:
        entered.set()
        assert release.wait(PATIENCE)

    run, _ = make_run([logs(1, 1)], callbacks={"on_log": stuck_in_here}, abort_grace=0.05)
    run.start()
    assert entered.wait(PATIENCE)
    run.abort()
    with pytest.raises(RunAborted, match="on_log for event 1 is still running") as caught:
        run.wait(PATIENCE)
    assert caught.value.callback == "on_log"
    assert "stuck_in_here" in (caught.value.stack or "")
    release.set()
    assert has_ended(run, "worker")


# 9. Slow callbacks are not a fault


def test_slow_callbacks_are_not_a_fault() -> None:
    """An hour passes in each callback; the watchdog only ever saw the reads."""
    clock = FakeClock()

    def slow(ctx: Any) -> None:
        clock.time += 3600

    run, jobs = make_run(
        [logs(1, 20), PING, logs(21, 40) + completed()],
        callbacks={"on_log": slow},
        clock=clock,
        max_buffered_events=1,
        stale_after=1e9,
    )
    run.start().wait(PATIENCE)
    assert len(jobs.resumed) == 1
    assert run.health().failures == 0


# 10. Only the reader closes its own response


def test_only_the_reader_closes_its_own_response() -> None:
    second, third = Hold(), Hold()

    def on_log(ctx: Any) -> None:
        if ctx.attempt == 1:
            assert second.reached.wait(PATIENCE)
            raise RuntimeError("boom")

    run, jobs = make_run(
        [logs(1, 1), LOST],
        [logs(2, 2), second],
        [third],
        callbacks={"on_log": on_log},
        error_policy=ErrorPolicy.reconnect(attempts=2),
    )
    run.start()
    assert third.reached.wait(PATIENCE)
    run.close()
    assert len(jobs.streams) == 3
    assert {stream.closed_by for stream in jobs.streams} == {"arkor-reader-job-1"}


# 11. The run is the counter of record


def test_the_run_is_the_counter_of_record() -> None:
    flaky = Flaky(step=2, times=2)
    garbage = b"data: {nope\n\n" + b'id: u\ndata: {"type": "training.paused"}\n\n'
    run, _ = make_run(
        [logs(1, 2) + garbage, LOST],
        [logs(2, 3) + completed()],
        callbacks={"on_log": flaky},
        error_policy=ErrorPolicy.log(budget=5),
    )
    run.start().wait(PATIENCE)
    health = run.health()
    assert health.state == "settled"
    assert health.delivered == 6
    assert health.skipped == 2
    assert health.duplicates == 1
    assert health.given_up == 1
    assert health.reconnects == 1
    assert health.queue_depth == 0
    assert health.queue_high_water >= 1
    assert health.callback is None


# The stream ends without a terminal event


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_end_without_a_terminal_event_is_settled_by_the_record(status: str) -> None:
    seen = Seen()
    record = job(status, completedAt="t9", error="why" if status == "failed" else None)
    run, jobs = make_run([logs(1, 2) + END], callbacks=seen.table(), records=[record])
    result = run.start().wait(PATIENCE)
    assert result.status == status
    assert result.job.completed_at == "t9"
    assert seen.calls == ["log", "log", status]
    assert seen.contexts[-1].event.synthesized
    assert jobs.looked_up == 1


def test_an_end_while_the_job_runs_reopens_the_stream() -> None:
    run, jobs = make_run([logs(1, 2) + END], [completed()], records=[job("running")])
    assert run.start().wait(PATIENCE).status == "completed"
    assert jobs.resumed == [None, "2"]


def test_nothing_but_pings_is_settled_by_the_record() -> None:
    clock = FakeClock()

    def a_minute() -> None:
        clock.time += 60

    silence: List[Any] = []
    for _ in range(8):
        silence += [a_minute, PING]
    run, jobs = make_run(
        [logs(1, 1), *silence, Hold()],
        clock=clock,
        stale_after=300.0,
        records=[job("completed", completedAt="t9")],
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert jobs.looked_up == 1


def test_an_accepted_cancel_that_nothing_follows_is_settled_by_the_record() -> None:
    clock = FakeClock()
    hold = Hold()

    def silence() -> None:
        clock.time += 6
        raise ArkorTimeoutError("timed out")

    seen = Seen()
    run, jobs = make_run(
        [logs(1, 1), hold],
        [silence],
        clock=clock,
        callbacks=seen.table(),
        records=[job("cancelled", completedAt="t9")],
    )
    run.start()
    assert hold.reached.wait(PATIENCE)
    run.cancel()
    assert run.wait(PATIENCE).status == "cancelled"
    assert seen.calls == ["log", "cancelled"]
    assert jobs.resumed == [None, "1"]


def test_a_failure_after_our_own_cancel_is_told_apart_by_the_record() -> None:
    hold = Hold()
    seen = Seen()
    run, _ = make_run(
        [logs(1, 1), hold],
        [failed(error="Job cancelled")],
        callbacks=seen.table(),
        records=[job("cancelled", completedAt="t9")],
    )
    run.start()
    assert hold.reached.wait(PATIENCE)
    run.cancel()
    assert run.wait(PATIENCE).status == "cancelled"
    assert seen.calls == ["log", "cancelled"]


def test_a_long_outage_does_not_shorten_the_patience_of_the_next_connection() -> None:
    outage = [LOST] * 20
    policy = ReconnectPolicy(base=60.0, jitter=0.0)
    run, jobs = make_run(*outage, [completed()], reconnect=policy, records=[LOST])
    run.start().wait(PATIENCE)
    assert min(read for _, read in jobs.timeouts) > 30


def test_two_cursors_in_a_burst_a_redelivery_resumes_after_the_last_event_acknowledged() -> None:
    calls: List[Any] = []

    def on_log(ctx: Any) -> None:
        calls.append((ctx.step, ctx.attempt))
        if ctx.step == 5 and ctx.attempt == 1:
            assert ctx.run.health().acknowledged_id == "4"
            raise RuntimeError("boom")

    run, jobs = make_run(
        [logs(1, 2), logs(3, 8), Hold()],  # the second chunk is delivered as one batch
        [logs(5, 8) + completed()],
        callbacks={"on_log": on_log},
        error_policy=ErrorPolicy.reconnect(attempts=2),
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert jobs.resumed == [None, "4"]
    assert calls == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (5, 2), (6, 1), (7, 1), (8, 1)]
    assert run.health().delivered == 9
