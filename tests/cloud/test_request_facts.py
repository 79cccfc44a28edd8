"""What the text of a refusal says beside the cloud's own words: what its reader would look up."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest
import requests

from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    Credentials,
    OAuthCredentials,
    TokenCredentials,
    read_credentials,
    request_anonymous_token,
)
from arkor_sync.cloud.project import ProjectState
from arkor_sync.cloud.request_facts import Origin, Refusal, describe
from arkor_sync.errors import (
    AnonymousTokenRejectedError,
    ArkorError,
    AuthenticationError,
    CloudApiError,
    CredentialsError,
    ResponseError,
    StreamProtocolError,
)
from support.loopback import Connection, Server
from support.scripted_cloud import ANONYMOUS, Reply, ScriptedCloud

SECRET = "do-not-show-me-0123456789"
SCOPE = ProjectState("my org", "my&project", "project-1")
WHERE = "project 'my&project' of organisation 'my org'"


def refused(client: CloudApiClient, call: Callable[[CloudApiClient], Any]) -> CloudApiError:
    with pytest.raises(CloudApiError) as caught:
        call(client)
    error = caught.value
    assert str(error) == f"{error.status}: {error.message} ({error.hint})"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert SECRET not in f"{error!r}{vars(error)}"
    return error


def in_file(home: Path, url: str) -> Optional[Credentials]:
    found = AnonymousCredentials(SECRET, "i", url, "my org")
    path = home / ".arkor" / "credentials.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"mode": "anon", **found.to_dict()}))
    return None


# Which token, and from where.


@pytest.mark.parametrize("mode", ["anon", "oauth"])
@pytest.mark.parametrize("read", [False, True], ids=["found", "given"])
def test_a_refused_token_from_the_file_is_told_with_the_path_of_the_file(
    cloud: ScriptedCloud, home: Path, mode: str, read: bool
) -> None:
    in_file(home, cloud.url)
    path = home / ".arkor" / "credentials.json"
    if mode == "oauth":
        account = OAuthCredentials(SECRET, None, 0, "", "", "", cloud.url)
        path.write_text(json.dumps({"mode": mode, **account.to_dict()}))
    cloud.reply({"error": "no"}, 401)
    client = CloudApiClient(credentials=read_credentials() if read else None, scope=SCOPE)
    error = refused(client, lambda client: client.jobs.get("job-1"))
    assert isinstance(error, AuthenticationError)
    assert error.message == "no"
    assert error.hint == (
        f"GET {cloud.url}/v1/jobs/job-1; {WHERE}; the token from {path} was refused: "
        "a local Arkor forgets its accounts when it ends; `arkor-sync logout` goes back to the "
        f"public cloud, and `ARKOR_CLOUD_API_URL={cloud.url} arkor-sync login` signs in there again"
    )


@pytest.mark.parametrize(
    ("token", "host", "remedy"),
    [
        ("from /home/me/c.json", "api.arkor.ai", "sign in again, or set ARKOR_TOKEN"),
        ("from /home/me/c.json", "[::1]:80", "a local Arkor forgets its accounts when it ends; "),
        ("from ARKOR_TOKEN", "localhost", "set the variable to a token that is valid there"),
        ("given by the program", "localhost", "give credentials that are valid there"),
    ],
)
def test_what_to_do_about_a_refused_token(token: str, host: str, remedy: str) -> None:
    text = describe("GET", f"http://{host}/v1/me", Origin(token), Refusal(401))
    assert f"; the token {token} was refused: {remedy}" in text


def test_a_refused_token_from_the_variable_names_the_variable(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARKOR_TOKEN", SECRET)
    cloud.reply({"error": "no"}, 401)
    assert refused(CloudApiClient(cloud.url), CloudApiClient.me).hint == (
        f"GET {cloud.url}/v1/me; the token from ARKOR_TOKEN was refused: "
        "set the variable to a token that is valid there"
    )


@pytest.mark.parametrize(
    ("credentials", "source"),
    [
        (TokenCredentials(SECRET), "given by the program"),
        (OAuthCredentials(SECRET, None, 0, "", "", ""), "given by the program"),
        (lambda: TokenCredentials(SECRET), "that the program's function returned"),
    ],
)
def test_a_refused_token_of_the_program_is_told_as_such(
    cloud: ScriptedCloud, credentials: Any, source: str
) -> None:
    cloud.reply({"error": "no"}, 401)
    error = refused(CloudApiClient(cloud.url, credentials), CloudApiClient.me)
    assert error.hint == (
        f"GET {cloud.url}/v1/me; the token {source} was refused: "
        "give credentials that are valid there"
    )


def test_the_second_token_that_is_refused_is_told_as_the_first(cloud: ScriptedCloud) -> None:
    tokens = iter(f"{SECRET}-{number}" for number in range(9))
    cloud.reply({"error": "no"}, 401)
    client = CloudApiClient(cloud.url, lambda: TokenCredentials(next(tokens)))
    error = refused(client, CloudApiClient.me)
    assert len(cloud.received) == 2
    assert "the token that the program's function returned was refused" in error.hint


def test_where_credentials_were_found_is_no_part_of_them(home: Path, cloud: ScriptedCloud) -> None:
    in_file(home, cloud.url)
    found = read_credentials()
    assert found is not None
    assert found == AnonymousCredentials(SECRET, "i", cloud.url, "my org")
    assert found.source == f"from {home / '.arkor' / 'credentials.json'}"
    assert pickle.loads(pickle.dumps(found)).source == found.source
    assert "source" not in json.dumps(found.to_dict())  # type: ignore[union-attr]


def test_a_new_identity_is_told_as_that_of_its_file(cloud: ScriptedCloud, home: Path) -> None:
    cloud.replies = [Reply(200, ANONYMOUS), Reply(401, {"error": "no"})]
    error = refused(CloudApiClient(cloud.url, scope=SCOPE), lambda client: client.jobs.list())
    assert f"the token from {home / '.arkor' / 'credentials.json'} was refused" in error.hint


@pytest.mark.parametrize("variable", [True, False])
def test_a_token_that_no_header_can_carry_is_named_by_its_origin(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    given = None if variable else TokenCredentials("a b")
    monkeypatch.setenv("ARKOR_TOKEN", "a b")
    source = "from ARKOR_TOKEN" if variable else "given by the program"
    with pytest.raises(CredentialsError, match=f"^the token {source} is empty or has"):
        CloudApiClient(cloud.url, given).me()


# Which job, which project, and is it an Arkor cloud at all?


@pytest.mark.parametrize(
    ("call", "route"),
    [
        (lambda client: client.jobs.get("job/1"), "GET {}/v1/jobs/job%2F1"),
        (lambda client: client.jobs.cancel("job-1"), "POST {}/v1/jobs/job-1/cancel"),
        (lambda client: client.jobs.create("n", {}), "POST {}/v1/jobs"),
        (
            lambda client: client.jobs.events("job-1", transport=client.transport()),
            "GET {}/v1/jobs/job-1/events/stream",
        ),
        (
            lambda client: client.chat([{"role": "user", "content": "x"}], base_model="m"),
            "POST {}/v1/inference/chat",
        ),
    ],
)
@pytest.mark.parametrize("status", [400, 404, 409, 410, 422, 500])
def test_a_refusal_names_the_route_the_id_and_the_project(
    cloud: ScriptedCloud, client: CloudApiClient, status: int, call: Any, route: str
) -> None:
    cloud.reply({"error": "no"}, status)
    assert refused(client, call).hint == f"{route.format(cloud.url)}; {WHERE}"


def test_a_refusal_without_a_project_names_the_organisation(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    cloud.reply({"error": "no"}, 403)
    error = refused(client, lambda client: client.projects.list("their\norg"))
    assert error.hint == (
        f"GET {cloud.url}/v1/projects; organisation 'their\\norg'; "
        "the token is the one given by the program"
    )


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("content", [{"error": "no such route"}, "<html>no</html>"])
def test_a_base_url_that_ends_in_v1_is_pointed_out(
    cloud: ScriptedCloud, status: int, content: Any
) -> None:
    cloud.reply(content, status)
    client = CloudApiClient(f"{cloud.url}/v1/", TokenCredentials(SECRET))
    error = refused(client, CloudApiClient.me)
    assert error.hint == (
        f"GET {cloud.url}/v1/v1/me; does your base URL end in /v1? It is added; leave it out"
    )


PAGE = {"Content-Type": "Text/HTML; charset=utf-8"}


@pytest.mark.parametrize(
    ("status", "content", "headers", "asked"),
    [
        (404, "", {}, True),
        (404, "not found", {}, True),
        (404, "<html>", PAGE, True),
        (405, {"message": "Method Not Allowed"}, {}, True),
        (403, "<html>", PAGE, True),
        (500, "<html>", PAGE, True),
        (404, {"error": "job not found"}, {}, False),
        (500, {"error": "no"}, {}, False),
        (500, "", {}, False),
    ],
)
def test_what_is_no_arkor_cloud_is_told_with_where_its_address_was_found(
    cloud: ScriptedCloud,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    content: Any,
    headers: Any,
    asked: bool,
) -> None:
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", cloud.url)
    cloud.reply(content, status, headers=headers)
    hint = refused(CloudApiClient(credentials=TokenCredentials(SECRET)), CloudApiClient.me).hint
    question = f"is {cloud.url} an Arkor cloud? The address is from ARKOR_CLOUD_API_URL"
    assert (question in hint) is asked


def test_where_the_address_may_be_found(
    cloud: ScriptedCloud, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.reply("", 404)

    def address(*arguments: Any) -> str:
        client = CloudApiClient(*arguments, scope=SCOPE)
        return refused(client, CloudApiClient.me).hint.rpartition("The address is ")[2]

    in_file(home, cloud.url)
    path = home / ".arkor" / "credentials.json"
    assert address() == f"that of the credentials from {path}"
    given = TokenCredentials(SECRET, cloud.url)
    assert address(None, given) == "that of the credentials given by the program"
    assert address(cloud.url) == "given by the program"
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", cloud.url)
    assert address() == "from ARKOR_CLOUD_API_URL"


def test_a_web_page_in_the_place_of_json_is_told_as_such(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    cloud.reply("\n<!DOCTYPE html>...")
    with pytest.raises(ResponseError) as caught:
        client.jobs.get("job-1")
    assert str(caught.value).startswith(f"GET {cloud.url}/v1/jobs/job-1: the answer: expected JSON")
    assert str(caught.value).endswith(
        f"; is {cloud.url} an Arkor cloud? The address is given by the program"
    )


def test_a_web_page_in_the_place_of_an_event_stream_is_told_with_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def log_in(connection: Connection, _: str) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n")

    client = CloudApiClient("http://cloud.invalid", TokenCredentials(SECRET), scope=SCOPE)
    with Server(log_in) as proxy, client.transport() as transport:
        monkeypatch.setenv("http_proxy", f"http://me:{SECRET}@127.0.0.1:{proxy.port}")
        with pytest.raises(StreamProtocolError) as caught:
            client.jobs.events("job-1", transport=transport)
    assert str(caught.value) == (
        f"GET http://cloud.invalid/v1/jobs/job-1/events/stream, through the proxy "
        f"127.0.0.1:{proxy.port} (http_proxy): expected text/event-stream, got text/html; "
        "did a proxy or a login page answer?"
    )


def test_a_refused_identity_names_the_route_and_what_to_do(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.reply({"error": "no"}, 403)
    with pytest.raises(AnonymousTokenRejectedError) as caught:
        request_anonymous_token(cloud.url)
    assert str(caught.value).endswith(
        f" (POST {cloud.url}/v1/auth/anonymous); sign in, or set ARKOR_TOKEN"
    )
    cloud.replies = [Reply(404, "nothing here")]
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", cloud.url)
    with pytest.raises(AnonymousTokenRejectedError) as caught:
        CloudApiClient().me()
    assert "an Arkor cloud? The address is from ARKOR_CLOUD_API_URL)" in str(caught.value)
    cloud.replies = [Reply(200, {"token": 5})]
    with pytest.raises(ResponseError, match=r"^POST http://.*/v1/auth/anonymous: token: expected"):
        request_anonymous_token(cloud.url)


# How long to wait, and what stood in between.


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_says_how_long_it_asks_to_wait(
    cloud: ScriptedCloud, client: CloudApiClient, status: int
) -> None:
    cloud.reply({"error": "no"}, status, headers={"Retry-After": "7"})
    error = refused(client, CloudApiClient.me)
    assert error.hint == f"GET {cloud.url}/v1/me; it asks to wait for 7 s"


@pytest.mark.parametrize(
    ("status", "kind", "named"),
    [
        (407, "text/plain", True),
        (502, "text/plain", True),
        (403, "text/html", True),
        (404, "application/json", False),
        (400, "text/plain", False),
    ],
)
@pytest.mark.parametrize("source", ["HTTP_PROXY", "all_proxy", "the session"])
def test_the_proxy_that_may_have_answered_is_named(
    monkeypatch: pytest.MonkeyPatch, source: str, status: int, kind: str, named: bool
) -> None:
    def refuse(connection: Connection, _: str) -> None:
        head = f"HTTP/1.1 {status} No\r\nContent-Type: {kind}\r\nContent-Length: 0\r\n\r\n"
        connection.send(head.encode())

    session: Optional[requests.Session] = None
    with Server(refuse) as proxy:
        url = f"http://me:{SECRET}@127.0.0.1:{proxy.port}"
        if source == "the session":
            session = requests.Session()
            session.proxies = {"all": url}
        else:
            monkeypatch.setenv(source, url)
        client = CloudApiClient("http://cloud.invalid", TokenCredentials("t"), session=session)
        hint = refused(client, CloudApiClient.me).hint
    assert (f"the proxy 127.0.0.1:{proxy.port} ({source}) was used" in hint) is named
    assert ("the proxy wants a user name and a password" in hint) is (status == 407)


def test_a_redirect_says_where_to_with_the_scheme(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    cloud.reply("", 301, headers={"Location": f"https://cloud.example/v1/me?{SECRET}"})
    assert "redirected to https://cloud.example;" in refused(client, CloudApiClient.me).message


def test_no_text_shows_a_token_or_a_query(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("ARKOR_TOKEN", SECRET)
    own = (None, TokenCredentials(SECRET), lambda: TokenCredentials(SECRET))
    shown: List[str] = []
    for status in (200, 300, 400, 401, 403, 404, 405, 407, 409, 410, 426, 429, 500, 503):
        cloud.replies = [Reply(status, f"<html>{SECRET}", headers=PAGE)]
        for credentials in own:
            client = CloudApiClient(cloud.url, credentials, scope=SCOPE)
            with pytest.raises(ArkorError) as caught:
                client.jobs.list()
            shown.append(f"{caught.value} {getattr(caught.value, 'hint', '')}")
    assert len(shown) == 42
    assert all(SECRET not in text and "?orgSlug" not in text for text in shown)
