"""Followers that follow: whole runs with the emulator, several followers on one backend."""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from follower_fleet import TTL, Fleet

from arkor_sync import (
    Action,
    ArkorUsageError,
    Callback,
    Callbacks,
    ErrorPolicy,
    FileCursorStore,
    Follower,
    StopTraining,
    follow,
)
from arkor_sync.emulator import Emulator, Fault
from arkor_sync.errors import HANDED_OVER
from arkor_sync.handlers import SlackNotifier
from arkor_sync.stores import LeasedStore
from support.forking import fork
from support.memory_backend import MemoryBackend
from support.servers import Webhook
from support.waiting import PATIENCE, Background, shortest, until

Jobs = Callable[[int], List[str]]


def store() -> LeasedStore:
    return LeasedStore(MemoryBackend(), TTL)


# Arguments.


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"store": None}, "store: got None; give a store for several processes"),
        ({"store": FileCursorStore("x")}, "store: got a FileCursorStore; give a store for several"),
        ({"max_runs": 0}, "max_runs: got int 0; give a whole number from 1"),
        ({"max_runs": True}, "max_runs: got bool True"),
        ({"poll": 0}, "poll: got int 0; give seconds above 0"),
        ({"poll": float("nan")}, "poll: got float nan"),
        ({"source": "job-1"}, "source: got str 'job-1'; give a list of job ids, or a function"),
        ({"source": [1]}, "source: got int 1 among the job ids"),
        ({"source": None}, "source: got None"),
        ({"callbacks": lambda: None}, "callbacks: got .*; give a function .* the job's id"),
        ({"callbacks": {"on_lag": print}}, "on_lag"),
        ({"callbacks": 7}, "callbacks: got int 7"),
        ({"around": 7}, "around: got int 7"),
        ({"abort_grace": -1}, "abort_grace: got int -1"),
        ({"base_url": "http://localhost", "client": object()}, "either a client, or"),
    ],
)
def test_what_cannot_work_is_refused_at_once(given: Any, says: str) -> None:
    arguments = {"source": ["job-1"], "store": store(), **given}
    with pytest.raises(ArkorUsageError, match=says):
        Follower(arguments.pop("source"), arguments.pop("callbacks", None), **arguments)


def test_it_can_be_made_and_shown_without_a_cloud_and_starts_nothing() -> None:
    made = Follower(["job-1"], store=store())
    assert repr(made) == "<Follower new, 0 runs>"
    assert made.runs == {}
    made.close()
    assert repr(made) == "<Follower stopped, 0 runs>"
    with pytest.raises(ArkorUsageError, match="was stopped; make a new one"):
        made.start()
    made.run()  # returns at once


# One follower.


