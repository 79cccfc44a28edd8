"""`login` and `logout` in a terminal: what is asked, and what the default is."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from arkor_sync.emulator import Emulator
from support.command_line import CommandLine
from support.visitors import Visitor, signing_in, url_in
from support.waiting import PATIENCE

NOBODY = {"ARKOR_TOKEN": "", "ARKOR_ORG": "", "ARKOR_PROJECT": "", "ARKOR_PROJECT_ID": ""}


@pytest.fixture
def path(cli: CommandLine) -> Path:
    return cli.home / ".arkor" / "credentials.json"


@pytest.fixture(autouse=True)
def _accounts(emulator: Emulator) -> None:
    emulator.settings.account_sign_in = True
    emulator.settings.sign_in_answer = "allow"


def test_who_says_nothing_is_anonymous(terminal: Any, path: Path) -> None:
    shown = terminal("login", **NOBODY)
    shown.until("Sign in [1]:")
    shown.press("enter")
    assert shown.wait() == 0
    assert "anonymousId:" in shown.text
    assert json.loads(path.read_text())["mode"] == "anon"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_who_chooses_the_account_signs_in_at_the_browser(terminal: Any, path: Path) -> None:
    shown = terminal("login", "--no-browser", columns=500, **NOBODY)
    shown.until("Sign in [1]:")
    shown.press("2\r")
    shown.until("code_challenge_method=S256")
    Visitor().get(url_in(shown.text))
    assert shown.wait() == 0
    assert "arkor-sync projects use" in shown.text
    assert json.loads(path.read_text())["mode"] == "oauth"


def test_ctrl_c_at_the_question_changes_nothing(terminal: Any, path: Path) -> None:
    shown = terminal("login", **NOBODY)
    shown.until("Sign in [1]:")
    shown.press("ctrl-c")
    assert shown.wait() == 130
    assert not path.exists()


@pytest.mark.parametrize(("answer", "kept"), [("\r", True), ("n\r", True), ("y\r", False)])
def test_logout_asks_and_keeps_the_file_unless_told(
    cli: CommandLine, terminal: Any, path: Path, answer: str, kept: bool
) -> None:
    cli("login", "--anonymous", **NOBODY)
    shown = terminal("logout", columns=200, **NOBODY)
    shown.until("[y/N]:")
    assert "cannot be had again" in shown.text
    shown.press(answer)
    assert shown.wait() == 0
    assert path.exists() == kept
    assert ("was kept" in shown.text) == kept


@pytest.mark.parametrize("how", ["--anonymous", "--oauth"])
@pytest.mark.parametrize("answer", ["\r", "n\r"])
def test_an_anonymous_identity_is_not_replaced_unless_told(
    cli: CommandLine, terminal: Any, emulator: Emulator, path: Path, how: str, answer: str
) -> None:
    cli("login", "--anonymous", **NOBODY)
    before, asked = path.read_bytes(), len(emulator.requests)
    shown = terminal("login", how, "--no-browser", columns=200, **NOBODY)
    shown.until("[y/N]:")
    assert "cannot be had again" in shown.text
    shown.press(answer)
    assert shown.wait() == 0
    assert "Nothing was changed." in shown.text
    assert path.read_bytes() == before
    assert len(emulator.requests) == asked


def test_each_anonymous_identity_that_is_replaced_is_kept(
    cli: CommandLine, terminal: Any, path: Path
) -> None:
    cli("login", "--anonymous", **NOBODY)
    held = [path.read_bytes()]
    shown = terminal("login", "--anonymous", columns=200, **NOBODY)
    shown.until("[y/N]:")
    shown.press("y\r")
    assert shown.wait() == 0
    held.append(path.read_bytes())
    piped = cli("login", "--anonymous", **NOBODY)  # nobody is asked
    assert f"what {path} held before is in credentials.json.bak.2" in piped.stderr
    copies = sorted(path.parent.glob("credentials.json.bak*"))
    assert [each.read_bytes() for each in copies] == held
    out = cli("logout", "--force", **NOBODY)
    assert [f"{each} has older credentials" in out.stderr for each in copies] == [True, True]


@pytest.mark.parametrize(("answer", "written"), [("\r", False), ("y\r", True)])
def test_a_token_of_the_environment_makes_login_ask(
    terminal: Any, path: Path, answer: str, written: bool
) -> None:
    shown = terminal("login", "--anonymous", columns=200)
    shown.until("[y/N]:")
    assert "ARKOR_TOKEN is set, and comes before" in shown.text
    shown.press(answer)
    assert shown.wait() == 0
    assert path.exists() == written


def test_a_token_of_the_environment_is_named(cli: CommandLine, path: Path) -> None:
    ended = cli("login", "--anonymous", "--json")
    assert ended.json["mode"] == "anon"
    assert "ARKOR_TOKEN is set, and comes before this file" in ended.stderr
    ended = cli("logout", "--force")
    assert "ARKOR_TOKEN is set, and is still used" in ended.stderr


def test_what_an_identity_provider_says_is_shown_harmless(
    cli: CommandLine, emulator: Emulator, path: Path
) -> None:
    with signing_in(cli, **NOBODY) as (process, url):
        visitor = Visitor()
        visitor.url = url
        evil = "\x1b]0;title\x07\x1b[2Jgone\nline"
        visitor.come_back(error="e", error_description=evil, state=visitor.query["state"])
        _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4
    assert rest.endswith("did not sign you in: e: gone line\n")
    assert not path.exists()


@pytest.mark.parametrize("name", ["login", "logout"])
def test_a_home_that_is_not_there(cli: CommandLine, emulator: Emulator, name: str) -> None:
    arguments = {"login": ["--anonymous"], "logout": ["--force"]}[name]
    (cli.home / ".arkor").write_text("a file in its place")
    ended = cli(name, *arguments, code=4 if name == "login" else 0, **NOBODY)
    assert ("cannot be written" in ended.stderr) == (name == "login")
    assert (cli.home / ".arkor").read_text() == "a file in its place"


def test_a_home_that_cannot_be_looked_into(cli: CommandLine) -> None:
    home = f"/{'x' * 300}"  # the system refuses the name
    ended = cli("logout", "--force", code=4, HOME=home, **NOBODY)
    path = f"{home}/.arkor/credentials.json"
    assert ended.stderr == f"arkor-sync: {path} cannot be removed: File name too long\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "holds no credentials; run `arkor-sync login`"),
        ("null", "holds no credentials; run `arkor-sync login`"),
        ("[]", "is not usable: expected an object, got a list; sign in again"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_is_not_usable_is_named_and_kept(
    nobody: CommandLine, emulator: Emulator, content: Any, said: str
) -> None:
    path = nobody.home / ".arkor" / "credentials.json"
    path.parent.mkdir()
    path.mkdir() if content is None else path.write_text(content)
    ended = nobody("whoami", code=4, ARKOR_CLOUD_API_URL=emulator.url)
    assert f"{path} {said}" in ended.stderr
    assert ended.stdout == ""
    assert emulator.requests == []
    assert content is None or path.read_text() == content


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("http://127.0.0.1:1", 6, "http://127.0.0.1:1/v1/auth"),
        ("api.arkor.ai", 2, "a text without http:// or https://"),
    ],
)
@pytest.mark.parametrize("how", ["--anonymous", "--oauth"])
def test_a_cloud_that_is_not_there(
    nobody: CommandLine, address: str, code: int, said: str, how: str
) -> None:
    ended = nobody("login", how, code=code, ARKOR_CLOUD_API_URL=address)
    assert said in ended.stderr
    assert list(nobody.home.iterdir()) == []


def test_a_port_that_is_in_use(nobody: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        config = {"auth0Domain": "d.example", "clientId": "c", "audience": "a"}
        with Emulator(cli_config={**config, "callbackPorts": [port]}) as other:
            ended = nobody("login", "--oauth", code=4, ARKOR_CLOUD_API_URL=other.url)
    assert f"none of the ports {port} (Address already in use)" in ended.stderr
    assert list(nobody.home.iterdir()) == []


def test_the_credentials_of_a_local_arkor_that_has_ended_do_not_lock_out(
    cli: CommandLine, path: Path
) -> None:
    cli("login", "--anonymous", **NOBODY)
    signed_in = json.loads(path.read_text())
    with socket.socket() as closed, Emulator() as other:
        closed.bind(("127.0.0.1", 0))  # it does not listen, and nobody else gets the port
        port = closed.getsockname()[1]
        variables = {**NOBODY, "ARKOR_CLOUD_API_URL": ""}
        for command in (("whoami",), ("jobs", "list")):
            path.write_text(
                json.dumps({**signed_in, "arkorCloudApiUrl": f"http://127.0.0.1:{port}"})
            )
            ended = cli(*command, code=6, **variables)
            assert (
                f"no local Arkor listens there: `arkor-sync emulator --port {port}` starts one; "
                "`arkor-sync logout` goes back to the public cloud\n"
            ) in ended.stderr
            path.write_text(json.dumps({**signed_in, "arkorCloudApiUrl": other.url}))
            refused = cli(*command, code=4, **variables)
            assert "a local Arkor forgets its accounts when it ends; " in refused.stderr
            assert f"`ARKOR_CLOUD_API_URL={other.url} arkor-sync login` signs in" in refused.stderr
