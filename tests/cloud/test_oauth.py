"""Refreshing the tokens of an account: in memory, in the file, by threads and processes."""

from __future__ import annotations

import json
import logging
import pickle
import stat
import threading
import traceback
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
import requests

from arkor_sync.cloud import oauth
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    OAuthCredentials,
    read_credentials,
    write_credentials,
)
from arkor_sync.cloud.oauth import Refresher
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError, ArkorTimeoutError, CredentialsError
from support.forking import fork, lock_of_another
from support.identity_provider import LATER, IdentityProvider
from support.scripted_cloud import Received, Reply
from support.waiting import Background

NOW = 1_800_000_000


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    yield provider
    provider.stop()


@pytest.fixture
def path(home: Path) -> Path:
    return home / ".arkor" / "credentials.json"


def refresher_of(
    provider: IdentityProvider, account: OAuthCredentials, now: float = NOW
) -> Refresher:
    return Refresher(account, provider.session, clock=lambda: now)


def signed_in(provider: IdentityProvider, expires_at: int = NOW, **more: Any) -> OAuthCredentials:
    """Write the credentials file of somebody who has just signed in, and read it."""
    write_credentials(provider.account(expires_at, **more))
    found = read_credentials()
    assert isinstance(found, OAuthCredentials)
    return found


def stored() -> OAuthCredentials:
    found = read_credentials()
    assert isinstance(found, OAuthCredentials)
    return found


def secrets_in(error: BaseException) -> bool:
    """Look at all that a report of the error could hold: text, attributes, every chain, pickle."""
    texts = ["".join(traceback.format_exception(type(error), error, error.__traceback__))]
    texts.append(pickle.dumps(error).decode("latin-1"))
    chain: List[Any] = [error]
    while chain:
        link = chain.pop()
        if isinstance(link, BaseException):
            texts += [repr(link), repr(vars(link))]
            request = getattr(link, "request", None)
            texts.append(str(getattr(request, "body", None)))
            chain += [link.__cause__, link.__context__]
    return any("secret" in text for text in texts)


# -- when, and what is sent ---------------------------------------------------------------------


def test_a_token_is_refreshed_a_minute_before_it_ends(provider: IdentityProvider) -> None:
    account = provider.account(NOW)
    early = refresher_of(provider, account, NOW - 61)
    assert early.valid_credentials() is account
    assert provider.received == []
    renewed = refresher_of(provider, account, NOW - 60).valid_credentials()
    assert renewed == provider.account(
        NOW - 60 + 3600, access_token="secret-access-no-1", refresh_token="secret-refresh-1"
    )


def test_the_request(provider: IdentityProvider) -> None:
    provider.session.headers["X-Team"] = "meant for the cloud"
    provider.session.headers["Authorization"] = "Bearer meant-for-the-cloud"
    refresher_of(provider, provider.account(NOW)).valid_credentials()
    (request,) = provider.received
    assert (request.method, request.target) == ("POST", "/oauth/token")
    assert request.json == {
        "grant_type": "refresh_token",
        "client_id": "client-1",
        "refresh_token": "secret-refresh-0",
    }
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("arkor-sync")
    assert not {"Authorization", "X-Team", "X-Arkor-Client"} & set(request.headers)