def test_every_event_of_every_job_comes_once_and_jobs_end(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    first = jobs(3)
    with fleet.make():
        fleet.until_followed()
        more = jobs(3)  # while it runs
        fleet.until_followed()
        for job_id in [*first, *more]:
            emulator.step(job_id, 99)
        until(lambda: len(fleet.completed) == 6 and not any(fleet.counts()))
    assert set(fleet.events.values()) == set(fleet.completed.values()) == {1}
    assert len(fleet.events) == 6 * 5


def test_what_is_finished_is_not_followed_by_a_later_follower(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    (job_id,) = jobs(1)
    with fleet.make():
        emulator.step(job_id, 99)
        until(lambda: fleet.completed[job_id])
    with fleet.make():
        (other,) = jobs(1)
        until(lambda: fleet.counts() == [0, 1])
        assert other in fleet.followers[1].runs
    assert fleet.completed == {job_id: 1}


@pytest.mark.parametrize("by_callback", [True, False])
def test_what_the_program_has_stopped_is_not_followed_again(
    fleet: Fleet, jobs: Jobs, emulator: Emulator, by_callback: bool
) -> None:
    stopped, other = jobs(2)
    ended: List[Any] = []

    def callbacks(job_id: str) -> Callbacks:
        def on_log(ctx: Any) -> None:
            if job_id == stopped and by_callback:
                raise StopTraining("enough")

        return Callbacks(on_log=on_log, on_end=lambda ctx: ended.append((job_id, ctx.result)))

    with fleet.make(callbacks) as first:
        fleet.until_followed()
        if by_callback:
            emulator.step(stopped, 2)
        else:
            first.runs[stopped].stop("enough")
        until(lambda: fleet.status()[stopped].finished)
        with fleet.make(callbacks):
            emulator.step(other, 99)
            until(lambda: all(each.finished for each in fleet.status().values()))
            until(lambda: not any(fleet.counts()))
    assert [(job_id, each.status, each.stop_reason) for job_id, each in ended] == [
        (stopped, "cancelled", "enough"),
        (other, "completed", None),
    ]
    assert {each.epoch for each in fleet.status().values()} == {1}


def test_a_list_of_ids_and_callbacks_that_all_runs_share(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    seen: List[str] = []

    class Mine(Callback):
        def on_completed(self, ctx: Any) -> None:
            seen.append(ctx.job.id)

    ids = jobs(2)
    follower = Follower(
        iter([*ids, ids[0]]), Mine(), store=LeasedStore(fleet.backend), client=fleet._client
    )
    with follower:
        for job_id in ids:
            emulator.step(job_id, 99)
        until(lambda: len(seen) == 2)
    assert sorted(seen) == sorted(ids)


def test_it_has_one_thread_for_itself_one_for_the_leases_and_two_a_run(
    fleet: Fleet, jobs: Jobs
) -> None:
    jobs(10)
    with fleet.make():
        fleet.until_followed()

        def names() -> List[str]:
            found = (each.name for each in threading.enumerate())
            return sorted(each for each in found if each.startswith("arkor-"))

        until(lambda: "arkor-starter" not in names())
        kinds = [name.split("-")[1] for name in names() if "emulator" not in name]
        assert {kind: kinds.count(kind) for kind in kinds} == {
            "follower": 1,
            "renew": 1,
            "reader": 10,
            "worker": 10,
        }


def test_around_and_the_other_options_are_those_of_each_run(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    (job_id,) = jobs(1)
    opened: List[int] = []
    inside: List[int] = []

    @contextmanager
    def around() -> Iterator[None]:
        opened.append(1)
        try:
            yield
        finally:
            opened.append(-1)

    def on_log(ctx: Any) -> None:
        inside.append(sum(opened))
        if ctx.step == 2 and ctx.attempt < 3:
            raise ValueError("again")

    policy = ErrorPolicy.abort().on(ValueError, do=Action.RETRY, attempts=5, base=0)
    with fleet.make(lambda _: Callbacks(on_log=on_log), around=around, error_policy=policy):
        emulator.step(job_id, 99)
        until(lambda: fleet.backend.positions.get(job_id, [0, 0, False])[2])
    assert inside == [1] * 7
    assert len(opened) >= 2 * 7
    assert sum(opened) == 0


def test_callbacks_see_no_context_of_who_has_started_it(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    (job_id,) = jobs(1)
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen: List[str] = []
    request.set("the view's")
    with fleet.make(lambda _: Callbacks(on_log=lambda ctx: seen.append(request.get()))):
        emulator.step(job_id, 99)
        until(lambda: len(seen) == 5)
    assert set(seen) == {"none"}


# Several.


def test_three_followers_share_evenly_and_no_event_is_lost_or_doubled(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    ids = jobs(20)
    fleet.make().start()
    fleet.until_followed()
    for job_id in ids:
        emulator.step(job_id, 3)
    fleet.make().start()
    fleet.make().start()
    until(lambda: sorted(fleet.counts()) == [6, 7, 7])
    fleet.followers[0].close()
    until(lambda: sorted(fleet.counts()) == [0, 10, 10])
    for job_id in ids:
        emulator.step(job_id, 99)
    until(lambda: sum(fleet.completed.values()) == 20)
    assert set(fleet.events.values()) == {1}
    assert len(fleet.events) == 20 * 5


def test_the_jobs_of_one_that_stopped_are_followed_within_a_second(
    fleet: Fleet, jobs: Jobs
) -> None:
    jobs(10)

    def measure() -> float:
        leaves, stays = fleet.make().start(), fleet.make().start()
        until(lambda: len(leaves.runs) == len(stays.runs) == 5)
        leaves.close()
        began = time.perf_counter()
        until(lambda: len(stays.runs) == 10)
        took = time.perf_counter() - began
        stays.close()
        return took

    assert shortest(measure, 1.0) < 1.0


@pytest.mark.slow
def test_the_jobs_of_one_that_is_cut_off_are_taken_over_and_its_runs_end(
    fleet: Fleet, jobs: Jobs, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "arkor_sync.follower")
    ids = jobs(6)
    for _ in range(2):
        fleet.make().start()
    until(lambda: fleet.counts() == [3, 3])
    for job_id in ids:
        emulator.step(job_id, 3)
    until(lambda: len(fleet.events) == 12)  # started, and two logs
    store = LeasedStore(fleet.backend, TTL)
    until(lambda: all(store.load(job_id).delivered == 3 for job_id in ids))
    taken = set(fleet.followers[0].runs)
    fleet.links[0].cut = True
    until(lambda: fleet.counts() == [0, 6])
    epochs = {each.job_id: each.epoch for each in fleet.backend.holders(ids)}
    assert all(epochs[job_id] >= 2 for job_id in taken)
    for job_id in ids:
        emulator.step(job_id, 99)
    until(lambda: sum(fleet.completed.values()) == 6)
    assert set(fleet.events.values()) == {1}
    lost = [each for each in caplog.records if "is no longer followed" in each.getMessage()]
    # Each job has its line; they share the trouble, so one warning may do.
    assert all(any(job_id in each.getMessage() for each in lost) for job_id in taken)
    assert {logging.WARNING} <= {each.levelno for each in lost} <= {logging.WARNING, logging.INFO}
    fleet.links[0].cut = False


def test_a_job_that_a_plain_run_follows_is_left_to_it(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    ids = jobs(2)
    script = LeasedStore(fleet.backend, TTL)
    with follow(ids[0], client=fleet._client, cursor_store=script), fleet.make() as follower:
        until(lambda: set(follower.runs) == {ids[1]})
        (held,) = [each for each in follower.status().jobs if each.job_id == ids[0]]
        assert held.owner == script.owner
    with fleet.make() as follower:
        fleet.until_followed()


def test_a_callback_that_is_running_ends_before_its_job_is_given_back(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    (job_id,) = jobs(1)
    inside, go_on = threading.Event(), threading.Event()

    def on_log(ctx: Any) -> None:
        fleet.events[job_id, ctx.step] += 1
        if ctx.step == 1:
            inside.set()
            assert go_on.wait(PATIENCE)

    first = fleet.make(lambda _: Callbacks(on_log=on_log), abort_grace=PATIENCE).start()
    emulator.step(job_id, 99)
    assert inside.wait(PATIENCE)
    second = fleet.make().start()
    closing = Background(first.close)
    until(lambda: first.runs and first.runs[job_id].health().state == "stopping")
    assert closing.running()
    assert not second.runs
    go_on.set()
    closing.result()
    until(lambda: fleet.completed[job_id])
    assert set(fleet.events.values()) == {1}
    assert len(fleet.events) == 5


def test_a_notifier_tells_of_no_hand_over(fleet: Fleet, jobs: Jobs, emulator: Emulator) -> None:
    (job_id,) = jobs(1)
    errors: List[Any] = []
    with Webhook() as webhook:

        def callbacks(_: str) -> Any:
            end = Callbacks(on_end=lambda ctx: errors.append(ctx.error))
            return [SlackNotifier(webhook.url), end]

        with fleet.make(callbacks):
            fleet.until_followed()
        assert [each.reason for each in errors] == [HANDED_OVER]
        assert webhook.posted == []
        with fleet.make(callbacks):
            emulator.step(job_id, 99)
            until(lambda: len(errors) == 2)
        assert errors[1] is None
        assert "completed" in str(webhook.posted)


def test_it_may_be_closed_in_a_callback(fleet: Fleet, jobs: Jobs, emulator: Emulator) -> None:
    (job_id,) = jobs(1)
    took: List[float] = []

    def on_log(ctx: Any) -> None:
        began = time.perf_counter()
        follower.close()
        took.append(time.perf_counter() - began)

    follower = fleet.make(lambda _: Callbacks(on_log=on_log), abort_grace=PATIENCE)
    running = Background(follower.run)
    emulator.step(job_id, 99)
    running.result()
    assert took
    assert max(took) < PATIENCE / 2
    assert fleet.backend.batches[-1][0].job_id == job_id  # its event was saved


def test_it_may_be_closed_in_a_callback_that_comes_before_the_loop_knows_its_run(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    (job_id,) = jobs(1)
    emulator.step(job_id, 99)
    closing, took = threading.Event(), []

    def on_started(ctx: Any) -> None:
        closing.set()
        began = time.perf_counter()
        follower.close()
        took.append(time.perf_counter() - began)

    follower = fleet.make(lambda _: Callbacks(on_started=on_started), abort_grace=PATIENCE)
    begin = follower._begin

    def begin_slowly(*arguments: Any) -> Any:
        run = begin(*arguments)
        assert closing.wait(PATIENCE)
        return run

    follower._begin = begin_slowly  # type: ignore[method-assign]
    follower.run()
    assert took
    assert max(took) < PATIENCE / 2


# What goes wrong.


def test_an_unknown_job_disturbs_no_other(
    fleet: Fleet, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.ids.append("no-such-job")
    jobs(3)
    with fleet.make():
        fleet.until_followed(3)
        until(lambda: "job no-such-job cannot be followed yet" in caplog.text)
    assert "404" in caplog.text


def test_a_slow_cloud_stops_neither_the_loop_nor_the_end(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    jobs(1)
    follower = fleet.make().start()
    fleet.until_followed()
    emulator.faults.add(Fault("stall_before_headers", route="get_job", count=20))
    stuck = jobs(20)
    until(lambda: sum(each.name == "arkor-starter" for each in threading.enumerate()) == 8)
    fleet.backend.calls.clear()
    until(lambda: fleet.backend.calls.count("holders") >= 2)  # it looks all the same
    began = time.perf_counter()
    follower.close()
    assert time.perf_counter() - began < PATIENCE / 2
    assert not any(job_id in fleet.backend.leases for job_id in stuck)


def test_callbacks_that_cannot_be_made_are_logged_and_tried_again(
    fleet: Fleet, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    bad, _ = jobs(2)
    calls: List[str] = []

    def callbacks(job_id: str) -> Any:
        calls.append(job_id)
        if job_id == bad and calls.count(bad) < 2:
            raise KeyError("no row for this job")
        return fleet.callbacks(job_id)

    with fleet.make(callbacks):
        fleet.until_followed()
    assert calls.count(bad) == 2
    assert caplog.text.count("KeyError: 'no row for this job'") == 1


def test_an_error_of_a_callback_is_logged_once_with_its_job_and_the_job_is_followed_again(
    fleet: Fleet, jobs: Jobs, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    (job_id,) = jobs(1)
    attempts: List[int] = []

    def on_log(ctx: Any) -> None:
        attempts.append(ctx.step)
        if attempts.count(2) == 1 and ctx.step == 2:
            raise ValueError("no such column")

    with fleet.make(lambda _: Callbacks(on_log=on_log)):
        emulator.step(job_id, 99)
        until(lambda: fleet.backend.positions.get(job_id, [0, 0, False])[2])
    assert attempts == [1, 2, 2, 3, 4, 5]
    (error,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert job_id in error.getMessage()
    assert error.exc_info
    assert isinstance(error.exc_info[1], ValueError)
    assert "goes on; follow(" not in caplog.text  # nobody has to do that


def test_a_source_that_exits_ends_the_follower_and_hands_over(
    fleet: Fleet, jobs: Jobs, emulator: Emulator
) -> None:
    ids = jobs(1)
    asked: List[int] = []

    def source() -> List[str]:
        asked.append(1)
        if len(asked) > 1:
            raise SystemExit("enough")
        return ids

    follower = Follower(
        source, store=LeasedStore(fleet.backend, TTL), client=fleet._client, poll=0.2
    )
    with pytest.raises(SystemExit, match="enough"):
        follower.run()
    assert fleet.backend.members() == []


def test_the_status_says_who_follows_what(fleet: Fleet, jobs: Jobs, emulator: Emulator) -> None:
    done, *others = jobs(3)
    fleet.make().start()
    fleet.until_followed()
    emulator.step(done, 99)
    until(lambda: fleet.completed[done])
    emulator.step(others[0], 2)
    until(lambda: fleet.events[others[0], 1])
    fleet.ids.append("unknown")
    owner = fleet.stores[0].owner
    watcher = fleet.make()  # it is not started: another process that only looks
    until(lambda: [each.finished for each in watcher.status().jobs] == [True] + [False] * 3)
    status = watcher.status()
    assert [each.job_id for each in status.jobs] == fleet.ids
    assert [each.owner for each in status.jobs[1:]] == [owner, owner, None]
    assert [each.epoch for each in status.jobs] == [1, 1, 1, 0]
    assert 0 < status.jobs[1].expires_in <= TTL
    assert status.jobs[1].saved_ago is not None
    assert status.jobs[2].saved_ago is None
    assert [each.owner for each in status.members] == [owner]
    assert status.counts == {owner: 2}
    assert status.not_followed == ("unknown",)


# Signals, forks and the end.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_has_run_hand_over_and_return(
    fleet: Fleet, jobs: Jobs, number: signal.Signals
) -> None:
    jobs(3)
    follower = fleet.make()

    def press() -> None:
        fleet.until_followed()
        os.kill(os.getpid(), number)

    former = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    presses = Background(press)
    follower.run()
    presses.result()
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == former
    assert not follower.runs
    assert all(each.expires_in <= 0 for each in fleet.backend.holders(fleet.ids))
    assert fleet.backend.members() == []


def test_run_in_another_thread_touches_no_signal_and_stop_ends_it(fleet: Fleet, jobs: Jobs) -> None:
    jobs(1)
    follower = fleet.make()
    former = signal.getsignal(signal.SIGTERM)
    running = Background(follower.run)
    fleet.until_followed()
    assert signal.getsignal(signal.SIGTERM) is former
    follower.stop()
    running.result()
    assert not follower.runs


def test_in_a_forked_child_nothing_acts_and_it_may_be_started_anew(
    fleet: Fleet, jobs: Jobs, emulator: Emulator, tmp_path: Path
) -> None:
    (job_id,) = jobs(1)
    follower = fleet.make().start()
    fleet.until_followed()
    result = tmp_path / "result"

    def child() -> None:
        assert follower.runs == {}
        follower.close()  # it does nothing to the parent's
        names = {each.name for each in threading.enumerate()}
        assert not any(name.startswith("arkor-follower") for name in names)
        result.write_text("fine")

    assert fork(child)() == 0
    assert result.read_text() == "fine"
    emulator.step(job_id, 99)
    until(lambda: fleet.completed[job_id])
    assert set(fleet.events.values()) == {1}
    assert [each.owner for each in fleet.backend.members()] == [fleet.stores[0].owner]


def test_a_follower_that_was_made_before_a_fork_follows_in_the_child(
    fleet: Fleet, jobs: Jobs, emulator: Emulator, tmp_path: Path
) -> None:
    (job_id,) = jobs(1)
    emulator.step(job_id, 99)
    follower = fleet.make()
    result = tmp_path / "result"

    def child() -> None:
        with follower:
            until(lambda: fleet.completed[job_id])
        result.write_text(f"{fleet.stores[0].owner}")

    mine = fleet.stores[0].owner
    assert fork(child)() == 0
    assert result.read_text().startswith("process ")
    assert result.read_text() != mine
