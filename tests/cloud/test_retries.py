"""Which requests are sent again, after which failures, when, and for how long."""

from __future__ import annotations

import ctypes
import logging
import ssl
import threading
from typing import Any, Callable, List, Union

import pytest

from arkor_sync._common.clock import Clock
from arkor_sync.cloud import retries
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.deployment_models import BaseModelTarget
from arkor_sync.cloud.project import ProjectState
from arkor_sync.cloud.retries import ATTEMPTS, PERIOD, repeat
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorUsageError,
    BadRequestError,
    CloudApiError,
    NotFoundError,
    ServerError,
)
from support.clocks import FakeClock
from support.scripted_cloud import JOB, Reply, ScriptedCloud
from support.waiting import Background, until

SCOPE = ProjectState("o", "p", "1")
JOBS = {"jobs": [JOB]}
DOWN = {"error": "down"}
HELLO = [{"role": "user", "content": "Hello"}]
PASSING = [
    *(Reply(status, DOWN) for status in (408, 429, 502, 503, 504)),
    Reply(silent=True),
    Reply(200, '{"jobs"', length=1000),
]


def client_of(cloud: ScriptedCloud, **more: Any) -> CloudApiClient:
    return CloudApiClient(cloud.url, TokenCredentials("t"), scope=SCOPE, **more)


# What is sent again.


@pytest.mark.parametrize("reply", PASSING, ids=lambda reply: f"{reply.status} {reply.silent}")
def test_a_request_that_reads_is_sent_again(cloud: ScriptedCloud, reply: Reply) -> None:
    cloud.replies = [reply, reply, Reply(content=JOBS)]
    assert [job.id for job in client_of(cloud).jobs.list()] == ["job-1"]
    assert len(cloud.received) == 3
    assert len({each.target for each in cloud.received}) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 426, 500, 501])
def test_what_does_not_pass_is_raised_at_once(cloud: ScriptedCloud, status: int) -> None:
    cloud.reply(DOWN, status)
    with pytest.raises(CloudApiError):
        client_of(cloud).jobs.list()
    assert len(cloud.received) == 1


def test_an_answer_that_is_no_json_is_not_asked_for_again(cloud: ScriptedCloud) -> None:
    cloud.reply("hello")
    with pytest.raises(Exception, match="expected JSON"):
        client_of(cloud).jobs.list()
    assert len(cloud.received) == 1


def test_the_last_failure_is_raised_after_three_attempts(cloud: ScriptedCloud) -> None:
    cloud.replies = [Reply(503, DOWN), Reply(silent=True), Reply(502, {"error": "the last"})]
    with pytest.raises(ServerError, match="502: the last"):
        client_of(cloud).me()
    assert len(cloud.received) == ATTEMPTS == 3


SAFE: List[Callable[[CloudApiClient], Any]] = [
    lambda client: client.me(),
    lambda client: client.projects.list("o"),
    lambda client: client.jobs.get("j"),
    lambda client: client.deployments.get("d"),
    lambda client: client.deployments.update("d", enabled=False),
    lambda client: client.deployments.delete("d"),
    lambda client: client.deployments.keys.list("d"),
    lambda client: client.deployments.keys.revoke("d", "k"),
]
UNSAFE: List[Callable[[CloudApiClient], Any]] = [
    lambda client: client.jobs.create("n", {"model": "m"}),
    lambda client: client.jobs.cancel("j"),
    lambda client: client.chat(HELLO, base_model="m"),
    lambda client: client.projects.create("o", name="n", slug="s"),
    lambda client: client.deployments.create("a-b", target=BaseModelTarget("m"), auth_mode="none"),
    lambda client: client.deployments.keys.create("d", "ci"),
]


@pytest.mark.parametrize(
    ("retry", "safe", "unsafe"), [("safe", 3, 1), ("all", 3, 3), ("none", 1, 1)]
)
def test_who_asks_for_it_has_all_repeated_or_nothing(
    cloud: ScriptedCloud, retry: Any, safe: int, unsafe: int
) -> None:
    cloud.reply(DOWN, status=503)
    client = client_of(cloud, retry=retry)
    for calls, expected in ((SAFE, safe), (UNSAFE, unsafe)):
        for call in calls:
            cloud.received.clear()
            with pytest.raises(ServerError):
                call(client)
            assert len(cloud.received) == expected, cloud.received[0].method


