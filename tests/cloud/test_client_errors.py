from __future__ import annotations

import email.utils
import pickle
import time
from typing import Any, Callable

import pytest

from arkor_sync import errors
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.retry_after import parse_retry_after
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorError,
    CloudApiError,
    RateLimitError,
    UpgradeRequiredError,
)
from support.loopback import Connection, Server
from support.scripted_cloud import Reply, ScriptedCloud


def refused(cloud: ScriptedCloud, client: CloudApiClient, reply: Reply) -> CloudApiError:
    cloud.replies = [reply]
    with pytest.raises(CloudApiError) as caught:
        client.jobs.list()
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
    return error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"error": "the name is taken"}, "the name is taken"),
        ({"error": "a", "details": {"more": 1}}, "a"),
        ({"error": ""}, '{"error": ""}'),
        ({"error": None}, '{"error": null}'),
        ({"error": {"message": "x"}}, "x"),
        ({"error": {"detail": "x"}}, '{"error": {"detail": "x"}}'),
        ("plain text", "plain text"),
        ("<html>down</html>", "<html>down</html>"),
        ("", "the cloud-api answered with status 400"),
        (" \n", "the cloud-api answered with status 400"),
        ([1], "[1]"),
        (b"\xff", "\ufffd"),
        ("[" * 20_000, "[" * 499 + "…"),
    ],
)
def test_the_message(
    cloud: ScriptedCloud, client: CloudApiClient, content: Any, message: str
) -> None:
    error = refused(cloud, client, Reply(400, content))
    assert error.message == message
    where = f"GET {cloud.url}/v1/jobs; project 'my&project' of organisation 'my org'"
    assert str(error) == f"400: {message} ({where})"
    assert error.status == 400


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"error": "x y", "code": "anonymous_account_not_found"}, "anonymous_account_not_found"),
        ({"error": "x y", "code": 5}, None),
        ({"error": "tool_calling_not_configured"}, "tool_calling_not_configured"),
        ({"error": "invalid_schema", "code": "other_code"}, "other_code"),
        ({"error": "forbidden"}, None),
        ("text", None),
    ],
)
def test_the_code(cloud: ScriptedCloud, client: CloudApiClient, content: Any, code: Any) -> None:
    assert refused(cloud, client, Reply(400, content)).code == code


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, CloudApiError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (408, CloudApiError),
        (409, errors.ConflictError),
        (410, errors.GoneError),
        (422, errors.UnprocessableEntityError),
        (426, UpgradeRequiredError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (304, CloudApiError),
    ],
)
def test_each_status_has_its_class(
    cloud: ScriptedCloud, client: CloudApiClient, status: int, kind: Any
) -> None:
    assert type(refused(cloud, client, Reply(status, ""))) is kind


