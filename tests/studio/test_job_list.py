from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, List

import pytest

from arkor_sync.cloud.models import TrainingJob
from arkor_sync.errors import ArkorConnectionError
from arkor_sync.studio import job_list
from arkor_sync.studio.job_list import JobList
from support.scripted_cloud import JOB
from support.waiting import PATIENCE, Background

ONE = TrainingJob.from_dict({**JOB, "id": "one"})
TWO = TrainingJob.from_dict({**JOB, "id": "two"})


class Cloud:
    """A client whose list is a list, or an error."""

    def __init__(self, *jobs: TrainingJob) -> None:
        self.jobs = self
        self.answer: Any = list(jobs)
        self.asked = 0
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def list(self) -> List[TrainingJob]:
        self.asked += 1
        answer = self.answer
        self.entered.set()
        assert self.go_on.wait(PATIENCE)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


def make(*jobs: TrainingJob) -> Any:
    cloud = Cloud(*jobs)
    listed: Any = JobList(cloud)  # type: ignore[arg-type]
    return cloud, listed


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_list, "_REST", 0.0)
    monkeypatch.setattr(job_list, "_PATIENCE", PATIENCE)


@pytest.fixture
def long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_list, "_REST", 10_000.0)


@pytest.mark.usefixtures("long_rest")
def test_the_cloud_is_asked_once_in_a_while() -> None:
    cloud, jobs = make(ONE)
    assert jobs.read() is jobs.read()
    assert cloud.asked == 1


@pytest.mark.usefixtures("long_rest")
def test_after_a_change_it_is_asked_again() -> None:
    cloud, jobs = make(ONE)
    jobs.read()
    jobs.forget()
    jobs.read()
    jobs.read()
    assert cloud.asked == 2


@pytest.mark.usefixtures("long_rest")
def test_a_list_that_was_asked_for_before_a_change_does_not_count() -> None:
    cloud, jobs = make(ONE)
    cloud.go_on.clear()
    asking = Background(jobs.read)
    assert cloud.entered.wait(PATIENCE)
    jobs.forget()
    cloud.go_on.set()
    asking.result()
    cloud.answer = [TWO]
    assert jobs.read().jobs == [TWO]


@pytest.mark.usefixtures("no_rest")
def test_a_cloud_that_takes_long_makes_nobody_wait_for_what_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud, jobs = make(ONE)
    first = jobs.read()
    cloud.go_on.clear()
    cloud.entered.clear()
    cloud.answer = [ONE, TWO]
    monkeypatch.setattr(job_list, "_PATIENCE", 0.0)
    assert jobs.read() is first
    assert cloud.entered.wait(PATIENCE)
    assert jobs.read() is first
    assert cloud.asked == 2
    monkeypatch.setattr(job_list, "_PATIENCE", PATIENCE)
    waiting = Background(jobs.read)
    cloud.go_on.set()
    assert waiting.result().jobs == [ONE, TWO]


@pytest.mark.usefixtures("long_rest")
def test_who_has_changed_a_job_waits_for_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, jobs = make(ONE)
    jobs.read()
    monkeypatch.setattr(job_list, "_PATIENCE", 0.0)
    cloud.go_on.clear()
    cloud.entered.clear()
    cloud.answer = [TWO]
    jobs.forget()
    waiting = Background(jobs.read)
    assert cloud.entered.wait(PATIENCE)
    cloud.go_on.set()
    assert waiting.result().jobs == [TWO]


@pytest.mark.usefixtures("long_rest")
def test_all_who_come_first_wait_for_one_request() -> None:
    cloud, jobs = make(ONE)
    cloud.go_on.clear()
    one, other = Background(jobs.read), Background(jobs.read)
    assert cloud.entered.wait(PATIENCE)
    cloud.go_on.set()
    assert one.result() is other.result()
    assert cloud.asked == 1


@pytest.mark.usefixtures("no_rest")
def test_what_has_changed_since_a_version() -> None:
    cloud, jobs = make(ONE, TWO)
    first = jobs.read()
    assert first.changed_since(0) == [ONE, TWO]
    assert first.changed_since(first.version) == []
    assert jobs.read().version == first.version

    done = replace(TWO, status="completed")
    cloud.answer = [ONE, done]
    second = jobs.read()
    assert second.version > first.version
    assert second.changed_since(first.version) == [done]
    assert second.changed_since(second.version) == []

    cloud.answer = [done]
    third = jobs.read()
    assert third.version > second.version  # one has gone
    assert third.changed_since(second.version) == []
    assert third.changed_since(first.version) == [done]


@pytest.mark.usefixtures("no_rest")
def test_a_server_that_was_started_again_has_all_that_changed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = itertools.count(time.time_ns(), 1_000_000_000)
    monkeypatch.setattr(job_list, "time", SimpleNamespace(time_ns=lambda: next(later)))
    _, before = make(ONE)
    version = before.read().version
    _, after = make(replace(ONE, status="completed"))
    assert [job.status for job in after.read().changed_since(version)] == ["completed"]


@pytest.mark.usefixtures("no_rest")
def test_a_list_that_fails_keeps_the_last_one_and_says_why() -> None:
    cloud, jobs = make(ONE)
    good = jobs.read()
    cloud.answer = ArkorConnectionError("the network is down")
    bad = jobs.read()
    assert (bad.jobs, bad.version, bad.read_at) == (good.jobs, good.version, good.read_at)
    assert bad.problem == "the network is down"
    cloud.answer = [ONE]
    assert jobs.read().problem is None


@pytest.mark.usefixtures("no_rest")
def test_the_first_list_fails() -> None:
    cloud, jobs = make()
    cloud.answer = ArkorConnectionError("the network is down")
    first = jobs.read()
    assert (first.jobs, first.read_at, first.problem) == ((), None, "the network is down")
    cloud.answer = [ONE]
    assert jobs.read().jobs == [ONE]


@pytest.mark.usefixtures("no_rest")
def test_an_error_of_the_program_is_raised_and_does_not_end_the_asking() -> None:
    cloud, jobs = make()
    cloud.answer = ValueError("a fault")
    with pytest.raises(ValueError, match="a fault"):
        jobs.read()
    cloud.answer = [ONE]
    assert jobs.read().jobs == [ONE]


def test_a_thread_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: object) -> None:
        raise RuntimeError("no more threads")

    _, jobs = make(ONE)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="no more"):
            jobs.read()
    assert jobs.read().jobs == [ONE]
