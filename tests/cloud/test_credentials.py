from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import stat
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    Credentials,
    OAuthCredentials,
    TokenCredentials,
    ensure_credentials,
    read_credentials,
    request_anonymous_token,
    resolve_base_url,
    write_credentials,
)
from arkor_sync.errors import (
    AnonymousTokenRejectedError,
    ArkorConnectionError,
    ArkorUsageError,
    AuthenticationError,
    CredentialsError,
    ResponseError,
    UpgradeRequiredError,
)
from support.forking import lock_of_another
from support.scripted_cloud import ANONYMOUS, Reply, ScriptedCloud
from support.waiting import Background

ABSENT = object()

ANON = AnonymousCredentials("anon-secret", "anonymous-1", "https://api.arkor.ai", "personal")
OAUTH = OAuthCredentials(
    access_token="access-secret",
    refresh_token="refresh-secret",
    expires_at=1767225600,
    auth0_domain="arkor.auth0.com",
    audience="https://api.arkor.ai",
    client_id="client-1",
)
ANON_TEXT = """{
  "mode": "anon",
  "token": "anon-secret",
  "anonymousId": "anonymous-1",
  "arkorCloudApiUrl": "https://api.arkor.ai",
  "orgSlug": "personal"
}"""
OAUTH_TEXT = """{
  "mode": "oauth",
  "accessToken": "access-secret",
  "refreshToken": "refresh-secret",
  "expiresAt": 1767225600,
  "auth0Domain": "arkor.auth0.com",
  "audience": "https://api.arkor.ai",
  "clientId": "client-1"
}"""


@pytest.fixture
def path(home: Path) -> Path:
    path = home / ".arkor" / "credentials.json"
    path.parent.mkdir()
    return path


def files(path: Path) -> List[str]:
    return sorted(each.name for each in path.parent.iterdir())


@pytest.mark.parametrize(("credentials", "text"), [(ANON, ANON_TEXT), (OAUTH, OAUTH_TEXT)])
def test_the_file_is_that_of_the_command_line(
    path: Path, credentials: Credentials, text: str
) -> None:
    write_credentials(credentials)
    assert path.read_text() == text
    assert read_credentials() == credentials
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files(path) == ["credentials.json"]


def test_the_directory_is_made_on_demand(home: Path) -> None:
    write_credentials(ANON)
    assert read_credentials() == ANON
    assert read_credentials(home / ".arkor" / "credentials.json") == ANON


def test_a_file_of_another_mode_is_closed_again(path: Path) -> None:
    path.write_text(OAUTH_TEXT)
    path.chmod(0o644)
    write_credentials(ANON)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_text_beyond_ascii_is_written_as_the_command_line_does(path: Path) -> None:
    odd = AnonymousCredentials("t", "id", "https://x", "größe-\u2028-\ud800-\n")
    write_credentials(odd)
    assert '"orgSlug": "größe-\u2028-\\ud800-\\n"'.encode() in path.read_bytes()
    assert read_credentials() == odd


def test_keys_of_other_versions_survive(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(ANON_TEXT), "createdBy": {"cli": 2}}))
    found = read_credentials()
    assert found is not None
    write_credentials(found)
    assert json.loads(path.read_text())["createdBy"] == {"cli": 2}


def test_the_older_name_of_an_account(path: Path) -> None:
    path.write_text(OAUTH_TEXT.replace('"oauth"', '"auth0"'))
    assert read_credentials() == OAUTH


def test_bearers() -> None:
    assert ANON.bearer == "anon-secret"
    assert OAUTH.bearer == "access-secret"
    assert TokenCredentials("bare").bearer == "bare"


def test_no_file(home: Path) -> None:
    assert read_credentials() is None
    assert not (home / ".arkor").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", ANON_TEXT[:40].encode(), b"\xff\xfe", b'{"mode": NaN}', b"[" * 100_000],
)
def test_what_is_not_json_reads_as_none(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    assert read_credentials() is None
    assert path.read_bytes() == content
    assert not caplog.records


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mode": "magic"}, "mode: expected 'anon' or 'oauth', got str 'magic'"),
        ({"mode": None}, "mode"),
        ({"token": None}, "token: expected a string, got None"),
        ({"token": 123456}, "token: expected a string, got an int"),
        ({"anonymousId": 5}, "anonymousId: expected a string, got int 5"),
        ({"orgSlug": []}, "orgSlug"),
        ({"mode": "oauth"}, "accessToken: expected a string, got nothing"),
    ],
)
def test_json_without_usable_credentials_is_an_error(
    path: Path, change: Dict[str, Any], named: str
) -> None:
    content = json.dumps({**json.loads(ANON_TEXT), **change})
    path.write_text(content)
    with pytest.raises(CredentialsError) as caught:
        ensure_credentials()
    assert named in str(caught.value)
    assert str(path) in str(caught.value)
    assert "anon-secret" not in str(caught.value)
    assert "123456" not in str(caught.value)
    assert path.read_text() == content


