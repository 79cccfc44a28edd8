"""The loop of a follower, step by step: a clock on which waiting costs no time, and no threads."""

from __future__ import annotations

import logging
import re
import threading
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional

import pytest

from arkor_sync import (
    ArkorConnectionError,
    AuthenticationError,
    LeaseHeldError,
    LeaseLostError,
    NotFoundError,
    RunAborted,
    StoreUnavailableError,
)
from arkor_sync._follower_loop import LOOK, STORE_GRACE, FollowerLoop
from arkor_sync.errors import HANDED_OVER
from arkor_sync.stores import LeasedStore
from support.clocks import FakeClock
from support.memory_backend import MemoryBackend


class FakeRun:
    """A run that ends when the test says so. It holds its lease until then."""

    def __init__(self, loop: Loop, job_id: str, store: LeasedStore) -> None:
        self.job = SimpleNamespace(id=job_id)
        self.error: Optional[BaseException] = None
        self.aborted: List[object] = []
        self.callback: Optional[str] = "on_log"
        self.failure: Any = None  # of a callback
        self.callbacks: List[Callable[[Any], None]] = []
        self._loop = loop
        self.lease = loop.backend.take(job_id, store.owner, 15.0)
        self._owner = store.owner

    def add_done_callback(self, function: Callable[[Any], None]) -> None:
        self.callbacks.append(function)

    def end(self, error: Optional[BaseException] = None) -> None:
        self.error = error
        self._loop.backend.release(self.job.id, self._owner, self.lease.epoch)
        for each in self.callbacks:
            each(self)

    def abort(self, reason: object) -> None:
        self.aborted.append(reason)
        if self._loop.runs_end:
            self.end(RunAborted("stopped", reason))

    def wait(self, timeout: float) -> Any:
        if self.error is not None:
            raise self.error
        return SimpleNamespace(status="completed")

    def health(self) -> Any:
        return SimpleNamespace(callback=self.callback)


