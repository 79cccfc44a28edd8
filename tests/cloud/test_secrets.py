"""No secret may be seen in what a program shows, logs or stores."""

from __future__ import annotations

import errno
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest
import requests

from arkor_sync import ChatEndpoint, create_trainer
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    OAuthCredentials,
    TokenCredentials,
    ensure_credentials,
    keep_old,
    write_credentials,
)
from arkor_sync.cloud.http import BearerAuth, HttpClient
from arkor_sync.cloud.models import BlobDataset, TrainingJob, build_job_config
from arkor_sync.cloud.project import ProjectState
from arkor_sync.errors import CredentialsError
from support.loopback import Connection, Server, hang_up
from support.scripted_cloud import JOB, Reply, ScriptedCloud

SECRET = "do-not-show-me-0123456789"
HELLO = [{"role": "user", "content": "Hello"}]
MODEL = "unsloth/gemma-4-E4B-it"


def caught(call: Callable[[], Any]) -> Optional[BaseException]:
    try:
        call()
    except Exception as error:
        return error
    return None


def variables_of(error: BaseException) -> str:
    """What a report shows of our functions and of those below: Sentry shows all variables."""
    shown: List[str] = []
    links: List[Optional[BaseException]] = [error]
    while links:
        link = links.pop()
        if link is None:
            continue
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                shown += map(repr, frame.f_locals.values())
        links += [link.__cause__, None if link.__suppress_context__ else link.__context__]
    return "\n".join(shown)


def check(error: Optional[BaseException], variables: bool = True) -> None:
    """Look at all that a report of the error would hold: text, attributes, causes, pickle."""
    if error is None:
        return
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert SECRET not in shown
    assert SECRET.encode() not in pickle.dumps(error)
    assert not variables or SECRET not in variables_of(error)
    while error is not None:
        assert SECRET not in repr(error)
        assert SECRET not in repr(vars(error))
        error = error.__cause__


@pytest.mark.parametrize(
    "value",
    [
        TokenCredentials(SECRET),
        AnonymousCredentials(SECRET, "i", None, "o", {"refresh": SECRET}),
        OAuthCredentials(SECRET, SECRET, 1, "d", "a", "c", None, {"id": SECRET}),
        BearerAuth(SECRET),
        CloudApiClient("https://x", TokenCredentials(SECRET)),
        ChatEndpoint("https://x", SECRET),
        BlobDataset(f"https://u:{SECRET}@x/y?sig={SECRET}", SECRET),
        TrainingJob.from_dict(
            {**JOB, "config": {"model": "m", "datasetSource": {"token": SECRET}}, "key": SECRET}
        ),
    ],
)
def test_values_show_none(value: Any) -> None:
    for text in (repr(value), str(value), f"{value}", f"{[value]}"):
        assert SECRET not in text


def test_an_exchange_shows_none() -> None:
    assert SECRET not in repr(HttpClient())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(silent=True),
        Reply(401, {"error": f"bad token {SECRET}"}),
        Reply(400, f"bad token {SECRET}"),
        Reply(200, f"not json, and {SECRET}"),
        Reply(200, {"job": {**JOB, "id": 5, "config": {"model": "m", "token": SECRET}}}),
        Reply(200, {"jobs": [{"key": SECRET}], "key": SECRET}),
        Reply(302, "", headers={"Location": f"https://u:{SECRET}@h/?t={SECRET}"}),
        Reply(200, "not json"),
        Reply(200, {"job": {"id": 5}}),
        Reply(200, "cut", length=100),
        Reply(500, ""),
        Reply(200, chunks=[b"data: x\n\n"]),
    ],
)
def test_failures_show_none(
    cloud: ScriptedCloud, client: CloudApiClient, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cloud.replies = [reply]
    scope = ProjectState("my org", "my&project", "project-1")
    own = CloudApiClient(cloud.url, TokenCredentials(SECRET), scope=scope)
    config = build_job_config(model=MODEL, dataset=BlobDataset("https://x/y", SECRET))
    transport = own.transport()
    calls: List[Callable[[], Any]] = [
        own.me,
        own.jobs.list,
        lambda: own.jobs.create("n", config),
        lambda: own.jobs.events("j", transport=transport),
        lambda: own.chat(HELLO, base_model=MODEL).text(),
    ]
    failed = 0
    with transport:
        for call in calls:
            error = caught(call)
            failed += error is not None
            # What a model wrote is shown: it is the program's own text.
            check(error, variables=call is not calls[-1])
    assert failed >= 4
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "reply",
    [
        Reply(silent=True),
        Reply(401, {"error": {"message": f"bad key {SECRET}"}}),
        Reply(400, f"bad key {SECRET}"),
        Reply(302, "", headers={"Location": f"https://u:{SECRET}@h/?t={SECRET}"}),
        Reply(200, "cut", length=100),
    ],
)
def test_failures_of_another_server_show_none(
    cloud: ScriptedCloud, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cloud.replies = [reply]
    error = caught(lambda: ChatEndpoint(cloud.url, SECRET).chat(HELLO, stream=False))
    assert error is not None
    check(error)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_url": "x"},
        {"base_url": f"https://u:{SECRET}@x"},
        {"api_key": f"{SECRET} {SECRET}"},
        {"api_key": f"{SECRET}é"},
        {"timeout": 5},
        {"max_chat_bytes": 0},
    ],
)
def test_a_refused_endpoint_shows_none(arguments: Any) -> None:
    given = {"base_url": "https://x", "api_key": SECRET, **arguments}
    error = caught(lambda: ChatEndpoint(**given))
    assert error is not None
    check(error, variables=SECRET not in given["base_url"])


