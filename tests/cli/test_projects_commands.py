"""`projects list`, `use` and `create`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest

from arkor_sync import OAuthCredentials, write_credentials
from arkor_sync.credentials import sign_in
from arkor_sync.emulator import Emulator
from support.command_line import CommandLine
from support.visitors import Visitor, browse
from support.waiting import PATIENCE


@pytest.fixture
def account(nobody: CommandLine, emulator: Emulator) -> CommandLine:
    """A user who has signed in with an account of two organisations, and chosen nothing."""
    emulator.settings.account_sign_in = True
    emulator.settings.sign_in_answer = "allow"
    sign_in(
        emulator.url,
        open_browser=False,
        on_url=Visitor(browse),
        timeout=PATIENCE,
        path=nobody.home / ".arkor" / "credentials.json",
    )
    return nobody


@pytest.fixture
def state(account: CommandLine) -> Path:
    return account.cwd / ".arkor" / "state.json"


def wire(emulator: Emulator, **more: Any) -> Dict[str, Any]:
    return {
        "orgSlug": emulator.org_slug,
        "projectSlug": emulator.project_slug,
        "projectId": emulator.project_id,
        **more,
    }


def test_list_use_and_work(account: CommandLine, emulator: Emulator, state: Path) -> None:
    account("projects", "create", "second-org/bot", "--name", "Support bot")
    ended = account("projects", "list")
    assert ended.stdout == (
        "emulator-org/emulator-project\tEmulator project\tno\nsecond-org/bot\tSupport bot\tno\n"
    )
    assert not state.exists()
    ended = account("projects", "use", "emulator-org/emulator-project", "--json")
    assert ended.json == wire(emulator, path=str(state))
    assert state.read_text() == json.dumps(wire(emulator), indent=2) + "\n"
    (first, second) = account("projects", "list", "--json").json
    assert first == wire(
        emulator,
        project="emulator-org/emulator-project",
        name="Emulator project",
        current=True,
    )
    assert not second["current"]
    only = account("projects", "list", "--org", "second-org").stdout
    assert only == "second-org/bot\tSupport bot\tno\n"


def test_other_keys_of_the_file_stay_and_text_that_is_no_state_is_kept(
    account: CommandLine, emulator: Emulator, state: Path
) -> None:
    state.parent.mkdir()
    for old, kept, copies in (
        ('{"note": 1, "orgSlug": "x"}', {"note": 1}, []),
        ("{", {}, ["{"]),
        ("[1]", {}, ["{", "[1]"]),
    ):
        state.write_text(old)
        account("projects", "use", "emulator-org/emulator-project")
        assert json.loads(state.read_text()) == wire(emulator, **kept)
        found = sorted(state.parent.glob("state.json.bak*"))
        assert [each.read_text() for each in found] == copies


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("emulator-org/nope", 2, "it has: emulator-project"),
        ("second-org/nope", 2, "it has: none"),
        ("foreign/nope", 6, "403"),
        ("nope", 2, "ORG/PROJECT: got 'nope'"),
        ("a/b/c", 2, "ORG/PROJECT: got 'a/b/c'"),
        ("/b", 2, "ORG/PROJECT"),
        ("\x1b[2J/\x1b[2J", 6, "403"),
    ],
)
def test_a_refusal_changes_nothing(
    account: CommandLine, state: Path, given: str, code: int, said: str
) -> None:
    ended = account("projects", "use", given, code=code)
    assert said in ended.stderr
    assert "\x1b" not in ended.stderr
    assert not state.parent.exists()


def test_a_slug_that_is_taken(account: CommandLine) -> None:
    ended = account("projects", "create", "emulator-org/emulator-project", code=6)
    assert "409" in ended.stderr


def test_without_a_terminal_the_project_has_to_be_given(account: CommandLine, state: Path) -> None:
    ended = account("projects", "use", code=2)
    assert "give ORG/PROJECT; `arkor-sync projects list` shows them" in ended.stderr
    assert not state.exists()


def test_in_a_terminal_it_is_chosen_from_a_list(
    cli: CommandLine, terminal: Any, emulator: Emulator, account: CommandLine, state: Path
) -> None:
    variables = {"ARKOR_TOKEN": "", "ARKOR_ORG": "", "ARKOR_PROJECT": "", "ARKOR_PROJECT_ID": ""}
    shown = terminal("projects", "use", **variables)
    shown.until("Which one")
    assert "1  emulator-org/emulator-project  Emulator project" in shown.text
    shown.press("7\r")
    shown.until("not in the range")
    assert not state.exists()
    shown.press("1\r")
    assert shown.wait() == 0
    assert json.loads(state.read_text()) == wire(emulator)


def test_ctrl_c_at_the_list_writes_nothing(
    cli: CommandLine, terminal: Any, account: CommandLine, state: Path
) -> None:
    shown = terminal("projects", "use", ARKOR_TOKEN="", ARKOR_ORG="", ARKOR_PROJECT="")
    shown.until("Which one")
    shown.press("ctrl-c")
    assert shown.wait() == 130
    assert not state.exists()


def test_a_name_with_escape_sequences_is_shown_harmless(
    account: CommandLine, emulator: Emulator
) -> None:
    name = "evil\x1b[2J\nname"
    account("projects", "create", "second-org/evil", "--name", name)
    assert "second-org/evil\tevil name\tno\n" in account("projects", "list").stdout
    listed = account("projects", "list", "--org", "second-org", "--json")
    assert listed.json[0]["name"] == name
    assert "\x1b" not in listed.stdout


def test_nobody_is_made_anonymous_by_looking(nobody: CommandLine, emulator: Emulator) -> None:
    nobody.variables["ARKOR_CLOUD_API_URL"] = emulator.url
    for arguments in (["list"], ["use", "a/b"], ["create", "a/b"]):
        assert "nobody is signed in" in nobody("projects", *arguments, code=4).stderr
    assert emulator.requests == []
    assert list(nobody.home.iterdir()) == []


def test_the_variables_that_come_first_are_named(cli: CommandLine) -> None:
    ended = cli("projects", "use", "emulator-org/emulator-project")
    assert "ARKOR_ORG and ARKOR_PROJECT come before this file" in ended.stderr


def test_a_provider_that_is_not_there_and_a_token_that_has_expired(
    nobody: CommandLine, emulator: Emulator
) -> None:
    nobody.variables["ARKOR_CLOUD_API_URL"] = emulator.url
    write_credentials(
        OAuthCredentials("a-token", "r", 0, "http://127.0.0.1:1", "a", "c"),
        nobody.home / ".arkor" / "credentials.json",
    )
    ended = nobody("projects", "list", code=6)
    assert "refreshing the token: POST http://127.0.0.1:1/oauth/token" in ended.stderr
