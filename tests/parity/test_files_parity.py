"""The files below `.arkor/` in every shape: written here and read by the rules, and the other way.

The rules are those of the TypeScript command line: how it writes (`JSON.stringify` with two
spaces, no newline at the end of the credentials, one at the end of the state), and what it takes.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from arkor_sync import (
    AnonymousCredentials,
    CloudApiClient,
    CredentialsError,
    OAuthCredentials,
    ProjectState,
    credentials_path,
    project_state_path,
    read_credentials,
    read_project_state,
    write_credentials,
    write_project_state,
)
from arkor_sync.credentials import sign_in, sign_in_anonymously
from arkor_sync.emulator import Emulator
from arkor_sync.project import use_project
from support.visitors import Visitor, browse
from support.waiting import PATIENCE

ANONYMOUS = """{
  "mode": "anon",
  "token": "anon-secret",
  "anonymousId": "anonymous-1",
  "arkorCloudApiUrl": "https://api.arkor.ai",
  "orgSlug": "personal"
}"""
ACCOUNT = """{
  "mode": "oauth",
  "accessToken": "access-secret",
  "refreshToken": "refresh-secret",
  "expiresAt": 1767225600,
  "auth0Domain": "arkor.auth0.com",
  "audience": "https://api.arkor.ai",
  "clientId": "client-1",
  "arkorCloudApiUrl": "https://api.arkor.ai"
}"""
OLDER = ACCOUNT.replace(',\n  "arkorCloudApiUrl": "https://api.arkor.ai"', "")
EMPTY_ADDRESS = ACCOUNT.replace(
    '"arkorCloudApiUrl": "https://api.arkor.ai"', '"arkorCloudApiUrl": ""'
)
ALPHA = OLDER.replace('"oauth"', '"auth0"')
NO_REFRESH = OLDER.replace('\n  "refreshToken": "refresh-secret",', "")
STATE = """{
  "orgSlug": "personal",
  "projectSlug": "work",
  "projectId": "project-1"
}
"""

CREDENTIALS: Dict[str, Tuple[str, Any]] = {
    "anonymous": (
        ANONYMOUS,
        AnonymousCredentials("anon-secret", "anonymous-1", "https://api.arkor.ai", "personal"),
    ),
    "account": (
        ACCOUNT,
        OAuthCredentials(
            "access-secret",
            "refresh-secret",
            1767225600,
            "arkor.auth0.com",
            "https://api.arkor.ai",
            "client-1",
            "https://api.arkor.ai",
        ),
    ),
    "account of an older version": (
        OLDER,
        OAuthCredentials(
            "access-secret",
            "refresh-secret",
            1767225600,
            "arkor.auth0.com",
            "https://api.arkor.ai",
            "client-1",
        ),
    ),
    "account with an empty address": (
        EMPTY_ADDRESS,
        OAuthCredentials(
            "access-secret",
            "refresh-secret",
            1767225600,
            "arkor.auth0.com",
            "https://api.arkor.ai",
            "client-1",
            "",
        ),
    ),
    "account without a refresh token": (
        NO_REFRESH,
        OAuthCredentials(
            "access-secret",
            None,
            1767225600,
            "arkor.auth0.com",
            "https://api.arkor.ai",
            "client-1",
        ),
    ),
}


class Typescript:
    """The TypeScript command line, as its rules say: it checks no fields after parsing."""

    @staticmethod
    def read(path: Path) -> Optional[Dict[str, Any]]:
        """Read the credentials: none where there is no file or no JSON."""
        try:
            value = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return value or None

    @staticmethod
    def bearer(credentials: Dict[str, Any]) -> Any:
        """Return the token: what is not anonymous is an account."""
        return credentials["token" if credentials["mode"] == "anon" else "accessToken"]

    @staticmethod
    def write(value: Dict[str, Any], path: Path, end: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + end, "utf-8")

    @staticmethod
    def read_state(path: Path) -> Optional[Dict[str, Any]]:
        try:
            value = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        names = ("orgSlug", "projectSlug", "projectId")
        fits = isinstance(value, dict) and all(isinstance(value.get(each), str) for each in names)
        return value if fits else None


@pytest.mark.parametrize("name", CREDENTIALS)
def test_what_is_written_here_is_what_is_written_there(name: str) -> None:
    text, credentials = CREDENTIALS[name]
    write_credentials(credentials)
    path = credentials_path()
    assert path.read_bytes() == text.encode(), "two spaces, the same order, no newline at the end"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = Typescript.read(path)
    assert found is not None
    assert Typescript.bearer(found) == credentials.bearer
    Typescript.write(found, path, "")
    assert path.read_bytes() == text.encode()


@pytest.mark.parametrize("name", CREDENTIALS)
def test_what_is_written_there_is_read_here(name: str) -> None:
    text, credentials = CREDENTIALS[name]
    Typescript.write(json.loads(text), credentials_path(), "")
    assert read_credentials() == credentials


def test_an_account_of_an_alpha_is_read_and_written_as_an_account() -> None:
    path = credentials_path()
    path.parent.mkdir()
    path.write_text(ALPHA)
    found = read_credentials()
    assert found == CREDENTIALS["account of an older version"][1]
    write_credentials(found)
    assert path.read_text() == OLDER


def test_keys_of_other_versions_stay_at_the_end() -> None:
    for text in (ANONYMOUS, ACCOUNT):
        longer = text.replace("\n}", ',\n  "createdBy": {\n    "cli": 2\n  }\n}')
        Typescript.write(json.loads(longer), credentials_path(), "")
        found = read_credentials()
        assert found is not None
        write_credentials(found)
        assert credentials_path().read_text() == longer


@pytest.mark.parametrize("text", ["null", "false", "0", '""', "", "{", '{"mode": "anon",'])
def test_what_counts_as_no_identity_on_both_sides(text: str) -> None:
    path = credentials_path()
    path.parent.mkdir()
    path.write_text(text)
    assert read_credentials() is None
    assert Typescript.read(path) is None
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["[]", "[1]", "{}", "5", "true", '"text"', '{"mode": "magic"}'])
def test_what_is_no_identity_is_an_error_here_and_a_401_there(
    text: str, emulator: Emulator
) -> None:
    """Listed in the README as a difference: there the first request fails, without a token."""
    path = credentials_path()
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(CredentialsError, match="sign in again, or remove the file"):
        CloudApiClient(emulator.url).me()
    assert emulator.requests == []
    assert path.read_text() == text


def test_what_a_sign_in_writes_is_in_the_form_of_the_other_side(make_emulator: Any) -> None:
    emulator = make_emulator(account_sign_in=True, sign_in_answer="allow")
    path = credentials_path()
    keys: List[List[str]] = []
    sign_in(emulator.url, open_browser=False, on_url=Visitor(browse), timeout=PATIENCE)
    for again in (True, False):
        text = path.read_text()
        value = Typescript.read(path)
        assert value is not None
        keys.append(list(value))
        assert text == json.dumps(value, indent=2)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if again:
            sign_in_anonymously(emulator.url)
    assert keys == [list(json.loads(ACCOUNT)), list(json.loads(ANONYMOUS))]


def test_the_state_is_the_same_on_both_sides() -> None:
    state, path = ProjectState("personal", "work", "project-1"), project_state_path()
    write_project_state(state)
    assert path.read_bytes() == STATE.encode(), "with a newline at the end"
    assert Typescript.read_state(path) == json.loads(STATE)
    Typescript.write(json.loads(STATE), path, "\n")
    assert read_project_state() == state


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "5",
        '{"orgSlug": "o", "projectSlug": "p"}',
        '{"orgSlug": "o", "projectSlug": "p", "projectId": 5}',
        '{"orgSlug": null, "projectSlug": "p", "projectId": "i"}',
    ],
)
def test_what_is_no_state_on_both_sides(text: str) -> None:
    path = project_state_path()
    path.parent.mkdir()
    path.write_text(text)
    assert Typescript.read_state(path) is None
    assert read_project_state() is None


def test_a_chosen_project_is_read_there_and_keeps_its_other_keys(emulator: Emulator) -> None:
    path = project_state_path()
    old = {"orgSlug": "o", "projectSlug": "p", "projectId": "i", "note": {"mine": [1]}}
    Typescript.write(old, path, "\n")
    state = use_project(emulator.client(), emulator.org_slug, emulator.project_slug)
    assert Typescript.read_state(path) == {
        "orgSlug": emulator.org_slug,
        "projectSlug": emulator.project_slug,
        "projectId": emulator.project_id,
        "note": {"mine": [1]},
    }
    assert list(Typescript.read_state(path) or {}) == list(old)
    assert path.read_text().endswith("}\n")
    assert read_project_state() == state