def test_another_word_is_refused() -> None:
    with pytest.raises(ArkorUsageError, match=r"retry: got str 'often'; give 'safe', 'all' or"):
        CloudApiClient(retry="often")  # type: ignore[arg-type]


def test_what_a_run_asks_over_its_own_transport_is_sent_once(cloud: ScriptedCloud) -> None:
    cloud.reply(DOWN, status=503)
    client = client_of(cloud)
    with client.transport() as transport:
        for call in (client.jobs.get, client.jobs.events):
            with pytest.raises(ServerError):
                call("j", transport=transport)
    assert len(cloud.received) == 2


# A thing that an earlier attempt has removed.


@pytest.mark.parametrize(
    ("first", "gone"),
    [
        (Reply(504, DOWN), True),
        (Reply(503, DOWN), True),
        (Reply(silent=True), True),
        (Reply(429, DOWN), False),  # the cloud did not act on it
    ],
)
def test_404_after_an_attempt_that_may_have_worked_is_a_success(
    cloud: ScriptedCloud, first: Reply, gone: bool
) -> None:
    for remove in (
        lambda client: client.deployments.delete("d"),
        lambda client: client.deployments.keys.revoke("d", "k"),
    ):
        cloud.received.clear()
        cloud.replies = [first, Reply(404, {"error": "no such thing"})]
        if gone:
            assert remove(client_of(cloud)) is None
        else:
            with pytest.raises(NotFoundError):
                remove(client_of(cloud))
        assert [each.method for each in cloud.received] == ["DELETE", "DELETE"]


def test_404_at_the_first_attempt_is_an_error(cloud: ScriptedCloud) -> None:
    cloud.reply({"error": "no such thing"}, 404)
    with pytest.raises(NotFoundError):
        client_of(cloud).deployments.delete("d")
    assert len(cloud.received) == 1


def test_404_is_an_error_of_what_removes_nothing(cloud: ScriptedCloud) -> None:
    cloud.replies = [Reply(504, DOWN), Reply(404, {"error": "no such thing"})]
    with pytest.raises(NotFoundError):
        client_of(cloud).deployments.get("d")


# When, and for how long: on a clock of the test's own.


class Failing:
    """A request that fails as it is told, and then succeeds.

    Attributes:
        times: When each attempt was made, in seconds after the first.
    """

    def __init__(self, clock: FakeClock, *failures: Exception, takes: float = 0.0) -> None:
        self.times: List[float] = []
        self._clock = clock
        self._failures = list(failures)
        self._takes = takes
        self._begin = clock.now()

    def __call__(self, _: Transport) -> str:
        self.times.append(round(self._clock.now() - self._begin, 3))
        self._clock.time += self._takes
        if self._failures:
            raise self._failures.pop(0)
        return "the answer"


def down(retry_after: Union[float, None] = None) -> CloudApiError:
    return CloudApiError.for_status(503, "down", retry_after=retry_after)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.mark.parametrize(("random", "times"), [(0.0, [0, 0.25, 0.75]), (0.999, [0, 0.5, 1.5])])
def test_the_delays_double_and_are_jittered_but_never_nothing(
    random: float, times: List[float]
) -> None:
    fake = FakeClock(random)
    send = Failing(fake, down(), down())
    assert repeat_with(send, fake) == "the answer"
    assert send.times == pytest.approx(times, abs=0.01)


def repeat_with(send: Failing, clock: FakeClock) -> str:
    with pytest.MonkeyPatch.context() as patch, Transport() as transport:
        patch.setattr(retries, "_FIRST", 0.5)  # as it is
        return repeat(send, transport, clock)


def test_what_the_cloud_asks_to_wait_is_waited(clock: FakeClock) -> None:
    send = Failing(clock, down(retry_after=7), down(retry_after=0))
    repeat_with(send, clock)
    assert send.times == [0, 7.0, 7.75], "no sooner than its own delay"