@pytest.mark.parametrize("value", [None, "soon", 1.5, True])
def test_the_end_of_an_access_token_is_a_whole_number(path: Path, value: Any) -> None:
    path.write_text(json.dumps({**json.loads(OAUTH_TEXT), "expiresAt": value}))
    with pytest.raises(CredentialsError, match="expiresAt: expected a whole number, got"):
        read_credentials()


@pytest.mark.parametrize("content", ["null", " null\n", "false", "0", '""'])
def test_what_javascript_takes_for_nothing_is_no_identity(
    path: Path, cloud: ScriptedCloud, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(content)
    assert read_credentials() is None
    cloud.reply(ANONYMOUS)
    assert ensure_credentials(cloud.url).bearer == ANONYMOUS["token"]
    assert "holds no credentials; replacing it" in caplog.text
    assert read_credentials() == ensure_credentials(cloud.url)


@pytest.mark.parametrize(
    "change",
    [
        {"refreshToken": None},
        {"refreshToken": ""},
        {"refreshToken": "", "expiresAt": 1},
        {"refreshToken": ABSENT},
        dict.fromkeys(("refreshToken", "expiresAt", "auth0Domain", "audience", "clientId"), ABSENT),
    ],
    ids=["null", "empty", "expired", "absent", "nothing but the token"],
)
def test_an_account_without_a_refresh_token_is_used_as_it_is(
    path: Path, cloud: ScriptedCloud, change: Dict[str, Any]
) -> None:
    wire = {**json.loads(OAUTH_TEXT), **change}
    path.write_text(json.dumps({key: value for key, value in wire.items() if value is not ABSENT}))
    found = read_credentials()
    assert isinstance(found, OAuthCredentials)
    assert found.refresh_token is None
    write_credentials(found)
    assert read_credentials() == found
    assert "refreshToken" not in json.loads(path.read_text())
    cloud.reply({"user": {}, "orgs": []})
    client = CloudApiClient(cloud.url)
    client.me()
    assert cloud.received[0].headers["Authorization"] == "Bearer access-secret"
    cloud.replies[0] = Reply(401, {"error": "expired"})
    with pytest.raises(AuthenticationError):
        client.me()
    assert len(cloud.received) == 2


@pytest.mark.parametrize("content", ["[]", "{}", "5", "true", '"text"'])
def test_json_of_another_kind_is_an_error(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(CredentialsError, match=r"expected an object|mode: expected"):
        read_credentials()


def test_a_directory_in_place_of_the_file(path: Path, cloud: ScriptedCloud) -> None:
    path.mkdir()
    for call in (read_credentials, lambda: ensure_credentials(cloud.url)):
        with pytest.raises(CredentialsError, match="cannot be read") as caught:
            call()
        assert isinstance(caught.value.__cause__, IsADirectoryError)
    assert path.is_dir()
    assert not cloud.received


def test_an_unreadable_file(
    path: Path, cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(ANON_TEXT)

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("arkor_sync.cloud.credentials.read_text", refuse)
        with pytest.raises(CredentialsError, match="cannot be read: Permission denied") as caught:
            ensure_credentials(cloud.url)
    assert isinstance(caught.value.__cause__, PermissionError)
    assert path.read_text() == ANON_TEXT
    assert not cloud.received


def test_a_file_in_place_of_the_directory(home: Path, cloud: ScriptedCloud) -> None:
    (home / ".arkor").write_text("")
    with pytest.raises(CredentialsError):
        ensure_credentials(cloud.url)
    assert not cloud.received


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failing_write_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path.write_text(OAUTH_TEXT)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(CredentialsError, match="cannot be written: No space left") as caught:
        write_credentials(ANON)
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_text() == OAUTH_TEXT
    assert files(path) == ["credentials.json"]


def test_ctrl_c_in_a_write_leaves_no_temporary_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_credentials(ANON)
    assert files(path) == []


def test_concurrent_writers_leave_one_whole_file(path: Path) -> None:
    everyone = [
        AnonymousCredentials(f"token-{i}" * 50, f"id-{i}", "u", f"org-{i}") for i in range(8)
    ]
    write_credentials(everyone[0])
    barrier = threading.Barrier(len(everyone) + 1)
    seen: List[Any] = []

    def write(credentials: AnonymousCredentials) -> None:
        barrier.wait(10)
        for _ in range(10):
            write_credentials(credentials)

    threads = [threading.Thread(target=write, args=(each,)) for each in everyone]
    for thread in threads:
        thread.start()
    barrier.wait(10)
    while any(thread.is_alive() for thread in threads):
        seen.append(read_credentials())
    for thread in threads:
        thread.join()
    assert set(seen) <= set(everyone)
    assert read_credentials() in everyone
    assert files(path) == ["credentials.json"]


def test_a_bare_token_is_not_written(path: Path) -> None:
    with pytest.raises(ArkorUsageError):
        write_credentials(TokenCredentials("bare-secret"))
    assert files(path) == []


def test_the_environment_comes_before_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, cloud: ScriptedCloud
) -> None:
    path.write_text(ANON_TEXT)
    monkeypatch.setenv("ARKOR_TOKEN", " bare-secret\n")
    assert ensure_credentials(cloud.url) == TokenCredentials("bare-secret")
    monkeypatch.setenv("ARKOR_TOKEN", "")
    assert ensure_credentials(cloud.url) == ANON
    assert not cloud.received


def test_the_first_use_mints_an_anonymous_identity(
    home: Path,
    cloud: ScriptedCloud,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("ARKOR_TOKEN", "")  # a secret that is not there for this job
    cloud.reply(ANONYMOUS)
    found = ensure_credentials(cloud.url + "//")
    assert found == AnonymousCredentials(
        ANONYMOUS["token"],  # type: ignore[arg-type]
        "anonymous-1",
        cloud.url,
        "personal",
    )
    assert read_credentials() == found
    assert ensure_credentials("http://127.0.0.1:1") == found
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("arkor_sync.credentials", logging.WARNING)
    said = record.getMessage()
    assert said.startswith(f"ARKOR_TOKEN is not set and {home}/.arkor/credentials.json held no ")
    assert f"made a new anonymous account at {cloud.url}, and kept it in that file" in said
    assert found.bearer not in said
    (request,) = cloud.received
    assert (request.method, request.target) == ("POST", "/v1/auth/anonymous")
    assert request.json == {"kind": "cli"}
    assert request.headers["X-Arkor-Client"].startswith("arkor/")
    assert "Authorization" not in request.headers


def test_without_a_base_url_the_environment_names_the_cloud(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.reply(ANONYMOUS)
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", f"{cloud.url}/")
    assert ensure_credentials().arkor_cloud_api_url == cloud.url


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_a_file_that_an_editor_of_windows_saved_keeps_the_identity(
    path: Path, cloud: ScriptedCloud, encoding: str
) -> None:
    path.write_bytes(ANON_TEXT.encode(encoding))
    assert ensure_credentials(cloud.url) == ANON
    assert not cloud.received
    write_credentials(ANON)
    assert path.read_text() == ANON_TEXT


def test_a_link_stays_a_link_and_the_new_token_is_where_it_leads_to(
    path: Path, tmp_path: Path
) -> None:
    dotfile = tmp_path / "dotfiles.json"
    dotfile.write_text(ANON_TEXT)
    path.symlink_to(dotfile)
    write_credentials(OAUTH)
    assert path.is_symlink()
    assert dotfile.read_text() == OAUTH_TEXT
    assert files(path) == ["credentials.json"]


def test_a_file_that_is_mounted_gets_the_new_token(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    path.write_text(ANON_TEXT)
    monkeypatch.setattr("os.replace", busy)
    write_credentials(OAUTH)
    assert path.read_text() == OAUTH_TEXT
    assert files(path) == ["credentials.json"]


def test_what_is_made_is_the_users_own_whatever_the_umask_is(home: Path) -> None:
    old = os.umask(0)
    try:
        write_credentials(ANON)
    finally:
        os.umask(old)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (home / ".arkor").glob("**/*")]
    assert modes == [0o600]
    assert stat.S_IMODE((home / ".arkor").stat().st_mode) == 0o700


def test_a_corrupt_file_is_not_replaced_if_it_cannot_be_kept(
    path: Path, cloud: ScriptedCloud
) -> None:
    path.write_text("{")
    path.with_name("credentials.json.bak").symlink_to(path / "below a file")
    with pytest.raises(
        CredentialsError, match=r"cannot be copied to credentials.json.bak: Not a directory"
    ):
        ensure_credentials(cloud.url)
    assert path.read_text() == "{"
    assert not cloud.received


def test_a_corrupt_file_is_replaced_with_a_warning(
    path: Path, cloud: ScriptedCloud, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text('{"token": "old-secret')
    cloud.reply(ANONYMOUS)
    assert ensure_credentials(cloud.url).bearer == ANONYMOUS["token"]
    record, _ = caplog.records  # the second tells of the new account
    assert (record.name, record.levelno) == ("arkor_sync.credentials", logging.WARNING)
    assert f"{path} holds no credentials; replacing it" in record.getMessage()
    assert "old-secret" not in caplog.text
    assert read_credentials() is not None
    copy = path.with_name("credentials.json.bak")
    assert copy.read_text() == '{"token": "old-secret'
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_refused_identity_writes_nothing(path: Path, cloud: ScriptedCloud) -> None:
    cloud.reply("x" * 1000, status=403)
    with pytest.raises(AnonymousTokenRejectedError, match="403") as caught:
        ensure_credentials(cloud.url)
    assert (caught.value.status, caught.value.body) == (403, "x" * 500)
    assert files(path) == []


def test_the_reason_of_a_refused_version_is_kept(cloud: ScriptedCloud) -> None:
    cloud.reply({"error": "sdk_version_unsupported", "reason": "missing"}, status=426)
    with pytest.raises(AnonymousTokenRejectedError) as caught:
        request_anonymous_token(cloud.url)
    assert isinstance(caught.value.__cause__, UpgradeRequiredError)
    assert "X-Arkor-Client" in str(caught.value.__cause__)


def test_a_refusal_whose_body_breaks_off(cloud: ScriptedCloud) -> None:
    cloud.reply("no", status=403, length=100)
    with pytest.raises(AnonymousTokenRejectedError) as caught:
        request_anonymous_token(cloud.url)
    assert caught.value.body == ""


def test_an_identity_without_its_organisation_is_refused(path: Path, cloud: ScriptedCloud) -> None:
    cloud.reply({**ANONYMOUS, "personalOrg": {"slug": "personal"}})
    with pytest.raises(ResponseError, match=r"personalOrg\.id") as caught:
        ensure_credentials(cloud.url)
    assert str(ANONYMOUS["token"]) not in str(caught.value)
    assert files(path) == []


def test_a_cut_identity_shows_nothing_of_its_token(cloud: ScriptedCloud) -> None:
    cloud.reply('{"token": "fresh-secret", "anonym')
    with pytest.raises(ResponseError, match="expected JSON") as caught:
        request_anonymous_token(cloud.url)
    assert "fresh-secret" not in str(caught.value)


def test_no_cloud(path: Path) -> None:
    with pytest.raises(ArkorConnectionError):
        ensure_credentials("http://127.0.0.1:1")
    assert files(path) == []


def test_those_who_come_at_the_same_time_share_one_identity(
    path: Path, cloud: ScriptedCloud
) -> None:
    cloud.reply(ANONYMOUS)
    barrier = threading.Barrier(6)
    found: List[Credentials] = []

    def ensure() -> None:
        barrier.wait(10)
        found.append(ensure_credentials(cloud.url))

    threads = [threading.Thread(target=ensure) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert len(cloud.received) == 1
    assert files(path) == ["credentials.json"]


def test_a_lock_that_another_program_never_gives_up_ends_a_request_in_time(
    cloud: ScriptedCloud, path: Path
) -> None:
    cloud.replies = [Reply(200, ANONYMOUS)]
    client = CloudApiClient(cloud.url, timeout=(0.1, 0.2))
    with (
        lock_of_another(path.parent),
        pytest.raises(CredentialsError, match=f"{path.parent} has been locked by another program"),
    ):
        Background(client.me).result()
    assert cloud.received == []
    assert ensure_credentials(cloud.url) == read_credentials()


def test_processes_that_come_at_the_same_time_share_one_identity(
    path: Path, cloud: ScriptedCloud
) -> None:
    import subprocess
    import sys

    cloud.reply(ANONYMOUS)
    code = "import sys; from arkor_sync.cloud.credentials import *; ensure_credentials(sys.argv[1])"
    processes = [subprocess.Popen([sys.executable, "-c", code, cloud.url]) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len(cloud.received) == 1
    assert read_credentials() is not None
    assert files(path) == ["credentials.json"]


def test_no_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(CredentialsError, match="HOME"):
        ensure_credentials()


@pytest.mark.parametrize("credentials", [ANON, OAUTH, TokenCredentials("bare-secret", "https://x")])
def test_credentials_show_no_secret_and_pickle(credentials: Any) -> None:
    for text in (repr(credentials), str(credentials), f"{credentials}", repr([credentials])):
        assert "secret" not in text
    assert pickle.loads(pickle.dumps(credentials)) == credentials
    assert hash(credentials) == hash(pickle.loads(pickle.dumps(credentials)))


def with_url(url: Any) -> List[Callable[[], Credentials]]:
    return [
        lambda: AnonymousCredentials("t", "i", url, "o"),
        lambda: OAuthCredentials("a", "r", 1, "d", "au", "c", url),
        lambda: TokenCredentials("t", url),
    ]


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ("https://env.test", "https://file.test", "https://env.test"),
        ("https://env.test///", None, "https://env.test"),
        ("", "https://file.test", "https://file.test"),
        ("", None, "https://api.arkor.ai"),
        (" https://env.test/\r\n", None, "https://env.test"),
        ("\n", "https://file.test", "https://file.test"),
        (None, "https://file.test/\n", "https://file.test"),
        (None, "https://file.test//", "https://file.test"),
        (None, "", ""),
        (None, None, "https://api.arkor.ai"),
        (None, 5, "https://api.arkor.ai"),
    ],
)
def test_base_url(
    monkeypatch: pytest.MonkeyPatch, environment: Any, url: Any, expected: str
) -> None:
    if environment is not None:
        monkeypatch.setenv("ARKOR_CLOUD_API_URL", environment)
    for make in with_url(url):
        assert resolve_base_url(make()) == expected


def test_base_url_without_credentials() -> None:
    assert resolve_base_url() == "https://api.arkor.ai"


@pytest.mark.parametrize("url", [None, 5, ["x"]])
@pytest.mark.parametrize("text", [ANON_TEXT, OAUTH_TEXT])
def test_a_file_whose_url_is_no_string_is_usable(path: Path, text: str, url: Any) -> None:
    path.write_text(json.dumps({**json.loads(text), "arkorCloudApiUrl": url}))
    assert resolve_base_url(read_credentials()) == "https://api.arkor.ai"


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t"])
def test_a_newline_at_the_end_of_a_token_or_an_address_is_no_part_of_it(
    path: Path, cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    cloud.reply({"user": {}, "orgs": []})
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", f"{cloud.url}/{end}")
    CloudApiClient(credentials=TokenCredentials(f" secret-token{end}")).me()
    CloudApiClient(f" {cloud.url}/{end}", lambda: TokenCredentials(f"secret-token{end}")).me()
    path.write_text(json.dumps({**json.loads(ANON_TEXT), "token": f"secret-token{end}"}))
    CloudApiClient().me()
    monkeypatch.setenv("ARKOR_TOKEN", f"secret-token{end}")
    CloudApiClient().me()
    sent = [(each.target, each.headers["Authorization"]) for each in cloud.received]
    assert sent == [("/v1/me", "Bearer secret-token")] * 4


def test_a_token_that_differs_by_a_newline_is_no_other_token(cloud: ScriptedCloud) -> None:
    answers = iter(["secret-token", "secret-token\n", "secret-token"])
    client = CloudApiClient(cloud.url, lambda: TokenCredentials(next(answers)))
    cloud.reply({"error": "expired"}, status=401)
    with pytest.raises(AuthenticationError):
        client.me()
    assert len(cloud.received) == 1


@pytest.mark.parametrize("url", ["https://exa mple.com", "https://x\ny.com", "https://x.com/\0"])
def test_white_space_within_an_address_is_refused(url: str) -> None:
    with pytest.raises(ArkorUsageError, match="base_url"):
        CloudApiClient(url)