def test_the_body_is_read_to_a_limit(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    error = refused(cloud, client, Reply(500, "x" * 1_000_000))
    assert error.message == "x" * 499 + "…"
    assert error.body == "x" * 2000
    assert cloud.wait_until_idle()


def test_a_body_that_breaks_off_counts_as_empty(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    error = refused(cloud, client, Reply(503, "half", length=100))
    assert error.message == "the cloud-api answered with status 503"


@pytest.mark.parametrize("reason", ["missing", "malformed"])
def test_a_refused_header_is_named(
    cloud: ScriptedCloud, client: CloudApiClient, reason: str
) -> None:
    body = {"error": "sdk_version_unsupported", "currentVersion": "unknown", "reason": reason}
    error = refused(cloud, client, Reply(426, body))
    assert isinstance(error, UpgradeRequiredError)
    assert "X-Arkor-Client" in error.message


@pytest.mark.parametrize("content", ["", "<html>", "null", "5", {"error": "x"}])
def test_any_426_says_how_to_upgrade(
    cloud: ScriptedCloud, client: CloudApiClient, content: Any
) -> None:
    error = refused(cloud, client, Reply(426, content))
    assert "install a newer version" in error.message


def test_an_unsupported_version(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    body = {
        "error": "sdk_version_unsupported",
        "currentVersion": "0.0.3-alpha.1",
        "supportedRange": "^1.4.0",
        "upgrade": "npm i arkor",
    }
    error = refused(cloud, client, Reply(426, body))
    assert error.code == "sdk_version_unsupported"
    for part in ("0.0.3-alpha.1", "^1.4.0", "install a newer version"):
        assert part in error.message


def test_retry_after(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    error = refused(cloud, client, Reply(429, "", headers={"Retry-After": "7"}))
    assert error.retry_after == 7.0
    assert refused(cloud, client, Reply(429, "")).retry_after is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("", None),
        (None, None),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("9" * 400, 1e9),
        ("99999999999", 1e9),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9),
        ("1e3", None),
        ("٣", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_values(value: Any, seconds: Any) -> None:
    assert parse_retry_after(value) == seconds


NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = {
    "IMF-fixdate": "Sun, 06 Nov 1994 08:51:37 GMT",
    "RFC 850": "Sunday, 06-Nov-94 08:51:37 GMT",
    "asctime": "Sun Nov  6 08:51:37 1994",
}


@pytest.mark.parametrize("zone", ["UTC0", "XYZ-9", "XYZ+5"])
@pytest.mark.parametrize("form", sorted(LATER))
def test_retry_after_is_measured_against_the_answers_own_date(
    form: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert parse_retry_after(LATER[form], NOW) == 120
        assert parse_retry_after(NOW, LATER[form]) == 0
        assert parse_retry_after(LATER[form], "yesterday") == 0  # by this machine's clock
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_date_of_an_answer_is_used() -> None:
    def answer(connection: Connection, _: str) -> None:
        connection.send(
            f"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\nDate: {NOW}\r\n"
            f"Retry-After: {LATER['asctime']}\r\n\r\n".encode()
        )

    with Server(answer) as server, pytest.raises(RateLimitError) as caught:
        CloudApiClient(server.url, TokenCredentials("t")).me()
    assert caught.value.retry_after == 120


def test_retry_after_a_date() -> None:
    seconds = parse_retry_after(email.utils.formatdate(time.time() + 1000, usegmt=True))
    assert seconds is not None
    assert 900 < seconds <= 1001


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    new_cloud: Callable[[], ScriptedCloud],
    cloud: ScriptedCloud,
    client: CloudApiClient,
    token: str,
    status: int,
) -> None:
    other = new_cloud()
    other.reply({"jobs": []})
    location = f"{other.url.replace('://', '://user:hidden@')}/login?ticket=hidden"
    error = refused(cloud, client, Reply(status, "", headers={"Location": location}))
    assert other.url.partition("//")[2] in error.message
    assert "the token was not sent" in error.message
    assert "hidden" not in error.message
    assert not other.received


@pytest.mark.parametrize(
    ("location", "shown"),
    [("/v2/jobs?ticket=hidden", "127.0.0.1"), ("", "nowhere")],
)
def test_odd_redirects(
    cloud: ScriptedCloud, client: CloudApiClient, location: str, shown: str
) -> None:
    error = refused(cloud, client, Reply(302, "", headers={"Location": location}))
    assert shown in error.message
    assert "hidden" not in error.message


def test_a_redirect_to_what_is_no_address(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply(status=302, headers={"Location": "http://[bad?ticket=hidden"})
    with pytest.raises(ArkorError) as caught:
        client.jobs.list()
    assert "hidden" not in str(caught.value)


def test_a_host_that_is_no_name() -> None:
    client = CloudApiClient("http://a..b", TokenCredentials("t"))
    with pytest.raises(ArkorConnectionError, match=r"^GET http://a\.\.b/v1/me: "):
        client.me()


def test_a_token_that_the_server_repeats_is_cut(
    cloud: ScriptedCloud, client: CloudApiClient, token: str
) -> None:
    error = refused(cloud, client, Reply(401, {"error": f"no user for {token}"}))
    assert error.message == "no user for [token]"
    assert token not in error.body


def test_a_connection_that_breaks(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    for reply in (Reply(silent=True), Reply(200, '{"jobs"', length=100)):
        cloud.replies = [reply]
        with pytest.raises(ArkorConnectionError) as caught:
            client.jobs.list()
        assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
