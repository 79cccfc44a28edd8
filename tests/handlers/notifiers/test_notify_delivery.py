"""How hard a notification is tried, and that nothing about it shows the URL."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import gzip
import hashlib
import hmac
import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
import requests

from arkor_sync import handlers
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers import (
    DiscordNotifier,
    Notification,
    SlackNotifier,
    TeamsNotifier,
    WebhookNotifier,
)
from arkor_sync.handlers.notifiers.base import Notifier
from arkor_sync.handlers.notifiers.delivery import describe_notifications
from arkor_sync.handlers.notifiers.notification import build_message
from support.clocks import FakeClock, StoppedClock
from support.loopback import Connection, Server
from support.notifier_contexts import FakeRun
from support.waiting import PATIENCE, until
from support.webhook_services import DROP, HANG, SERVICES, Answer, Discord, Service, Slack, Teams

NOTE = Notification("failed", "job-1", "bot", "bot failed", urgent=True)
PING = Notification("progress", "job-1", "bot", "bot: step 1", step=1)


def deliver(notifier: Notifier, note: Notification = NOTE) -> None:
    notifier.send(note)
    assert notifier._outbox.flush(PATIENCE)


def waits(kind: Any, *answers: Answer, note: Notification = NOTE, **more: Any) -> List[float]:
    """Send one notification to a service that answers like this; return what was waited."""
    clock = FakeClock(1.0)
    with SERVICES[kind.__name__](*answers) as service:
        deliver(kind(service.url, clock=clock, **more), note)
        assert len(service.posts) == len(answers) + 1
        assert service.bodies
    return clock.waits


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again_after_growing_delays(status: int) -> None:
    assert waits(SlackNotifier, *[(status, {}, "")] * 4) == [1.0, 2.0, 4.0, 8.0]


def test_a_connection_that_breaks_is_tried_again() -> None:
    assert waits(SlackNotifier, DROP, DROP) == [1.0, 2.0]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((CHUNKED + b"-1\r\n", b"x" * 65536), id="a chunk of -1"),
        pytest.param((GZIP, gzip.compress(bytes(64 << 20))), id="a bomb"),
        pytest.param((CHUNKED, b"64\r\n" + b"x" * 100 + b"\r\n"), id="endless chunks"),
    ],
)
def test_the_answer_of_a_service_takes_little_memory(answer: Tuple[bytes, bytes]) -> None:
    def flood(connection: Connection, _: str) -> None:
        connection.send(answer[0])
        with contextlib.suppress(OSError):
            for _each in range(1000):
                connection.send(answer[1])

    with Server(flood) as server:
        notifier = WebhookNotifier(server.url, timeout=(PATIENCE, PATIENCE))
        tracemalloc.start()
        try:
            deliver(notifier)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
    assert len(server.requests) == 1


def test_attempts_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(1.0)
    with Service(always=(500, {}, "rollup_error")) as service:
        deliver(WebhookNotifier(service.url, clock=clock, attempts=3))
        assert len(service.posts) == 3
    assert clock.waits == [1.0, 2.0]
    assert "failed of job job-1 was not delivered" in caplog.text
    assert "answered 500: rollup_error" in caplog.text


@pytest.mark.parametrize(
    ("kind", "answer", "says"),
    [
        (SlackNotifier, (400, {}, "invalid_payload"), "400: invalid_payload"),
        (SlackNotifier, (403, {}, "action_prohibited"), "403: action_prohibited"),
        (SlackNotifier, (404, {}, "no_service"), "404: no_service"),
        (SlackNotifier, (410, {}, "channel_is_archived"), "410: channel_is_archived"),
        (DiscordNotifier, (400, {}, '{"message": "Invalid", "code": 50006}'), "50006"),
        (DiscordNotifier, (404, {}, '{"message": "Unknown Webhook", "code": 10015}'), "10015"),
        (TeamsNotifier, (401, {}, '{"error": {"code": "DirectApiAuthorizationRequired"}}'), "401"),
        (
            TeamsNotifier,
            (200, {}, "Webhook message delivery failed with error: HTTP error 413 with ContextId"),
            "answered 413",
        ),
    ],
)
def test_what_will_not_pass_is_not_tried_again_and_the_log_says_why(
    kind: Any, answer: Answer, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with SERVICES[kind.__name__](always=answer) as service:
        deliver(kind(service.url, clock=FakeClock(1.0)))
        assert len(service.posts) == 1
    assert says in caplog.text


def test_slack_is_left_alone_as_long_as_it_asks() -> None:
    assert waits(SlackNotifier, (429, {"Retry-After": "30"}, "rate_limited")) == [30.0]
    assert waits(SlackNotifier, (503, {"Retry-After": "7"}, "")) == [7.0]


def test_a_wish_that_is_shorter_than_the_delay_does_not_shorten_it() -> None:
    too_soon: Answer = (429, {"Retry-After": "1"}, "")
    assert waits(SlackNotifier, too_soon, too_soon, too_soon) == [1.0, 2.0, 4.0]


def test_no_wait_is_longer_than_a_minute() -> None:
    assert waits(SlackNotifier, (429, {"Retry-After": "86400"}, "")) == [60.0]


def test_a_date_to_try_again_is_understood() -> None:
    (waited,) = waits(
        SlackNotifier, (503, {"Retry-After": email.utils.formatdate(time.time() + 30)}, "")
    )
    assert 20 < waited <= 30


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, '{"message": "rate limited", "retry_after": 2.5, "global": false}', 2.5),
        ({"X-RateLimit-Reset-After": "3.25"}, '{"retry_after": 1.5}', 3.25),
        ({"Retry-After": "5"}, "<html>error 1015</html>", 5.0),
        ({}, '{"retry_after": "soon"}', 1.0),
        ({}, '{"retry_after": NaN}', 1.0),
        ({}, "[]", 1.0),
    ],
)
def test_discord_says_how_long_in_its_body_and_in_its_headers(
    headers: Dict[str, str], body: str, seconds: float
) -> None:
    assert waits(DiscordNotifier, (429, headers, body)) == [seconds]


def test_discord_is_left_alone_after_the_last_message_that_it_allows() -> None:
    clock = FakeClock(1.0)
    last = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.5"}
    with Discord((204, last, "")) as service:
        notifier = DiscordNotifier(service.url, clock=clock)
        deliver(notifier)
        deliver(notifier)
        assert len(service.bodies) == 2
    assert clock.waits == [1.5]


def test_teams_may_hide_a_rate_limit_in_an_answer_of_200() -> None:
    text = (
        "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error "
        "429 with ContextId tcid=0,server=DB5PEPF00003FC8"
    )
    assert waits(TeamsNotifier, (200, {}, text)) == [1.0]


def test_teams_answers_of_old_and_of_today_are_both_fine() -> None:
    with Teams((200, {}, "1")) as service:
        notifier = TeamsNotifier(service.url, clock=FakeClock(1.0))
        deliver(notifier)
        deliver(notifier)
        assert [post.status for post in service.posts] == [200, 202]


def test_a_redirect_is_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    with Service() as elsewhere:
        moved: Answer = (307, {"Location": elsewhere.url}, "")
        with Service(always=moved) as service:
            deliver(WebhookNotifier(service.url, clock=FakeClock(1.0)))
            assert len(service.posts) == 1
        assert elsewhere.posts == []
    assert "redirects (307), which is not followed" in caplog.text
    assert elsewhere.path not in caplog.text


@pytest.mark.parametrize(
    "template", [lambda note: object(), lambda note: {}["missing"], lambda note: [{1, 2}]]
)
def test_a_body_that_cannot_be_made_is_logged(
    template: Callable[[Notification], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with Service() as service:
        deliver(WebhookNotifier(service.url, template=template))
        assert service.posts == []
    assert "failed of job job-1 was not delivered: its body cannot be made: " in caplog.text


# While news of an end waits.


class Gate(FakeClock):
    """A clock on which nobody has to wait, and that says when somebody began to."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.waiting = threading.Event()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waiting.set()
        return event.wait(PATIENCE) or super().wait(event, seconds)