def test_a_response_keeps_none(cloud: ScriptedCloud) -> None:
    client = CloudApiClient(cloud.url, TokenCredentials(SECRET), scope=ProjectState("o", "p", "1"))
    cloud.reply({"choices": [{"message": {"content": "x"}}]})
    answer = client.chat(HELLO, base_model=MODEL, stream=False)
    assert cloud.received[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in repr(answer.response.request.headers)
    assert SECRET.encode() not in pickle.dumps(answer.response)


def test_a_configuration_that_cannot_work_shows_none() -> None:
    wire = {"type": "blob", "url": "u", "token": SECRET}
    for dataset in (BlobDataset("https://x/y", SECRET), wire):
        for wrong in ({"max_steps": -1}, {"extra": {"hubToken": SECRET, "odd": object()}}):
            error = caught(
                lambda: create_trainer(name="n", model=MODEL, dataset=dataset, **wrong)  # noqa: B023
            )
            assert error is not None
            check(error)


@pytest.mark.parametrize("token", [f"{SECRET} x", f"{SECRET}\n"])
def test_a_token_that_no_header_can_carry_is_not_shown(
    cloud: ScriptedCloud, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARKOR_TOKEN", f"{SECRET} {SECRET}")
    for credentials in (TokenCredentials(token), None):
        error = caught(CloudApiClient(cloud.url, credentials).me)
        assert error is not None
        check(error)


def test_an_identity_of_another_shape_is_not_shown(cloud: ScriptedCloud, home: Path) -> None:
    for answer in ({"token": SECRET}, {"token": [SECRET]}, f'"{SECRET}"', f"{SECRET}"):
        cloud.replies = [Reply(200, answer)]
        error = caught(lambda: ensure_credentials(cloud.url))
        assert error is not None
        check(error)


def test_a_broken_file_shows_none(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = home / ".arkor" / "credentials.json"
    path.parent.mkdir()
    whole = f'{{"mode": "anon", "token": "{SECRET}"}}'
    odd = (f'"{SECRET}"', f'["{SECRET}"]', whole)
    for text in (*odd, f'{{"mode": "{SECRET}', f'{{"mode": "anon", "token": ["{SECRET}"]}}'):
        path.write_text(text)
        error = caught(lambda: ensure_credentials("http://127.0.0.1:1"))
        assert error is not None
        check(error)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("status", [0, 403, 407])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("given", [False, True], ids=["variable", "session"])
def test_a_proxy_that_fails_shows_none(
    monkeypatch: pytest.MonkeyPatch, status: int, scheme: str, given: bool
) -> None:
    def refuse(connection: Connection, _: str) -> None:
        if status:
            connection.send(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        hang_up(connection, "")

    with Server(refuse) as proxy:
        url, session = f"http://me:{SECRET}@127.0.0.1:{proxy.port}", None
        if given:
            session = requests.Session()
            session.proxies = {"all": url}
        else:
            monkeypatch.setenv("ALL_PROXY", url)
        client = CloudApiClient(
            f"{scheme}://cloud.invalid", TokenCredentials(SECRET), session=session
        )
        error = caught(client.me)
        assert error is not None
        check(error)


def test_a_base_url_that_cannot_work_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = (SECRET, f"https://{SECRET}@x", f"ftp://x/?key={SECRET}", f"https://x/#{SECRET}")
    for url in (*odd, f"https://me:{SECRET}@[x", f"//me:{SECRET}@x"):
        monkeypatch.setenv("ARKOR_CLOUD_API_URL", url)
        for base_url in (url, None):
            error = caught(lambda: CloudApiClient(base_url, TokenCredentials("t")).me())  # noqa: B023
            assert error is not None
            check(error, variables=False)


def test_what_is_refused_shows_its_keys_and_no_values() -> None:
    for value in ({"token": SECRET}, [SECRET], (SECRET,), {"a": SECRET}):
        error = caught(lambda: build_job_config(model=MODEL, dataset=value))  # type: ignore[arg-type]  # noqa: B023
        assert error is not None
        check(error, variables=False)


def test_a_credentials_file_that_cannot_be_written_shows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, or a copy cannot be made: the content is in the variables down there."""
    path = tmp_path / "credentials.json"
    account = OAuthCredentials(SECRET, SECRET, 1, "d", "a", "c")
    write_credentials(account, path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("arkor_sync._common.files.os.replace", full)
    for call in (lambda: write_credentials(account, path), lambda: keep_old(path)):
        error = caught(call)
        assert isinstance(error, CredentialsError)
        assert isinstance(error.__cause__, OSError)
        assert error.__cause__.errno == errno.ENOSPC
        check(error)
