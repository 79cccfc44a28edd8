from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, List

import pytest

from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import AnonymousCredentials, OAuthCredentials, TokenCredentials
from arkor_sync.cloud.project import (
    ProjectState,
    derive_project,
    project_of_environment,
    read_project_state,
    write_project_state,
)
from arkor_sync.cloud.projects import ensure_project_state
from arkor_sync.errors import (
    ConflictError,
    ProjectStateError,
    ProjectStateMismatchError,
    ServerError,
)
from support.scripted_cloud import PROJECT, Received, Reply, ScriptedCloud

STATE = ProjectState("personal", "work", "project-1")
TEXT = """{
  "orgSlug": "personal",
  "projectSlug": "work",
  "projectId": "project-1"
}
"""
ANON = AnonymousCredentials("anon-secret", "id", None, "personal")
ACCOUNTS = [OAuthCredentials("a", "r", 1, "d", "au", "c"), TokenCredentials("bare-secret")]


@pytest.fixture
def path(work: Path) -> Path:
    return work / ".arkor" / "state.json"


@pytest.fixture
def plain_client(cloud: ScriptedCloud) -> CloudApiClient:
    return CloudApiClient(cloud.url, ANON)


def test_the_file_is_that_of_the_command_line(path: Path, work: Path) -> None:
    write_project_state(STATE)
    assert path.read_text() == TEXT
    assert read_project_state() == STATE
    assert read_project_state(work) == STATE
    assert read_project_state(str(work)) == STATE
    assert [each.name for each in path.parent.iterdir()] == ["state.json"]


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_the_file_has_the_usual_permissions(path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        write_project_state(STATE)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_unknown_keys_survive(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({**json.loads(TEXT), "region": "eu"}))
    state = read_project_state()
    assert state is not None
    assert state.extra == {"region": "eu"}
    write_project_state(state)
    assert json.loads(path.read_text())["region"] == "eu"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"orgSlug": "a", "projectSlug": "b"}',
        '{"orgSlug": "a", "projectSlug": "b", "projectId": 5}',
        "[" * 100_000,
    ],
)
def test_what_is_not_usable_reads_as_none(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    assert read_project_state() is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_an_editor_of_windows_saved_is_read(path: Path, encoding: str) -> None:
    path.parent.mkdir()
    path.write_bytes(TEXT.encode(encoding))
    assert read_project_state() == STATE


def test_missing_and_unreadable_read_as_none(path: Path, work: Path) -> None:
    assert read_project_state() is None
    path.mkdir(parents=True)
    assert read_project_state() is None
    assert read_project_state(work / "nowhere") is None


@pytest.mark.parametrize(
    ("directory", "name", "slug"),
    [
        ("/home/me/Proj_1.0", "Proj_1.0", "proj-1-0"),
        ("/home/me/!!!", "!!!", "project"),
        ("/", "project", "project"),
        ("/home/me/C:\\work\\bot\\", "bot", "bot"),
        ("/home/me/a--b", "a--b", "a--b"),
        ("/home/me/" + "x" * 80, "x" * 80, "x" * 40),
        ("/home/me/-" + "x" * 39 + "_y", "-" + "x" * 39 + "_y", "x" * 39 + "-"),
        ("/home/me/größe", "größe", "gr--e"),
        ("/home/me/a\U0001f600b", "a\U0001f600b", "a--b"),
        ("/home/me/\u212a9", "\u212a9", "k9"),
        ("/home/me/\u0130x", "\u0130x", "i-x"),
        ("/home/me/bot/", "bot", "bot"),
    ],
)
def test_name_and_slug(directory: str, name: str, slug: str) -> None:
    assert derive_project(directory) == (name, slug)


def test_name_and_slug_of_the_working_directory(work: Path) -> None:
    assert derive_project() == derive_project(".") == ("work", "work")


def test_a_name_that_is_not_text() -> None:
    assert derive_project(os.fsdecode(b"/home/me/a\xffb")) == ("a\ufffdb", "a-b")


@pytest.mark.parametrize("credentials", [ANON, *ACCOUNTS])
def test_a_matching_state_needs_no_request(
    cloud: ScriptedCloud, plain_client: CloudApiClient, credentials: Any
) -> None:
    write_project_state(STATE)
    assert ensure_project_state(plain_client, credentials) == STATE
    assert not cloud.received


@pytest.mark.parametrize("credentials", ACCOUNTS)
def test_an_account_may_use_any_organisation(
    plain_client: CloudApiClient, credentials: Any
) -> None:
    other = ProjectState("company", "p", "1")
    write_project_state(other)
    assert ensure_project_state(plain_client, credentials) == other


# The project of the environment.


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARKOR_ORG", " personal\n")
    monkeypatch.setenv("ARKOR_PROJECT", "named")


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("credentials", [ANON, *ACCOUNTS])
def test_the_environment_names_the_project_and_no_file_is_written(
    cloud: ScriptedCloud, plain_client: CloudApiClient, path: Path, credentials: Any
) -> None:
    expected = ProjectState("personal", "named")
    assert ensure_project_state(plain_client, credentials) == expected
    assert not path.parent.exists()
    write_project_state(STATE)
    assert ensure_project_state(plain_client, credentials) == expected
    assert path.read_text() == TEXT
    assert not cloud.received


@pytest.mark.usefixtures("named")
def test_a_request_goes_to_the_project_of_the_environment_unless_a_scope_is_given(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.reply({"jobs": []})
    late = CloudApiClient(cloud.url, ACCOUNTS[1])
    monkeypatch.setenv("ARKOR_PROJECT", "changed")
    late.jobs.list()
    monkeypatch.setenv("ARKOR_PROJECT", "too-late")
    late.jobs.list()
    CloudApiClient(cloud.url, ACCOUNTS[1], scope=STATE).jobs.list()
    assert [each.target.partition("?")[2] for each in cloud.received] == [
        "orgSlug=personal&projectSlug=changed",
        "orgSlug=personal&projectSlug=changed",
        "orgSlug=personal&projectSlug=work",
    ]


@pytest.mark.usefixtures("named")
def test_the_id_may_be_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARKOR_PROJECT_ID", "project-1")
    assert project_of_environment() == ProjectState("personal", "named", "project-1")


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_empty_variables_count_as_none(
    plain_client: CloudApiClient, monkeypatch: pytest.MonkeyPatch, empty: str
) -> None:
    for name in ("ARKOR_ORG", "ARKOR_PROJECT", "ARKOR_PROJECT_ID"):
        monkeypatch.setenv(name, empty)
    write_project_state(STATE)
    assert ensure_project_state(plain_client, ACCOUNTS[1]) == STATE


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["ARKOR_ORG"], "ARKOR_PROJECT"),
        (["ARKOR_PROJECT"], "ARKOR_ORG"),
        (["ARKOR_ORG", "ARKOR_PROJECT_ID"], "ARKOR_PROJECT"),
        (["ARKOR_PROJECT_ID"], "ARKOR_ORG and ARKOR_PROJECT"),
    ],
)
def test_a_part_of_a_project_is_refused_with_the_name_of_the_rest(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch, given: List[str], missing: str
) -> None:
    write_project_state(STATE)  # and it is not another project that is used instead
    for name in given:
        monkeypatch.setenv(name, "value")
    client = CloudApiClient(cloud.url, ACCOUNTS[1])
    with pytest.raises(ProjectStateError, match=f"^{missing} must be set too") as caught:
        client.jobs.list()
    assert f"the environment has {' and '.join(given)};" in str(caught.value)
    assert not cloud.received