def test_progress_gives_way_when_a_run_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    clock = Gate()
    with Service((500, {}, ""), (500, {}, "")) as service:
        notifier = WebhookNotifier(service.url, clock=clock)
        notifier.send(PING)
        assert clock.waiting.wait(PATIENCE)
        clock.__class__ = FakeClock  # type: ignore[assignment]
        deliver(notifier)
        assert [post.body["event"] for post in service.posts] == ["progress", "failed", "failed"]
        assert [body["event"] for body in service.bodies] == ["failed"]
        service.answers.append((500, {}, ""))
        deliver(notifier, PING)
        assert len(service.bodies) == 2, "afterwards it is tried again as ever"
    assert "answered 500; a notification about the end of a run had to be sent first" in caplog.text


def test_when_too_many_wait_the_oldest_progress_goes_and_the_end_stays() -> None:
    with Service(HANG) as service:
        notifier = WebhookNotifier(service.url, timeout=(5.0, PATIENCE), clock=FakeClock(1.0))
        notifier.send(PING)
        service.wait_for(1)
        for step in range(2, 152):
            notifier.send(Notification("progress", "job-1", "bot", "ping", step=step))
            if step == 10:
                notifier.send(NOTE)
        service.open.set()
        assert notifier._outbox.flush(PATIENCE)
        steps = [body["step"] for body in service.bodies if body["event"] == "progress"]
        assert steps == list(range(53, 152))
        assert [body["event"] for body in service.bodies].count("failed") == 1