def test_a_provider_on_this_machine_is_not_asked_through_a_proxy(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    provider.session.trust_env = True
    refresher_of(provider, provider.account(NOW)).valid_credentials()
    assert len(provider.received) == 1


def test_a_rotated_refresh_token_is_used_the_next_time(provider: IdentityProvider) -> None:
    refresher = refresher_of(provider, provider.account(NOW))
    provider.expires_in = 30
    tokens = [refresher.valid_credentials().access_token for _ in range(3)]
    assert tokens == ["secret-access-no-1", "secret-access-no-2", "secret-access-no-3"]
    assert provider.spent == ["secret-refresh-0", "secret-refresh-1", "secret-refresh-2"]


def test_a_refresh_token_that_is_not_rotated_is_kept(provider: IdentityProvider) -> None:
    provider.rotates = False
    provider.expires_in = 30.9
    refresher = refresher_of(provider, provider.account(NOW))
    assert refresher.valid_credentials().expires_at == NOW + 30
    assert refresher.valid_credentials().refresh_token == "secret-refresh-0"


@pytest.mark.parametrize("lifetime", [None, "3600", 0, -5, 1e300, [1]])
def test_a_lifetime_that_is_not_said_counts_as_an_hour(
    provider: IdentityProvider, lifetime: Any
) -> None:
    provider.expires_in = lifetime
    renewed = refresher_of(provider, provider.account(NOW)).valid_credentials()
    assert renewed.refresh_token == "secret-refresh-1"
    assert renewed.expires_at == NOW + 3600


def test_a_rejected_token_is_replaced_whatever_the_clock_says(provider: IdentityProvider) -> None:
    for account in (
        provider.account(),
        signed_in(provider, LATER, refresh_token="secret-refresh-2"),
    ):
        refresher = refresher_of(provider, account)
        first = refresher.valid_credentials(account.access_token)
        second = refresher.valid_credentials(first.access_token)
        assert len({each.access_token for each in (account, first, second)}) == 3
    assert stored() == second


def test_a_token_that_was_replaced_meanwhile_is_not_refreshed_again(
    provider: IdentityProvider,
) -> None:
    refresher = refresher_of(provider, provider.account())
    refresher.valid_credentials("secret-access-no-0")
    assert refresher.valid_credentials("secret-access-no-0").access_token == "secret-access-no-1"
    assert len(provider.received) == 1


# -- the file -----------------------------------------------------------------------------------


def test_the_file_is_brought_up_to_date(provider: IdentityProvider, path: Path) -> None:
    account = signed_in(provider, extra={"createdBy": {"cli": 2}}, arkor_cloud_api_url="http://x")
    path.write_text(path.read_text().replace('"oauth"', '"auth0"'))
    path.chmod(0o644)
    renewed = refresher_of(provider, account).valid_credentials()
    assert stored() == renewed
    assert renewed.access_token == "secret-access-no-1"
    assert json.loads(path.read_text()) == {
        "mode": "oauth",
        "accessToken": "secret-access-no-1",
        "refreshToken": "secret-refresh-1",
        "expiresAt": NOW + 3600,
        "auth0Domain": provider.host,
        "audience": "https://api.arkor.ai",
        "clientId": "client-1",
        "arkorCloudApiUrl": "http://x",
        "createdBy": {"cli": 2},
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["credentials.json"]


def test_credentials_that_were_given_leave_the_file_alone(
    provider: IdentityProvider, path: Path
) -> None:
    signed_in(provider)
    before = path.read_bytes()
    given = refresher_of(provider, provider.account(NOW))
    assert given.valid_credentials().access_token == "secret-access-no-1"
    assert path.read_bytes() == before


def test_the_file_they_were_read_from_may_be_anywhere(
    provider: IdentityProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_credentials(provider.account(NOW), tmp_path / "mine.json")
    monkeypatch.chdir(tmp_path)
    account = read_credentials("mine.json")
    assert isinstance(account, OAuthCredentials)
    monkeypatch.chdir("/")
    refresher_of(provider, account).valid_credentials()
    assert read_credentials(tmp_path / "mine.json") != account


def test_what_somebody_else_refreshed_is_taken_from_the_file(provider: IdentityProvider) -> None:
    account = signed_in(provider)
    refresher_of(provider, account).valid_credentials()
    for late in (account, pickle.loads(pickle.dumps(account))):
        assert refresher_of(provider, late).valid_credentials() == stored()
        assert refresher_of(provider, late).valid_credentials("secret-access-no-0") == stored()
    assert len(provider.received) == 1


def test_what_somebody_else_refreshed_may_have_ended_too(provider: IdentityProvider) -> None:
    account = signed_in(provider)
    refresher_of(provider, account, NOW).valid_credentials()
    provider.answers = [Reply(silent=True)]
    late = refresher_of(provider, account, NOW + 3600)
    with pytest.raises(ArkorConnectionError):
        late.valid_credentials()
    assert late.valid_credentials().access_token == "secret-access-no-2"
    assert provider.spent == ["secret-refresh-0", "secret-refresh-1", "secret-refresh-1"]


@pytest.mark.parametrize("change", ["gone", "anonymous", "another account", "not usable", "text"])
def test_a_file_that_is_no_longer_theirs_is_left_alone(
    provider: IdentityProvider, path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    account = signed_in(provider)
    if change == "gone":
        path.unlink()
    elif change == "anonymous":
        write_credentials(AnonymousCredentials("t", "i", None, "o"))
    elif change == "another account":
        write_credentials(provider.account(NOW, client_id="client-2", access_token="other"))
    else:
        path.write_text('{"mode": "oauth"}' if change == "not usable" else "{")
    before = path.read_bytes() if path.exists() else None
    assert refresher_of(provider, account).valid_credentials().access_token == "secret-access-no-1"
    assert (path.read_bytes() if path.exists() else None) == before
    assert ("sign in again" in caplog.text) == (change == "not usable")


@pytest.mark.parametrize("change", ["gone", "another account"])
def test_signing_in_or_out_during_the_refresh_wins(
    provider: IdentityProvider, path: Path, change: str
) -> None:
    account = signed_in(provider)

    def meanwhile(_: str) -> None:
        if change == "gone":
            path.unlink()
        else:
            write_credentials(provider.account(access_token="newly-signed-in"))

    provider.on_issue = meanwhile
    assert refresher_of(provider, account).valid_credentials().access_token == "secret-access-no-1"
    if change == "gone":
        assert not path.exists()
    else:
        assert stored().access_token == "newly-signed-in"


def test_a_file_that_cannot_be_written_costs_the_run_nothing(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    account = signed_in(provider)
    provider.expires_in = 30
    refresher = refresher_of(provider, account)

    def full(*_: Any) -> None:
        raise CredentialsError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(oauth, "write_credentials", full)
        assert refresher.valid_credentials().access_token == "secret-access-no-1"
    assert stored() == account
    assert "the disk is full" in caplog.text
    assert "sign in again" in caplog.text
    assert "secret" not in caplog.text
    assert refresher.valid_credentials().access_token == "secret-access-no-2"
    assert stored().access_token == "secret-access-no-2"


def test_a_directory_that_cannot_be_locked_costs_the_run_nothing(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    account = signed_in(provider)
    monkeypatch.setattr(oauth, "locked", refuse)
    assert refresher_of(provider, account).valid_credentials() == stored()


def test_a_lock_that_another_program_never_gives_up_ends_a_request_in_time(
    provider: IdentityProvider, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth, "MAX_WAIT", 2.0)
    account = signed_in(provider)
    with lock_of_another(path.parent):
        refresher = refresher_of(provider, account)
        with pytest.raises(ArkorTimeoutError, match=f"{path.parent} has been locked by another"):
            Background(refresher.valid_credentials).result()
    assert provider.spent == []
    assert refresher.valid_credentials() == stored()


def test_a_request_waits_for_a_refresh_no_longer_than_its_timeout(
    provider: IdentityProvider,
) -> None:
    hold = Holding()
    provider.answers = [hold]
    client = CloudApiClient(
        "http://127.0.0.1:1", provider.account(0), timeout=(0.1, 0.1), session=provider.session
    )
    with pytest.raises(ArkorTimeoutError, match="refreshing the token: timed out"):
        Background(client.me).result()
    hold.go.set()


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(
    "code", ["invalid_grant", "invalid_client", "unsupported_grant_type", "access_denied"]
)
def test_a_refusal_asks_to_sign_in_again_and_is_not_repeated(
    provider: IdentityProvider, status: int, code: str
) -> None:
    refresher = refresher_of(provider, signed_in(provider))
    provider.answers = [Reply(status, {"error": code, "error_description": "secret"})]
    for said in (rf"refused .*\({status} {code}\); sign in again", "sign in again"):
        with pytest.raises(CredentialsError, match=said) as caught:
            refresher.valid_credentials()
        assert not secrets_in(caught.value)
    assert len(provider.received) == 1


def test_signing_in_again_helps_at_once(provider: IdentityProvider) -> None:
    refresher = refresher_of(provider, signed_in(provider, refresh_token="spent"))
    with pytest.raises(CredentialsError):
        refresher.valid_credentials()
    write_credentials(provider.account(access_token="newly-signed-in"))
    assert refresher.valid_credentials().access_token == "newly-signed-in"
    assert provider.spent == ["spent"]


@pytest.mark.parametrize("host", ["", "x/y", "user@x", "https://x", "x?y", "x\n", "x y"])
def test_a_domain_that_is_no_host_is_never_asked(provider: IdentityProvider, host: str) -> None:
    refresher = refresher_of(provider, provider.account(NOW, auth0_domain=host))
    with pytest.raises(CredentialsError, match="auth0Domain"):
        refresher.valid_credentials()


# -- failures -----------------------------------------------------------------------------------

PAGE = "<html><body>Blocked by the proxy: invalid_grant</body></html>"
FAILURES = [
    *(Reply(status, PAGE, headers={"Content-Type": "text/html"}) for status in (400, 401, 403)),
    Reply(403, ""),
    Reply(400, '{"error": "invalid_grant"', length=100),
    Reply(400, {"message": "Forbidden"}),
    Reply(403, {"error": "Forbidden"}),
    Reply(400, {"error": {"code": "invalid_grant"}}),
    Reply(400, {"error": ["invalid_grant"]}),
    Reply(401, ["invalid_grant"]),
    Reply(401, "invalid_grant"),
    *(Reply(status, {"error": "temporarily_unavailable"}) for status in (400, 401, 403)),
    Reply(400, {"error": "server_error"}),
    Reply(400, {"error": "slow_down"}),
    Reply(503, {"error": "temporarily_unavailable"}),
    Reply(500, {"error": "invalid_grant"}),
    Reply(407, {"error": "access_denied"}),
    Reply(silent=True),
    Reply(500, "down"),
    Reply(429, {"error": "too_many_requests"}),
    Reply(302, "", headers={"Location": "https://127.0.0.1:1/oauth/token?t=secret"}),
    Reply(200, "not json"),
    Reply(200, {"error": "secret"}),
    Reply(200, {"access_token": ["secret"]}),
    Reply(200, {"access_token": "secret with a space"}),
    Reply(200, [1]),
    Reply(200, "cut", length=100),
]


@pytest.mark.parametrize("reply", FAILURES, ids=range(len(FAILURES)))
def test_a_failure_is_a_warning_while_the_token_is_good(
    provider: IdentityProvider, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    account = signed_in(provider)
    provider.answers = [reply]
    refresher = refresher_of(provider, account, NOW - 42)
    with caplog.at_level(logging.DEBUG):
        assert refresher.valid_credentials() is account
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "valid for another 42 s" in record.getMessage()
    assert "secret" not in caplog.text
    assert stored() == account
    assert refresher.valid_credentials().access_token == "secret-access-no-1"


@pytest.mark.parametrize("reply", FAILURES, ids=range(len(FAILURES)))
def test_a_failure_is_a_lost_connection_once_the_token_has_ended(
    provider: IdentityProvider, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    provider.answers = [reply, reply]
    refresher = refresher_of(provider, provider.account(NOW), NOW)
    account = provider.account()
    rejected = refresher_of(provider, account)
    for call in (
        refresher.valid_credentials,
        lambda: rejected.valid_credentials(account.access_token),
    ):
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(ArkorConnectionError, match=r"^refreshing the token: ") as caught,
        ):
            call()
        assert not secrets_in(caught.value)
    assert "secret" not in caplog.text
    assert len(provider.received) == 2
    assert refresher.valid_credentials().access_token == "secret-access-no-1"


def test_a_provider_that_is_not_there(provider: IdentityProvider) -> None:
    account = provider.account(NOW)
    provider.stop()
    with pytest.raises(
        ArkorConnectionError, match=r"token: POST https://.*/oauth/token: "
    ) as caught:
        refresher_of(provider, account).valid_credentials()
    assert not secrets_in(caught.value)


def test_a_certificate_that_is_not_trusted(provider: IdentityProvider) -> None:
    strange = Refresher(provider.account(NOW), requests.Session(), clock=lambda: NOW)
    with pytest.raises(ArkorConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        strange.valid_credentials()
    assert provider.received == []


@pytest.mark.parametrize("status", [200, 400, 403, 500])
def test_what_the_provider_repeats_is_not_shown(
    provider: IdentityProvider, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    def repeat(received: Received) -> Reply:
        token = received.json["refresh_token"]
        return Reply(status, {"error": token, "error_description": token, "access_token": None})

    provider.answers = [repeat]
    with caplog.at_level(logging.DEBUG), pytest.raises(Exception) as caught:
        refresher_of(provider, provider.account(NOW)).valid_credentials()
    assert isinstance(caught.value, (CredentialsError, ArkorConnectionError))
    assert not secrets_in(caught.value)
    assert "secret" not in caplog.text


# -- threads and processes ----------------------------------------------------------------------


class Holding:
    """An answer that waits until the test lets it go; then the usual one is sent."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go = threading.Event()

    def __call__(self, _: Received) -> None:
        self.asked.set()
        assert self.go.wait(60)


def on_threads(calls: List[Callable[[], Any]]) -> List[Any]:
    """Make calls at the same time; return what each returned or raised."""
    outcomes: List[Any] = []
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> None:
        barrier.wait(10)
        try:
            outcomes.append(call())
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_many_threads_share_one_refresh(provider: IdentityProvider) -> None:
    refresher = refresher_of(provider, provider.account(NOW))
    outcomes = on_threads(
        [refresher.valid_credentials, lambda: refresher.valid_credentials("secret-access-no-0")] * 6
    )
    assert [each.access_token for each in outcomes] == ["secret-access-no-1"] * 12
    assert len(provider.received) == 1


def test_many_clients_of_one_file_share_one_refresh(provider: IdentityProvider) -> None:
    account = signed_in(provider)
    outcomes = on_threads([refresher_of(provider, account).valid_credentials for _ in range(6)])
    assert [each.access_token for each in outcomes] == ["secret-access-no-1"] * 6
    assert len(provider.received) == 1


def test_threads_share_a_failure_but_not_the_exception(provider: IdentityProvider) -> None:
    hold = Holding()
    provider.answers = [hold, Reply(silent=True)]
    provider.answers = [lambda received: hold(received) or Reply(403, {"error": "invalid_grant"})]
    refresher = refresher_of(provider, provider.account(NOW))
    threading.Thread(target=lambda: hold.asked.wait(10) and hold.go.set()).start()
    outcomes = on_threads([refresher.valid_credentials] * 4)
    assert [type(each) for each in outcomes] == [CredentialsError] * 4
    assert len({id(each) for each in outcomes}) == 4
    assert len(provider.received) == 1


def test_an_interrupted_request_stops_waiting_but_the_refresh_is_seen_to_its_end(
    provider: IdentityProvider,
) -> None:
    hold = Holding()
    provider.answers = [hold]
    refresher = refresher_of(provider, signed_in(provider))
    with Transport() as transport:

        def interrupt() -> None:
            assert hold.asked.wait(10)
            transport.interrupt()

        (failure, _) = sorted(
            on_threads([lambda: refresher.valid_credentials(None, transport), interrupt]),
            key=str,
            reverse=True,
        )
    assert isinstance(failure, ArkorConnectionError)
    assert "interrupted" in str(failure)
    hold.go.set()
    assert refresher.valid_credentials() == stored()
    assert provider.spent == ["secret-refresh-0"]


def test_no_request_waits_for_ever(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth, "MAX_WAIT", 0.1)
    hold = Holding()
    provider.answers = [hold]
    refresher = refresher_of(provider, provider.account(NOW))
    with pytest.raises(ArkorTimeoutError):
        refresher.valid_credentials()
    monkeypatch.undo()
    hold.go.set()
    assert refresher.valid_credentials().access_token == "secret-access-no-1"


def test_a_forked_child_does_not_wait_for_the_parent_s_thread(provider: IdentityProvider) -> None:
    hold = Holding()
    provider.answers = [hold]
    refresher = refresher_of(provider, signed_in(provider))
    thread = threading.Thread(target=refresher.valid_credentials)
    thread.start()
    assert hold.asked.wait(10)
    child = fork(
        lambda: refresher.valid_credentials().access_token == "secret-access-no-1" or 1 / 0
    )
    hold.go.set()
    thread.join()
    assert child() == 0
    assert refresher.valid_credentials() == stored()
    assert provider.spent == ["secret-refresh-0"]


# -- a process that may have no more threads -----------------------------------------------------


def test_a_refresh_whose_thread_cannot_start_is_tried_again(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    expired = refresher_of(provider, provider.account(NOW))
    usable = refresher_of(provider, provider.account(NOW + 30))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ArkorConnectionError, match="cannot start a thread"):
            expired.valid_credentials()
        assert usable.valid_credentials().access_token == provider.account(NOW).access_token
        assert "cannot start a thread" in caplog.text
    assert usable.valid_credentials().access_token == "secret-access-no-1"