class Loop(FollowerLoop):
    """A loop without threads."""

    def __init__(self, backend: MemoryBackend, most: int = 100, ttl: float = 15.0) -> None:
        self.backend = backend
        self.source: Any = list
        self.begun: List[str] = []
        self.runs_end = True
        self.failures: Dict[str, BaseException] = {}
        self.clock = FakeClock()
        self.store = LeasedStore(backend, ttl)
        super().__init__(
            source=lambda: self.source(),
            begin=lambda job_id, _: None,
            transport=lambda: None,
            store=self.store,
            most=most,
            poll=5.0,
            grace=5.0,
            clock=self.clock,
        )
        self._starters: Any = SimpleNamespace(plan=self._plan, stop=lambda _: None)

    def _plan(self, choose: Callable[[Any], List[str]]) -> None:
        for job_id in choose(set()):
            self.begun.append(job_id)
            try:
                if job_id in self.failures:
                    raise self.failures[job_id]
                begun: Any = FakeRun(self, job_id, self.store)
            except BaseException as error:
                begun = error
            self._report(job_id, begun)

    def name(self, *ids: str) -> None:
        self.source = lambda: list(ids)

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and the loop do what it does."""
        end = self.clock.time + seconds
        while self.clock.time < end:
            before = self.clock.time
            self.step()
            self.clock.time += 0.1
            self.backend.ahead += self.clock.time - before

    def step(self) -> None:
        self._step_safely()

    def look(self) -> None:
        """Look at the store now."""
        self._next_look = self.clock.now()
        self.step()
        self._read_news()


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def loop(backend: MemoryBackend) -> Loop:
    return Loop(backend)


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "arkor_sync.follower")


def lines(caplog: pytest.LogCaptureFixture, text: str) -> List[str]:
    found = [each.getMessage() for each in caplog.records]
    return [each for each in found if re.search(text, each)]


def warnings(caplog: pytest.LogCaptureFixture) -> List[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


# The source.


def test_the_source_is_asked_once_a_poll(loop: Loop) -> None:
    calls: List[int] = []
    loop.source = lambda: calls.append(1) or ["a"]
    loop.pass_by(14.9)
    assert len(calls) == 3
    assert loop.begun == ["a"]


def test_the_last_answer_of_a_source_that_fails_stands(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a", "b")
    loop.pass_by(1)
    loop.runs["a"].end(None)

    def fail() -> Any:
        raise OSError("the database sleeps: postgresql://me:hunter2@host/db")

    loop.source = fail
    loop.pass_by(21)
    assert loop.begun.count("a") == 2
    assert len(lines(caplog, "OSError: the database sleeps")) == 1  # once, not at each poll
    assert "hunter2" not in caplog.text
    loop.name("a", "b", "c")
    loop.pass_by(6)
    assert set(loop.runs) == {"a", "b", "c"}
    assert len(lines(caplog, "no longer: the source of job ids failed")) == 1


# Beginning.


def test_a_job_that_cannot_be_begun_is_tried_again_more_and_more_seldom(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a", "b")
    loop.failures["a"] = NotFoundError(404, "no such job")
    loop.pass_by(60)
    assert 4 <= loop.begun.count("a") <= 7
    assert loop.begun.count("b") == 1
    assert len(lines(caplog, "job a cannot be followed yet.*404: no such job")) == 1
    loop.failures["a"] = ArkorConnectionError("connection refused")
    loop.pass_by(120)
    assert len(lines(caplog, "job a cannot be followed yet")) == 2  # it is another trouble
    del loop.failures["a"]
    loop.pass_by(300)
    assert set(loop.runs) == {"a", "b"}
    assert lines(caplog, "job a is followed after all")


@pytest.mark.parametrize("ends", [False, True], ids=["at the begin", "of runs"])
@pytest.mark.parametrize(
    "error",
    [
        ArkorConnectionError("connection refused: https://me:hunter2@cloud"),
        AuthenticationError(401, "wrong token"),
        LeaseLostError("the lease could not be renewed in time"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_trouble_that_all_jobs_share_is_a_few_lines(
    loop: Loop, caplog: pytest.LogCaptureFixture, error: Exception, ends: bool
) -> None:
    jobs = [f"job-{number}" for number in range(90)]
    loop.name(*jobs)
    if ends:
        loop.pass_by(1)
        running = dict(loop.runs)
        assert len(running) == 90
    loop.failures = dict.fromkeys(jobs, error)
    for each in running.values() if ends else ():
        each.end(error)
    caplog.clear()
    loop.pass_by(60)
    first, others = warnings(caplog)
    assert "job-" in first or isinstance(error, LeaseLostError)
    assert others.startswith("89 more jobs cannot be followed yet (job-")
    assert " and 79 more), and are tried again: " + type(error).__name__ in others
    assert "hunter2" not in others
    caplog.clear()
    loop.failures.clear()
    loop.pass_by(400)
    assert len(loop.runs) == 90
    (over,) = lines(caplog, "after all")
    assert over.startswith(f"90 jobs are followed after all; it was: {type(error).__name__}")
    assert not warnings(caplog)


def test_jobs_that_come_into_a_known_trouble_later_are_named(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a", "b", "c", "d")
    loop.failures = {each: NotFoundError(404, "no such job") for each in "ad"}
    loop.pass_by(30)
    assert len(warnings(caplog)) == 2
    loop.runs["b"].end()
    loop.failures["b"] = NotFoundError(404, "no such job")
    loop.pass_by(30)
    assert len(lines(caplog, r"1 more jobs cannot be followed yet \(b\)")) == 1
    assert len(warnings(caplog)) == 3
    loop.name("c")  # the others are gone: nothing is said of them any more
    loop.pass_by(30)
    assert not lines(caplog, "after all")
    loop.failures["e"] = NotFoundError(404, "no such job")
    loop.name("c", "e")
    loop.pass_by(10)
    assert lines(caplog, "job e cannot be followed yet")


def test_an_error_of_a_callback_is_the_jobs_own(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a", "b")
    loop.pass_by(1)
    for run in list(loop.runs.values()):
        run.failure = "of a callback"
        run.end(ArkorConnectionError("in a callback"))
    loop.pass_by(1)
    assert len([each for each in caplog.records if each.exc_info]) == 2


def test_another_process_that_was_faster_is_no_trouble(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a")
    loop.failures["a"] = LeaseHeldError("job a is followed by another")
    loop.pass_by(3)
    assert loop.begun.count("a") >= 3  # it has no delay
    assert not warnings(caplog)


def test_a_take_over_that_waits_for_the_last_holder_is_tried_again_at_once(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a")
    loop.failures["a"] = StoreUnavailableError("the row is locked")
    loop.pass_by(10)
    assert loop.begun.count("a") >= 8
    assert len(warnings(caplog)) == 1


# Ends.


def test_an_error_of_a_callback_is_logged_and_the_job_is_followed_again_later(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a")
    loop.pass_by(1)
    begun = []
    for _ in range(4):
        run, since = loop.runs["a"], loop.clock.time
        run.end(ValueError("no such column"))
        while loop.runs.get("a") in (None, run):
            loop.pass_by(0.1)
        begun.append(loop.clock.time - since)
    assert begun == sorted(begun)
    assert begun[3] > 7 > begun[1] > 1.5
    (first, *rest) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "the run of job a ended with an error; it is followed again in 1 s" in first.getMessage()
    assert first.exc_info
    assert isinstance(first.exc_info[1], ValueError)
    assert len(rest) == 3


def test_a_lost_lease_is_a_warning(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.name("a")
    loop.pass_by(1)
    loop.runs["a"].end(LeaseLostError("job a is no longer followed by this process (epoch 1)"))
    loop.pass_by(1)
    assert warnings(caplog) == ["job a is no longer followed by this process (epoch 1)"]
    assert "a" in loop.runs  # nobody else had it


def test_a_job_that_was_finished_is_not_begun_again(loop: Loop, backend: MemoryBackend) -> None:
    loop.name("a")
    loop.pass_by(1)
    epoch, *_ = backend.positions["a"]
    backend.positions["a"] = (epoch, "{}", True, backend.now())
    loop.runs["a"].end()
    backend.calls.clear()
    loop.pass_by(30)
    assert loop.begun == ["a"]
    assert backend.calls.count("holders") == 1  # nothing is left to look up


# The store.


def test_while_the_store_is_down_the_loop_goes_on_and_says_so_once(
    loop: Loop, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a", "b")
    loop.pass_by(1)
    run = loop.runs["a"]
    backend.down = True
    loop.pass_by(20)
    assert loop.runs["a"] is run
    assert not run.aborted
    assert len(warnings(caplog)) == 1
    assert "the store cannot be asked; runs go on until their leases end" in warnings(caplog)[0]
    loop.name("a", "b", "c")
    backend.down = False
    loop.pass_by(6)
    assert set(loop.runs) == {"a", "b", "c"}
    assert len(lines(caplog, "no longer: the store cannot be asked")) == 1


def test_it_looks_about_twice_a_second_and_not_in_step(loop: Loop, backend: MemoryBackend) -> None:
    loop.name("a")
    draws = iter([0.0, 1.0, 0.5] * 100)
    loop.clock.random = lambda: next(draws)  # type: ignore[method-assign]
    times = []
    for _ in range(6):
        loop._step()
        times.append(round(loop._next_look - loop.clock.time, 3))
        loop.clock.time = loop._next_look
    assert times == [0.45, 0.55, 0.5] * 2
    assert LOOK == 0.5


def test_a_slow_store_is_asked_less(loop: Loop, backend: MemoryBackend) -> None:
    loop.name("a")
    members, seconds = backend.join, 0.3

    def slow(*given: Any) -> Any:
        loop.clock.time += seconds
        return members(*given)

    backend.join = slow  # type: ignore[method-assign]
    began = loop.clock.time
    loop._step()
    assert loop._next_look - began == pytest.approx(3.0)
    seconds = 2.0  # as where it is down: it is asked again soon all the same
    loop.clock.time = began = loop._next_look
    loop._next_join = began
    loop._step()
    assert loop._next_look - began == pytest.approx(5.0)


def test_a_query_asks_for_a_bounded_number_of_jobs_and_not_for_its_own(
    loop: Loop, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: List[int] = []
    holders = backend.holders
    monkeypatch.setattr(backend, "holders", lambda ids: asked.append(len(ids)) or holders(ids))
    loop.name(*[f"job-{number}" for number in range(1100)])
    loop.step()
    assert asked == [500, 500, 100]
    loop.look()
    assert asked[3:] == [500, 500]  # all but the hundred that it follows


def test_who_has_died_is_no_member_any_more_when_its_leases_end(backend: MemoryBackend) -> None:
    for ttl in (3.0, 15.0, 60.0):
        loop = Loop(backend, ttl=ttl)
        loop.name()
        loop.pass_by(60)
        (member,) = [each for each in backend.members() if each.owner == loop.store.owner]
        assert 0.5 < member.expires_in <= max(2.0, ttl / 2)  # a lease has two thirds left


# More jobs than room.


def test_it_warns_of_jobs_for_which_no_process_has_room(
    backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    loop = Loop(backend, most=2)
    loop.name("a", "b", "c", "d", "e")
    loop.pass_by(4)
    assert not warnings(caplog)  # another process may be about to start
    loop.pass_by(10)
    text = "3 jobs are not followed (processes: 1, max_runs: 2); start more processes"
    assert warnings(caplog) == [text]
    assert len(loop.runs) == 2
    loop.name("a", "b")
    loop.pass_by(6)
    loop.name("a", "b", "c")
    loop.pass_by(12)
    assert len(warnings(caplog)) == 2


# Hand over.


def test_a_stop_leaves_first_and_lets_the_runs_end(
    loop: Loop, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a", "b")
    loop.pass_by(1)
    backend.calls.clear()
    loop._hand_over()
    assert backend.calls == ["leave", "release", "release"]
    assert not loop.runs
    assert not warnings(caplog)
    assert len(lines(caplog, "no longer followed by this process$")) == 2
    assert all(each.expires_in <= 0 for each in backend.holders(["a", "b"]))


def test_a_callback_that_does_not_end_is_named_after_the_grace(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a", "b")
    loop.pass_by(1)
    loop.runs_end = False
    runs, began = loop.runs, loop.clock.time
    loop._hand_over()
    assert loop.clock.time - began == pytest.approx(5.0, abs=0.1)
    assert [each.aborted for each in runs.values()] == [[HANDED_OVER]] * 2
    text = "job a is not handed over: on_log is still running"
    assert text in warnings(caplog)


def test_a_store_gets_more_time_than_a_callback(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a", "b")
    loop.pass_by(1)
    loop.runs_end = False
    loop.runs["a"].callback = None  # it is being released, behind many others
    began = loop.clock.time
    loop._hand_over()
    assert loop.clock.time - began == pytest.approx(5.0 + STORE_GRACE, abs=0.1)
    assert "job a is not handed over: a thread of its run is still running" in warnings(caplog)


def test_a_store_that_is_down_does_not_stop_the_hand_over(
    loop: Loop, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    loop.name("a")
    loop.pass_by(1)
    run = loop.runs["a"]
    loop.runs_end, backend.down = False, True
    loop._hand_over()
    assert run.aborted == [HANDED_OVER]
    assert lines(caplog, "other processes count this one for a while: StoreUnavailableError")


def test_what_is_begun_while_it_stops_is_given_back(loop: Loop, backend: MemoryBackend) -> None:
    loop.name("a")
    loop.step()
    loop._read_news()
    loop.stop()
    late = FakeRun(loop, "late", loop.store)
    loop._report("late", late)
    assert late.aborted == [HANDED_OVER]


# Several.


def test_three_loops_share_evenly_and_only_what_moves_pauses(backend: MemoryBackend) -> None:
    ids = [f"job-{number}" for number in range(100)]
    loops = [Loop(backend) for _ in range(3)]
    first = loops[0]
    for each in loops:
        each.name(*ids)

    def pass_by(active: List[Loop], seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            for each in active:
                each.step()
                each.clock.time += 0.1
            backend.ahead += 0.1

    pass_by(loops[:1], 3)
    assert len(first.runs) == 100
    pass_by(loops, 12)
    assert sorted(len(each.runs) for each in loops) == [33, 33, 34]
    assert len(first.begun) == 100  # what it has kept was never interrupted
    loops[1]._hand_over()
    kept = set(loops[2].runs)
    pass_by([first, loops[2]], 2)
    assert [len(first.runs), len(loops[2].runs)] == [50, 50]
    assert kept <= set(loops[2].runs)


def test_the_jobs_of_a_loop_that_died_are_taken_within_two_seconds_of_the_end_of_their_leases(
    backend: MemoryBackend,
) -> None:
    ids = [f"job-{number}" for number in range(40)]
    dead, alive = Loop(backend), Loop(backend)
    for each in (dead, alive):
        each.name(*ids)
    for _ in range(100):
        for each in (dead, alive):
            each.step()
            each.clock.time += 0.1
        backend.ahead += 0.1
        for job_id, run in [*dead.runs.items(), *alive.runs.items()]:
            backend.renew([(job_id, run.lease.epoch)], run._owner, 15.0)
    left = set(dead.runs)
    assert len(left) == 20
    ends = min(each.expires_in for each in backend.holders(left))

    def renew() -> None:
        leases = [(job_id, run.lease.epoch) for job_id, run in alive.runs.items()]
        backend.renew(leases, alive.store.owner, 15.0)

    passed = 0.0
    while passed < ends - 0.2:
        alive.pass_by(0.1)
        renew()
        passed += 0.1
    assert len(alive.runs) == 20
    late = 0.0
    while len(alive.runs) < 40 and late < 10:
        alive.pass_by(0.1)
        renew()
        late += 0.1
    assert late < 2.0


def test_an_exception_of_the_programs_logging_does_not_end_the_loop(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.name("a")
    broken = threading.Event()

    def fail(_: logging.LogRecord) -> bool:
        broken.set()
        raise RuntimeError("the log is full")

    logger = logging.getLogger("arkor_sync.follower")
    logger.addFilter(fail)
    try:
        loop.pass_by(2)
    finally:
        logger.removeFilter(fail)
    assert broken.is_set()
    loop.pass_by(2)
    assert set(loop.runs) == {"a"}
    assert "the log is full" in capsys.readouterr().err