def test_the_end_of_a_run_waits_no_longer_than_the_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = FakeRun()
    with Service(HANG) as service:
        notifier = WebhookNotifier(service.url, flush_timeout=0.05, clock=FakeClock(1.0))
        notifier.on_failed(run.failed())
        notifier.on_end(run.end())
        assert service.bodies == []
        late = "WebhookNotifier: 1 notification (failed of job job-1) not delivered within 0.1 s"
        assert f"{late}: still being sent" in caplog.text
        service.open.set()
        service.wait_for(2)
        assert notifier._outbox.flush(PATIENCE)
        assert len(service.bodies) == 1, "what is late is still delivered"


def test_what_is_late_is_logged_with_the_last_failure(caplog: pytest.LogCaptureFixture) -> None:
    run = FakeRun()
    clock = StoppedClock()
    with Service(always=(503, {}, "no capacity")) as service:
        notifier = WebhookNotifier(service.url, flush_timeout=0.05, clock=clock)
        notifier.on_failed(run.failed())
        service.wait_for(1)
        until(lambda: notifier._outbox.last_failure)
        notifier.on_end(run.end(LookupError("x")))
        clock.over.set()
        assert notifier._outbox.flush(PATIENCE)
    assert (
        "WebhookNotifier: 2 notifications (failed of job job-1, error of job job-1) not delivered "
        f"within 0.1 s: {service.host} answered 503: no capacity"
    ) in caplog.text
    assert "s3cr3t" not in caplog.text


def test_many_late_notifications_take_one_line_that_begins_with_the_ends() -> None:
    pings = [Notification("progress", f"job-{number}", "bot", "") for number in range(90)]
    text = describe_notifications([*pings, NOTE, build_message("hi")])
    assert text == (
        "92 notifications (failed of job job-1, progress of job job-0, progress of job job-1, "
        "progress of job job-2, progress of job job-3, 87 more)"
    )
    assert describe_notifications([build_message("hi")]) == "1 notification (message)"


EXIT = """
import threading
from arkor_sync.handlers import WebhookNotifier
from arkor_sync.handlers.notifiers.notification import build_message

notifier = WebhookNotifier({url!r}, timeout=(60, 60))
notifier.notify("done")
"""


@pytest.mark.slow
def test_what_waits_when_the_interpreter_exits_is_logged_with_the_reason() -> None:
    with Service(HANG) as service:
        script = EXIT.format(url=service.url)
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE
        )
    assert done.stderr == (
        "WebhookNotifier: 1 notification (message) not delivered before the interpreter exits: "
        "still being sent\n"
    )


def test_a_server_that_never_answers_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    with Service(always=HANG) as service:
        timeout = (PATIENCE, 0.05)
        deliver(WebhookNotifier(service.url, timeout=timeout, clock=FakeClock(1.0), attempts=2))
        assert len(service.wait_for(2)) == 2
    assert "timed out" in caplog.text


# Secrets.


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "urllib3.connectionpool", "requests"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def said(caplog: pytest.LogCaptureFixture) -> str:
    """Return all that was logged: formatted, and what hangs on the records."""
    parts = [caplog.text]
    for record in caplog.records:
        parts.append(repr(record.__dict__))
        if record.exc_info:
            parts += traceback.format_exception(*record.exc_info)
    return "\n".join(parts)