@pytest.mark.parametrize("asked", [30.5, 3600, 1e9])
def test_a_longer_wait_than_the_period_is_not_begun(clock: FakeClock, asked: float) -> None:
    send = Failing(clock, down(retry_after=asked))
    with pytest.raises(ServerError) as caught:
        repeat_with(send, clock)
    assert caught.value.retry_after == asked
    assert (send.times, clock.waits) == ([0], [])


def test_no_attempt_begins_after_the_period(clock: FakeClock) -> None:
    send = Failing(clock, down(), down(retry_after=20), takes=15)
    with pytest.raises(ServerError):
        repeat_with(send, clock)
    assert send.times == [0, 15.375]
    late = Failing(clock, ArkorConnectionError("timed out"), takes=PERIOD)
    with pytest.raises(ArkorConnectionError):
        repeat_with(late, clock)
    assert late.times == [0], "an attempt that used the whole period is the last one"


def test_a_certificate_that_is_not_trusted_does_not_pass(clock: FakeClock) -> None:
    error = ArkorConnectionError("x")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    with pytest.raises(ArkorConnectionError):
        repeat_with(Failing(clock, error), clock)
    assert clock.waits == []


# Whoever interrupts the transport ends the wait.


def test_an_interrupted_wait_ends_at_once_with_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST", 20.0)
    waiting, sent = threading.Event(), []

    def send(_: Transport) -> None:
        sent.append(1)
        waiting.set()
        raise down()

    with Transport() as transport:
        call = Background(repeat, send, transport, Clock())
        until(waiting.is_set)
        transport.interrupt()
        with pytest.raises(ServerError):
            call.result()
    assert sent == [1]


def test_a_time_limit_of_a_job_system_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST", 20.0)
    waiting = threading.Event()

    def send(_: Transport) -> None:
        waiting.set()
        raise down()

    with Transport() as transport:
        call = Background(repeat, send, transport, Clock())
        until(waiting.is_set)
        ident = ctypes.c_ulong(call.thread.ident or 0)
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit)) == 1
        call.thread.join(10)
        assert not call.running()


def test_a_chat_of_a_run_that_is_stopped_is_not_repeated() -> None:
    sent = []

    def send(transport: Transport) -> None:
        sent.append(1)
        transport.interrupt()
        raise ArkorConnectionError("aborted")

    with Transport() as transport, pytest.raises(ArkorConnectionError, match="aborted"):
        repeat(send, transport, FakeClock())
    assert sent == [1]


# What it says, and what it leaves behind.


def test_each_repeat_is_logged_without_a_secret(
    cloud: ScriptedCloud, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.replies = [Reply(503, {"error": "token-0123456789 is down"}), Reply(content=JOBS)]
    client = CloudApiClient(cloud.url, TokenCredentials("token-0123456789-0"), scope=SCOPE)
    client.jobs.list()
    (record,) = [each for each in caplog.records if each.name == "arkor_sync.http"]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("503: ")
    assert record.getMessage().endswith("; trying again in 0.0 s")
    assert "token-0123456789-0" not in caplog.text


def test_no_connection_of_an_attempt_is_left_open(cloud: ScriptedCloud) -> None:
    cloud.replies = [Reply(503, DOWN), Reply(502, DOWN), Reply(content=JOBS)]
    client_of(cloud).jobs.list()
    assert cloud.wait_until_idle()


def test_what_an_earlier_attempt_may_have_done_is_not_forgotten(clock: FakeClock) -> None:
    unsent = [ArkorConnectionError("refused") for _ in range(2)]
    for error in unsent:
        error.sent = False
    with pytest.raises(ArkorConnectionError, match="refused") as caught:
        repeat_with(Failing(clock, ArkorConnectionError("broke"), *unsent), clock)
    assert caught.value.sent


def test_a_create_that_was_repeated_may_have_created_more(cloud: ScriptedCloud) -> None:
    cloud.replies = [Reply(silent=True), Reply(201, {"job": JOB})]
    assert client_of(cloud, retry="all").jobs.create("n", {"model": "m"}).id == "job-1"
    assert len(cloud.received) == 2


def test_bad_requests_stay_bad_requests(cloud: ScriptedCloud) -> None:
    cloud.reply(DOWN, 400)
    with pytest.raises(BadRequestError):
        client_of(cloud, retry="all").jobs.create("n", {"model": "m"})
    assert len(cloud.received) == 1