@pytest.mark.usefixtures("named")
def test_the_environment_names_another_organisation_than_that_of_an_anonymous_identity(
    cloud: ScriptedCloud, plain_client: CloudApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARKOR_ORG", "company")
    with pytest.raises(
        ProjectStateMismatchError, match=r"ARKOR_ORG names .*'company'.*'personal'; unset ARKOR_ORG"
    ):
        ensure_project_state(plain_client, ANON)
    assert not cloud.received


@pytest.mark.parametrize("credentials", ACCOUNTS)
def test_an_account_without_a_state_is_told_to_write_it(
    cloud: ScriptedCloud, plain_client: CloudApiClient, path: Path, credentials: Any
) -> None:
    with pytest.raises(ProjectStateError, match="write it by hand") as caught:
        ensure_project_state(plain_client, credentials)
    assert str(path) in str(caught.value)
    keys = ("orgSlug", "projectSlug", "projectId", "ARKOR_ORG", "ARKOR_PROJECT")
    for key in (*keys, "`arkor-sync projects use ORG/PROJECT`"):
        assert key in str(caught.value)
    assert not cloud.received


def test_a_state_of_another_anonymous_organisation(
    cloud: ScriptedCloud, plain_client: CloudApiClient, path: Path
) -> None:
    write_project_state(ProjectState("other", "p", "1"))
    before = path.read_bytes()
    with pytest.raises(ProjectStateMismatchError, match=r"'other'.*'personal'.*remove the file"):
        ensure_project_state(plain_client, ANON)
    assert path.read_bytes() == before
    assert not cloud.received


def test_an_anonymous_identity_gets_a_project(
    cloud: ScriptedCloud, plain_client: CloudApiClient, path: Path
) -> None:
    cloud.reply({"project": {**PROJECT, "slug": "work-2"}}, status=201)
    state = ensure_project_state(plain_client, ANON)
    assert state == ProjectState("personal", "work-2", "project-1")
    assert read_project_state() == state
    (request,) = cloud.received
    assert (request.method, request.target) == ("POST", "/v1/projects?orgSlug=personal")
    assert request.json == {"name": "work", "slug": "work"}


def test_a_taken_slug_is_used_again(
    cloud: ScriptedCloud, plain_client: CloudApiClient, path: Path
) -> None:
    cloud.reply({"error": "taken"}, status=409)
    others = [{**PROJECT, "id": "other", "slug": "work-1"}, PROJECT]
    cloud.reply({"org": {"slug": "personal"}, "projects": others})
    assert ensure_project_state(plain_client, ANON) == STATE
    assert path.read_text() == TEXT
    assert [(each.method, each.path) for each in cloud.received] == [
        ("POST", "/v1/projects"),
        ("GET", "/v1/projects"),
    ]


def test_a_taken_slug_that_is_nowhere(
    cloud: ScriptedCloud, plain_client: CloudApiClient, path: Path
) -> None:
    cloud.reply({"error": "taken"}, status=409)
    cloud.reply({"org": {"slug": "personal"}, "projects": []})
    with pytest.raises(ConflictError, match="taken"):
        ensure_project_state(plain_client, ANON)
    assert not path.exists()


def test_another_error_asks_no_further(
    cloud: ScriptedCloud, plain_client: CloudApiClient, path: Path
) -> None:
    cloud.reply({"error": "down"}, status=503)
    with pytest.raises(ServerError):
        ensure_project_state(plain_client, ANON)
    assert len(cloud.received) == 1
    assert not path.exists()


def test_a_state_that_cannot_be_written(
    cloud: ScriptedCloud, plain_client: CloudApiClient, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    cloud.reply({"project": PROJECT}, status=201)
    (work / ".arkor").write_text("in the way")
    with pytest.raises(ProjectStateError, match="cannot be written") as caught:
        ensure_project_state(plain_client, ANON)
    assert isinstance(caught.value.__cause__, OSError)


def test_two_programs_in_one_directory(cloud: ScriptedCloud, plain_client: CloudApiClient) -> None:
    taken = []

    def answer(request: Received) -> Reply:
        if request.method == "GET":
            return Reply(content={"org": {}, "projects": [PROJECT]})
        taken.append(request)
        if len(taken) > 1:
            return Reply(409, {"error": "taken"})
        return Reply(201, {"project": PROJECT})

    cloud.replies = [answer]
    first = ensure_project_state(plain_client, ANON)
    (Path(".arkor") / "state.json").unlink()
    assert ensure_project_state(plain_client, ANON) == first