SILENT: Optional[Answer] = None
TROUBLE: List[Any] = [
    SILENT,
    (500, {}, "ECHO"),
    (404, {}, "ECHO"),
    *[(400, {}, "x" * length + "ECHO") for length in range(120, 200, 8)],
    (302, {"Location": "ECHO"}, "ECHO"),
    (200, {"Content-Length": "99999"}, "ECHO"),
    (200, {"Content-Encoding": "gzip"}, "ECHO"),
    DROP,
    HANG,
    "closed",
    "nowhere",
]


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("trouble", TROUBLE, ids=str)
def test_the_url_is_in_no_log_whatever_goes_wrong(
    kind: str,
    trouble: Any,
    everything_logged: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = FakeRun()
    with SERVICES[kind]() as service:
        url = service.url.replace("http://", "http://user:s3cr3t-password@")
        if isinstance(trouble, tuple):
            headers = {name: value.replace("ECHO", url) for name, value in trouble[1].items()}
            service.always = (trouble[0], headers, trouble[2].replace("ECHO", f"at {url} "))
        elif trouble == "closed":
            service.stop()
        elif trouble == "nowhere":

            def nowhere(*args: Any, **more: Any) -> None:
                raise socket.gaierror(-2, "Name or service not known")

            monkeypatch.setattr(socket, "getaddrinfo", nowhere)
        notifier = getattr(handlers, kind)(
            url,
            clock=FakeClock(1.0),
            timeout=(PATIENCE, 0.05 if trouble == HANG else PATIENCE),
            attempts=2,
            flush_timeout=PATIENCE,
        )
        notifier.on_failed(run.failed())
        notifier.on_end(run.end())
        everything = said(everything_logged) + repr(notifier)
        assert "s3cr3t" not in everything
        assert "hooks" not in everything.replace("notify", "")
        assert service.host in repr(notifier)
        delivered = trouble is SILENT or (isinstance(trouble, tuple) and trouble[0] == 200)
        assert ("was not delivered" in everything) is not delivered


def test_an_unforeseen_error_is_logged_without_its_text(
    everything_logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any, url: str, **more: Any) -> None:
        raise LookupError(f"never seen before: {url}")

    with Slack() as service:
        notifier = SlackNotifier(service.url)
        monkeypatch.setattr("requests.Session.post", broken)
        deliver(notifier)
    assert "LookupError" in said(everything_logged)
    assert "s3cr3t" not in said(everything_logged)


def test_what_other_threads_log_is_not_touched(
    everything_logged: pytest.LogCaptureFixture,
) -> None:
    with Slack() as service:
        deliver(SlackNotifier(service.url))
        assert "POST" not in everything_logged.text
        requests.post(f"http://{service.host}/mine", json={}, timeout=PATIENCE)
    assert '"POST /mine HTTP/1.1" 404' in everything_logged.text


def test_a_header_and_a_secret_are_not_shown(
    everything_logged: pytest.LogCaptureFixture,
) -> None:
    with Service() as service:
        headers = {"Authorization": "s3cr3t"}
        notifier = WebhookNotifier(service.url, secret="s3cr3t-key", headers=headers)
        deliver(notifier)
        assert service.wait_for(1)
    assert "s3cr3t" not in said(everything_logged) + repr(notifier)


@pytest.mark.parametrize(
    "value", ["s3cr3t\nbroken", "s3cr3t\r\nX: y", "s3cr3t\0", "s3cr3t€", 5, None]
)
def test_a_header_that_cannot_be_sent_is_refused_and_not_shown(value: Any) -> None:
    with pytest.raises(ArkorUsageError, match="Authorization") as caught:
        WebhookNotifier("http://127.0.0.1:1", headers={"Authorization": value})
    assert "s3cr3t" not in str(caught.value)


def test_white_space_around_a_secret_and_a_header_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = base64.b64encode(b"a key").decode()
    monkeypatch.setenv("ARKOR_WEBHOOK_SECRET", f"whsec_{key}\n")
    with Service() as service:
        monkeypatch.setenv("ARKOR_WEBHOOK_URL", f"{service.url}\n")
        deliver(WebhookNotifier(headers={"Authorization": "Bearer from-a-file\n"}))
        deliver(WebhookNotifier(secret=f" whsec_{key}\r\n"))
        first, second = service.wait_for(2)
        assert first.headers["Authorization"] == "Bearer from-a-file"
        for post in (first, second):
            signed = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode()
            digest = hmac.new(b"a key", signed + post.raw, hashlib.sha256).digest()
            assert post.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def write_netrc(home: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (home / ".netrc").write_text(text)
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    assert requests.utils.get_netrc_auth("http://127.0.0.1") == ("me", "netrc-s3cr3t")


@pytest.mark.parametrize("machine", ["default", "machine 127.0.0.1"])
def test_netrc_signs_no_notification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    write_netrc(tmp_path, monkeypatch, f"{machine} login me password netrc-s3cr3t\n")
    with Service() as service:
        deliver(WebhookNotifier(service.url, headers={"Authorization": "Bearer mine"}))
        deliver(WebhookNotifier(service.url))
        signed, unsigned = service.wait_for(2)
        assert signed.headers["Authorization"] == "Bearer mine"
        assert "Authorization" not in unsigned.headers
    with Slack() as slack:
        deliver(SlackNotifier(slack.url))
        assert "Authorization" not in slack.wait_for(1)[0].headers


def test_an_informational_answer_is_not_taken_for_the_answer() -> None:
    def hints_first(connection: Connection, head: str) -> None:
        connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n")
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Server(hints_first) as server:
        answer = WebhookNotifier(f"{server.url}/x")._post(NOTE)
    assert (answer.status, answer.text) == (200, "ok")


def test_a_user_name_in_the_url_signs_in_unless_there_is_a_header() -> None:
    with Service() as service:
        url = service.url.replace("http://", "http://me:p%40ss@")
        deliver(WebhookNotifier(url))
        deliver(WebhookNotifier(url, headers={"authorization": "Bearer mine"}))
        first, second = service.wait_for(2)
    assert first.headers["Authorization"] == f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert second.headers["authorization"] == "Bearer mine"


def test_a_notification_to_this_machine_does_not_pass_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Service() as service:
        deliver(WebhookNotifier(service.url))
        assert service.wait_for(1)


def test_a_proxy_that_cannot_be_read_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch, everything_logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:s3cr/3t@proxy:80")
    deliver(WebhookNotifier("http://hooks.invalid/x"))
    assert "was not delivered: proxy: got a text that is no address" in said(everything_logged)
    assert "s3cr" not in said(everything_logged)


def test_a_key_that_an_endpoint_repeats_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with Service(always=(401, {}, "invalid key s3cr3t-key-1, Bearer s3cr3t-key-1")) as service:
        headers = {"Authorization": "Bearer s3cr3t-key-1"}
        deliver(WebhookNotifier(service.url, headers=headers))
    assert "answered 401: invalid key [redacted]" in caplog.text
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("how", ["refused", "cut", "silent", "answered"])
def test_the_url_is_in_no_error_nor_in_what_hangs_on_it(kind: str, how: str) -> None:
    with SERVICES[kind]() as service:
        service.always = {"cut": DROP, "silent": HANG}.get(how, (500, {}, "no"))
        if how == "refused":
            service.stop()
        timeout = (PATIENCE, 0.05 if how == "silent" else PATIENCE)
        notifier = getattr(handlers, kind)(service.url, timeout=timeout)
        with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
            notifier._attempt(NOTE)
    links: List[BaseException] = [caught.value]
    for link in links:
        assert "s3cr3t" not in "".join(traceback.format_exception_only(type(link), link))
        links += [each for each in (link.__cause__, link.__context__) if each is not None]


def test_a_service_that_is_down_is_one_warning_for_each_notification(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = FakeRun()
    clock = StoppedClock()
    caplog.set_level(logging.INFO, "arkor_sync.handlers")
    with Service(always=(503, {}, "")) as service:
        notifier = WebhookNotifier(service.url, flush_timeout=0.05, clock=clock, attempts=2)
        notifier.on_failed(run.failed())
        notifier.on_end(run.end())
        notifier._outbox.at_exit(0.05)
        clock.over.set()
        assert notifier._outbox.flush(PATIENCE)
        said = [(record.levelname, record.getMessage()) for record in caplog.records]
        assert [level for level, _ in said] == ["WARNING", "INFO"]
        assert "not delivered within 0.1 s" in said[0][1]
        assert "was not delivered: 127.0.0.1" in said[1][1]
        caplog.clear()
        notifier.on_failed(FakeRun(job_id="job-2").failed())
        assert notifier._outbox.flush(PATIENCE)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
