"""When the reader connects again, after what delay, and when it gives up."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorTimeoutError,
    CloudApiError,
    GoneError,
    ReconnectExhausted,
    ReplayUnavailable,
    StreamProtocolError,
)
from arkor_sync.stream.error_policy import ErrorPolicy
from arkor_sync.stream.reconnect import ReconnectPolicy
from support.clocks import FakeClock
from support.fake_cloud import END, PING, Hold, Seen, completed, job, log, logs, make_run
from support.waiting import PATIENCE

LOST = ArkorConnectionError("reset by peer")


def status(code: int, retry_after: Any = None) -> CloudApiError:
    return CloudApiError.for_status(code, f"status {code}", retry_after=retry_after)


def delays_of(*connections: Any, **policy: Any) -> List[float]:
    clock = FakeClock()
    run, _ = make_run(
        *connections,
        [completed()],
        clock=clock,
        reconnect=ReconnectPolicy(**policy),
        stale_after=1e9,
    )
    assert run.start().wait(PATIENCE).status == "completed"
    return clock.waits


def test_failures_back_off_exponentially_to_the_cap() -> None:
    assert delays_of(*[LOST] * 8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_clean_end_after_an_event_waits_exactly_the_base_and_is_not_counted() -> None:
    connections = [[logs(1, 1)], [logs(2, 2)], [logs(3, 3)]]
    assert delays_of(*connections, base=3.0, max_attempts=0) == [3, 3, 3]


def test_the_jitter_is_drawn_within_its_share_and_below_the_cap() -> None:
    clock = FakeClock(random=1.0)
    run, _ = make_run(*[LOST] * 8, [completed()], clock=clock, stale_after=1e9)
    run.start().wait(PATIENCE)
    assert clock.waits == [1.25, 2.5, 5, 10, 20, 40, 60, 60]


@pytest.mark.parametrize(
    "nothing",
    [[], [PING], [b"data: {garbage\n\n"], [b"data: null\n\n"], [b": comment\n\n"]],
    ids=["empty", "pings", "garbage", "null", "comments"],
)
def test_a_connection_that_brings_nothing_is_a_failure(nothing: List[Any]) -> None:
    assert delays_of(nothing, list(nothing), list(nothing)) == [1, 2, 4]


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"type": "training.paused", "n": %d}\n\n',
        b'data: {"status": "running", "n": %d}\n\n',
    ],
    ids=["unknown type", "no type"],
)
def test_an_unknown_event_is_skipped_and_counts_as_progress(frame: bytes) -> None:
    connections = [[frame % n] for n in range(3)]
    assert delays_of(*connections, max_attempts=0) == [1, 1, 1]


def test_a_server_that_repeats_events_without_ids_does_not_loop_for_ever() -> None:
    bare = log(1, id=None)
    clock = FakeClock()
    seen = Seen()
    run, _ = make_run(
        *[[bare]] * 10,
        clock=clock,
        callbacks=seen.table(),
        reconnect=ReconnectPolicy(max_attempts=4),
    )
    with pytest.raises(ReconnectExhausted):
        run.start().wait(PATIENCE)
    assert seen.steps == [1]
    assert clock.waits == [1, 1, 2, 4, 8]


def test_a_new_event_and_nothing_less_resets_the_count() -> None:
    connections = [LOST, LOST, [PING, LOST], [logs(1, 1), LOST], LOST, LOST]
    assert delays_of(*connections) == [1, 2, 4, 1, 2, 4]


def test_giving_up_states_the_count_and_carries_the_last_failure() -> None:
    clock = FakeClock()
    run, jobs = make_run(
        LOST, LOST, ArkorConnectionError("the last"), clock=clock,
        reconnect=ReconnectPolicy(max_attempts=2),
    )  # fmt: skip
    with pytest.raises(ReconnectExhausted, match=r"3 times in a row.*the last") as caught:
        run.start().wait(PATIENCE)
    assert caught.value.attempts == 3
    assert str(caught.value.__cause__) == "the last"
    assert len(jobs.resumed) == 3
    assert clock.waits == [1, 2], "no delay before giving up"


def test_success_between_failures_leaves_the_whole_count_to_the_next_outage() -> None:
    run, jobs = make_run(
        LOST, [logs(1, 1)], LOST, LOST, LOST, reconnect=ReconnectPolicy(max_attempts=2)
    )
    with pytest.raises(ReconnectExhausted):
        run.start().wait(PATIENCE)
    assert len(jobs.resumed) == 5


@pytest.mark.parametrize("code", [401, 403, 426])
def test_a_permanent_status_ends_the_run_at_once(code: int) -> None:
    run, jobs = make_run(status(code))
    with pytest.raises(CloudApiError) as caught:
        run.start().wait(PATIENCE)
    assert caught.value.status == code
    assert len(jobs.resumed) == 1


@pytest.mark.parametrize("code", [400, 404, 408, 409, 422, 429, 500, 502, 503, 504])
def test_any_other_status_is_tried_again(code: int) -> None:
    assert delays_of(status(code)) == [1]


def test_a_permanent_status_on_a_reopen_ends_the_run_too() -> None:
    run, _ = make_run([logs(1, 1), LOST], status(403))
    with pytest.raises(CloudApiError, match="status 403"):
        run.start().wait(PATIENCE)


def test_the_set_of_permanent_statuses_is_the_policys() -> None:
    run, _ = make_run(status(404), reconnect=ReconnectPolicy(permanent=frozenset({404})))
    with pytest.raises(CloudApiError, match="status 404"):
        run.start().wait(PATIENCE)


def test_retry_after_is_honoured_even_above_the_cap() -> None:
    assert delays_of(status(429, retry_after=7.0), status(503, retry_after=120.0)) == [7, 120]


@pytest.mark.parametrize("seconds", [901, 99999999999.0, 1e9])
def test_retry_after_is_capped_as_the_policy_says(seconds: float) -> None:
    assert delays_of(status(503, retry_after=seconds)) == [900]
    policy = ReconnectPolicy(max_retry_after=3600)
    assert policy.retry_after(status(503, retry_after=seconds)) == min(seconds, 3600)


def test_retry_after_does_not_shorten_the_delay() -> None:
    assert delays_of(LOST, LOST, status(503, retry_after=0.1)) == [1, 2, 4]


def test_the_streams_own_retry_field_is_the_base_delay() -> None:
    retry = b"retry: 250\n\n"
    assert delays_of([retry + logs(1, 1)], LOST, LOST, LOST) == [0.25, 0.25, 0.5, 1.0]


def test_an_absurd_retry_field_is_capped() -> None:
    assert delays_of([b"retry: 999999999\n\n" + logs(1, 1)]) == [60]


def test_an_event_over_the_limit_ends_the_run_with_a_clear_error() -> None:
    run, jobs = make_run([b"data: " + b"x" * 2000], max_event_bytes=1000)
    with pytest.raises(StreamProtocolError, match="larger than 1,000 bytes"):
        run.start().wait(PATIENCE)
    assert len(jobs.resumed) == 1


def test_a_bad_stream_is_reported_after_the_events_before_it() -> None:
    seen = Seen()
    run, _ = make_run(
        [logs(1, 2), b"data: " + b"x" * 2000], callbacks=seen.table(), max_event_bytes=1000
    )
    with pytest.raises(StreamProtocolError):
        run.start().wait(PATIENCE)
    assert seen.steps == [1, 2]


# 410


def test_gone_for_a_job_that_has_ended_is_settled_by_the_record() -> None:
    record = job("completed", completedAt="t9", artifacts=[{"path": "a"}])
    run, jobs = make_run([logs(1, 2), LOST], GoneError(410, "gone"), records=[record])
    result = run.start().wait(PATIENCE)
    assert (result.status, result.artifacts) == ("completed", [{"path": "a"}])
    assert jobs.resumed == [None, "2"]


def test_gone_for_a_job_that_runs_asks_once_for_the_whole_history() -> None:
    seen = Seen()
    run, jobs = make_run(
        [logs(1, 2), LOST],
        GoneError(410, "gone"),
        [logs(1, 4) + completed()],
        callbacks=seen.table(),
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert jobs.resumed == [None, "2", None]
    assert seen.steps == [1, 2, 3, 4]


def test_gone_for_good_says_that_events_may_be_missing() -> None:
    run, _ = make_run([logs(1, 2), LOST], GoneError(410, "gone"), GoneError(410, "gone"))
    with pytest.raises(ReplayUnavailable, match="last one read was '2'") as caught:
        run.start().wait(PATIENCE)
    assert caught.value.status == 410


def test_gone_while_an_event_is_to_be_delivered_again_gives_it_back_to_the_worker() -> None:
    """The cloud cannot replay, so the event in hand and the queue behind it are all there is."""
    calls: List[Any] = []

    def on_log(ctx: Any) -> None:
        calls.append((ctx.step, ctx.attempt))
        if ctx.step == 2 and ctx.attempt == 1:
            raise RuntimeError("boom")

    run, jobs = make_run(
        [logs(1, 5), Hold()],
        GoneError(410, "gone"),
        [completed()],
        callbacks={"on_log": on_log},
        error_policy=ErrorPolicy.reconnect(attempts=3),
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert calls == [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (5, 1)]
    assert jobs.resumed == [None, "1", None]


# The record


def test_a_record_that_cannot_be_read_is_a_failure_like_any_other() -> None:
    clock = FakeClock()
    records = [LOST, status(503), job("completed", completedAt="t9")]
    run, jobs = make_run([logs(1, 1) + END], [END], [END], records=records, clock=clock)
    assert run.start().wait(PATIENCE).status == "completed"
    assert jobs.looked_up == 3
    assert clock.waits == [1, 2]


def test_a_redelivery_after_a_long_callback_is_asked_of_the_stream() -> None:
    """The job has ended meanwhile, but its record does not hold the events in between."""
    clock = FakeClock()
    calls: List[Any] = []

    def on_log(ctx: Any) -> None:
        calls.append((ctx.step, ctx.attempt))
        if calls[-1] == (2, 1):
            assert jobs.streams[0].closed.wait(PATIENCE)  # the reader has looked at the clock
            clock.time += 1000
            raise RuntimeError("boom")

    run, jobs = make_run(
        [logs(1, 3) + completed()],
        LOST,
        [logs(2, 3) + completed()],
        clock=clock,
        callbacks={"on_log": on_log},
        records=[job("completed", completedAt="t9")],
        error_policy=ErrorPolicy.reconnect(attempts=3),
        stale_after=300.0,
    )
    assert run.start().wait(PATIENCE).artifacts == [{"a": 1}]
    assert calls == [(1, 1), (2, 1), (2, 2), (3, 1)]
    assert jobs.resumed == [None, "1", "1"]
    assert jobs.looked_up == 0


def test_waiting_for_room_in_the_queue_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    seen = Seen()
    all_put, waiting = threading.Event(), threading.Event()

    def slow(ctx: Any) -> None:
        if ctx.step == 2:
            assert waiting.wait(PATIENCE)
            clock.time += 1000

    run, jobs = make_run(
        [logs(1, 3), all_put.set, logs(3, 3), logs(4, 4) + completed()],
        clock=clock,
        callbacks=[seen.table(), {"on_log": slow}],
        records=[job("completed", completedAt="t9")],
        max_buffered_events=1,
        stale_after=300.0,
    )
    wait_for_room = run._channel._wait_for_room

    def wait() -> None:
        if all_put.is_set():
            waiting.set()
        wait_for_room()

    monkeypatch.setattr(run._channel, "_wait_for_room", wait)
    run.start().wait(PATIENCE)
    assert waiting.is_set()
    assert seen.steps == [1, 2, 3, 4]
    assert jobs.looked_up == 0


def test_after_a_long_outage_the_stream_is_asked_before_the_record() -> None:
    clock = FakeClock()
    seen = Seen()
    run, jobs = make_run(
        [logs(1, 1), LOST],
        *[LOST] * 9,
        [logs(2, 3) + completed()],
        clock=clock,
        callbacks=seen.table(),
        records=[job("completed", completedAt="t9")],
        stale_after=300.0,
    )
    run.start().wait(PATIENCE)
    assert sum(clock.waits) > 300
    assert seen.steps == [1, 2, 3]
    assert jobs.looked_up == 0


def test_the_events_of_a_job_that_has_ended_are_waited_for_like_any_others() -> None:
    clock = FakeClock()
    seen = Seen()
    run, jobs = make_run(
        *[LOST] * 7,
        [logs(1, 3) + completed()],
        clock=clock,
        callbacks=seen.table(),
        begin=job("completed", completedAt="t9"),
        records=[job("completed", completedAt="t9")],
        stale_after=300.0,
    )
    assert run.start().wait(PATIENCE).artifacts == [{"a": 1}]
    assert 100 < sum(clock.waits) < 300
    assert seen.steps == [1, 2, 3]
    assert jobs.looked_up == 0


@pytest.mark.parametrize("lost", [LOST, ArkorTimeoutError("timed out"), b""], ids=repr)
def test_a_process_that_slept_asks_the_stream_before_the_record(lost: Any) -> None:
    """Stopped, paused or suspended, it finds the connection lost and the job ended."""
    clock = FakeClock()
    seen = Seen()

    def sleep() -> None:
        clock.time += 1000

    run, jobs = make_run(
        [logs(1, 1), sleep, lost],
        [logs(2, 3) + completed()],
        clock=clock,
        callbacks=seen.table(),
        records=[job("completed", completedAt="t9")],
        stale_after=300.0,
    )
    run.start().wait(PATIENCE)
    assert seen.steps == [1, 2, 3]
    assert jobs.looked_up == 0


@pytest.mark.parametrize("useless", [status(503), [PING], []], ids=["refused", "pings", "empty"])
def test_a_stream_that_brings_nothing_for_long_is_settled_by_the_record(useless: Any) -> None:
    clock = FakeClock()
    record = job("completed", completedAt="t9")
    run, jobs = make_run([logs(1, 1), LOST], *[useless] * 99, clock=clock, records=[record])
    assert run.start().wait(PATIENCE).status == "completed"
    assert 300 < sum(clock.waits) < 400
    assert jobs.looked_up == 1


def test_a_server_that_only_ever_ends_the_stream_of_a_running_job_is_backed_off_from() -> None:
    assert delays_of([END], [END], [END]) == [1, 2, 4]


def test_a_second_wait_returns_the_same_result_without_another_stream() -> None:
    seen = Seen()
    run, jobs = make_run([logs(1, 2) + completed()], callbacks=seen.table())
    first = run.start().wait(PATIENCE)
    assert run.wait(PATIENCE) is first
    assert run.result(PATIENCE) is first
    assert len(jobs.resumed) == 1
    assert seen.steps == [1, 2]


def test_what_comes_after_a_terminal_event_is_ignored() -> None:
    seen = Seen()
    run, _ = make_run([completed() + logs(1, 3)], callbacks=seen.table())
    run.start().wait(PATIENCE)
    assert seen.calls == ["completed"]


def test_the_jsons_type_decides_and_not_the_frames_event_name() -> None:
    seen = Seen()
    body = b'event: training.failed\ndata: {"type": "training.completed"}\n\n'
    run, _ = make_run([body], callbacks=seen.table())
    assert run.start().wait(PATIENCE).artifacts == []
    assert seen.calls == ["completed"]


# A redelivery, and a job that ended long ago


def test_a_redelivery_behind_slow_callbacks_loses_nothing_though_the_job_has_ended() -> None:
    """The record would say completed; the stream still has everything."""
    clock = FakeClock()
    calls: List[Any] = []

    def on_log(ctx: Any) -> None:
        calls.append((ctx.step, ctx.attempt))
        clock.time += 3600
        if ctx.step == 2 and ctx.attempt == 1:
            raise RuntimeError("boom")

    run, jobs = make_run(
        [logs(1, 3) + completed()],
        [logs(2, 3) + completed()],
        callbacks={"on_log": on_log},
        error_policy=ErrorPolicy.reconnect(attempts=2),
        clock=clock,
        records=[job("completed", completedAt="t9")],
    )
    assert run.start().wait(PATIENCE).artifacts == [{"a": 1}]
    assert calls == [(1, 1), (2, 1), (2, 2), (3, 1)]
    assert jobs.looked_up == 0


def test_a_cloud_that_ends_the_stream_instead_of_sending_again_loses_nothing() -> None:
    seen = Seen()

    def on_log(ctx: Any) -> None:
        if ctx.step == 2 and ctx.attempt == 1:
            raise RuntimeError("boom")

    run, _ = make_run(
        [logs(1, 4), Hold()],
        [END],
        callbacks=[{"on_log": on_log}, seen.table()],
        error_policy=ErrorPolicy.reconnect(attempts=2),
        records=[job("completed", completedAt="t9")],
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert seen.steps == [1, 2, 3, 4]
    assert seen.calls[-1] == "completed"


def test_after_an_outage_the_stream_is_heard_before_the_record() -> None:
    seen = Seen()
    policy = ReconnectPolicy(base=60.0, jitter=0.0)
    run, jobs = make_run(
        [logs(1, 1), LOST],
        *[LOST] * 20,
        [logs(2, 4) + completed()],
        callbacks=seen.table(),
        reconnect=policy,
        records=[*[LOST] * 9, job("completed", completedAt="t9")],
    )
    run.start().wait(PATIENCE)
    assert seen.steps == [1, 2, 3, 4]
    assert 0 < jobs.looked_up < 9


def test_short_connections_with_nothing_but_pings_add_up() -> None:
    clock = FakeClock()

    def a_minute() -> None:
        clock.time += 60

    run, jobs = make_run(
        *[[a_minute, PING]] * 8,
        clock=clock,
        reconnect=ReconnectPolicy(base=0, jitter=0),
        stale_after=300.0,
        records=[job("completed", completedAt="t9")],
    )
    assert run.start().wait(PATIENCE).status == "completed"
    assert len(jobs.resumed) <= 6


def test_a_record_that_makes_no_sense_is_a_failure_like_any_other() -> None:
    from arkor_sync.errors import ResponseError

    clock = FakeClock()
    records = [ResponseError("not JSON"), job("completed", completedAt="t9")]
    run, _ = make_run([logs(1, 1) + END], [END], records=records, clock=clock)
    assert run.start().wait(PATIENCE).status == "completed"
    assert clock.waits == [1]


def test_a_server_that_asks_for_no_delay_is_not_hammered() -> None:
    assert delays_of([b"retry: 0\n\n" + logs(1, 1)], LOST, LOST) == [0.1, 0.1, 0.2]


def test_attempts_are_counted_by_id_also_where_the_server_words_the_event_anew() -> None:
    calls: List[int] = []

    def on_log(ctx: Any) -> None:
        calls.append(ctx.attempt)
        raise RuntimeError("always")

    run, _ = make_run(
        *[[log(1, loss=n), Hold()] for n in range(9)],
        callbacks={"on_log": on_log},
        error_policy=ErrorPolicy.reconnect(attempts=3),
    )
    with pytest.raises(RuntimeError, match="always"):
        run.start().wait(PATIENCE)
    assert calls == [1, 2, 3]


def test_a_log_record_keeps_no_error_and_so_no_batch_alive(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = [logs(1, 2), ArkorConnectionError("reset by peer")]
    run, _ = make_run(lost, [logs(3, 4) + completed()])
    assert run.start().wait(PATIENCE).status == "completed"
    (record,) = [record for record in caplog.records if "reset by peer" in record.getMessage()]
    assert not any(isinstance(argument, BaseException) for argument in record.args or ())
