"""`login`, `logout` and `whoami` (behaviours 235 to 264), each as a process of its own.

The exit codes are those of this command line; where more differs, the README says so.
"""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path
from typing import Any, Callable, List

import pytest

from arkor_sync import read_credentials
from arkor_sync.emulator import Emulator, Fault
from support.command_line import CommandLine
from support.extras import need_extra
from support.visitors import Visitor, browse, signing_in
from support.waiting import PATIENCE

Make = Callable[..., Emulator]
STATE = '{"orgSlug": "other", "projectSlug": "p", "projectId": "i"}'


@pytest.fixture(autouse=True)
def _needs_the_command_line() -> None:
    need_extra("cli")


@pytest.fixture
def emulator(make_emulator: Make) -> Emulator:
    return make_emulator(account_sign_in=True, sign_in_answer="allow")


@pytest.fixture
def cli(tmp_path: Path, emulator: Emulator) -> CommandLine:
    return CommandLine(tmp_path / "home", tmp_path / "work", {"ARKOR_CLOUD_API_URL": emulator.url})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".arkor" / "credentials.json"


def paths(emulator: Emulator) -> List[str]:
    return [each.path for each in emulator.requests]


def sign_in(cli: CommandLine, visit: Callable[[Visitor], Any] = browse, code: int = 0) -> str:
    """Run `login --oauth --no-browser` to its end, with somebody at a browser; return its notes."""
    with signing_in(cli) as (process, url):
        visitor = Visitor(visit)
        visitor(url)
        _, said = process.communicate(timeout=PATIENCE)
        visitor.done()
    assert process.returncode == code, said
    return said


def test_235_both_ways_at_once_ask_nobody(cli: CommandLine, emulator: Emulator, path: Path) -> None:
    ended = cli("login", "--oauth", "--anonymous", code=2)
    assert "give either --oauth or --anonymous" in ended.stderr
    assert emulator.requests == []
    assert not path.exists()


def test_236_247_and_248_anonymous_is_one_request(
    cli: CommandLine, emulator: Emulator, path: Path
) -> None:
    ended = cli("login", "--anonymous")
    assert paths(emulator) == ["/v1/auth/anonymous"]
    stored = json.loads(path.read_text())
    assert stored["anonymousId"] in ended.stdout
    assert str(path) in ended.stdout
    assert stored["token"] not in ended.stdout + ended.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ended.stderr == "", "no warning that it ends with its file"


def test_237_239_and_248_a_cloud_without_accounts(
    cli: CommandLine, emulator: Emulator, path: Path
) -> None:
    emulator.settings.account_sign_in = False
    ended = cli("login", "--oauth", "--no-browser", code=4)
    assert "no sign-in with an account" in ended.stderr
    assert not path.exists()
    ended = cli("login")
    assert ended.stderr == "This cloud has no sign-in with an account; you sign in anonymously.\n"
    assert json.loads(path.read_text())["mode"] == "anon"


def test_238_in_ci_nobody_is_at_a_browser(cli: CommandLine, emulator: Emulator, path: Path) -> None:
    ended = cli("login", "--oauth", code=2, CI="true")
    assert "CI is set" in ended.stderr
    assert not path.exists()


def test_240_and_248_without_a_terminal_it_is_anonymous_and_says_what_that_means(
    cli: CommandLine, path: Path
) -> None:
    ended = cli("login", "--json")
    assert ended.json["mode"] == "anon"
    assert set(ended.json) == {"mode", "anonymousId", "arkorCloudApiUrl", "orgSlug", "path"}
    assert "ends with its file" in ended.stderr
    assert json.loads(path.read_text())["mode"] == "anon"


def test_242_243_and_245_an_account(cli: CommandLine, emulator: Emulator, path: Path) -> None:
    def with_a_foreign_page(visitor: Visitor) -> None:
        visitor.come_back(code="stolen", state="another")
        browse(visitor)

    said = sign_in(cli, with_a_foreign_page)
    assert "Next, choose the project of this directory: arkor-sync projects use" in said
    stored = json.loads(path.read_text())
    assert (stored["mode"], stored["arkorCloudApiUrl"]) == ("oauth", emulator.url)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for secret in ("accessToken", "refreshToken"):
        assert stored[secret] not in said


def test_244_a_browser_that_fails_is_no_error(cli: CommandLine, path: Path) -> None:
    with signing_in(cli, BROWSER="/nothing/%s") as (process, url):
        Visitor().get(url)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert path.exists()


def test_245_a_refusal_writes_nothing(cli: CommandLine, emulator: Emulator, path: Path) -> None:
    emulator.settings.sign_in_answer = "refuse"
    assert "access_denied" in sign_in(cli, code=4)
    assert not path.exists()


def test_249_signing_in_again_replaces_the_file_and_leaves_the_state(
    cli: CommandLine, path: Path
) -> None:
    state = cli.cwd / ".arkor" / "state.json"
    state.parent.mkdir()
    state.write_text(STATE)
    cli("login", "--anonymous")
    first = path.read_bytes()
    ended = cli("login", code=2)
    assert "has credentials already: the anonymous identity" in ended.stderr
    assert path.read_bytes() == first
    ended = cli("login", "--anonymous")
    assert path.read_bytes() != first
    assert path.with_name("credentials.json.bak").read_bytes() == first
    assert "They replace those of the anonymous identity" in ended.stderr
    assert "names a project of 'other', which this identity has no access to" in ended.stderr
    assert state.read_text() == STATE


def test_250_nobody_is_signed_in(cli: CommandLine, path: Path) -> None:
    ended = cli("logout")
    assert ended.stdout == f"Nobody was signed in: there is no {path}.\n"
    assert cli("logout", "--json").json == {"signedOut": False, "path": str(path)}
    assert not path.parent.exists()


def test_251_252_and_255_signing_out(cli: CommandLine, path: Path) -> None:
    state = cli.cwd / ".arkor" / "state.json"
    state.parent.mkdir()
    state.write_text(STATE)
    cli("login", "--anonymous")
    ended = cli("logout", code=2)
    assert "was kept, because nobody can be asked; give --force" in ended.stderr
    assert path.exists()
    ended = cli("logout", "--force")
    assert ended.stdout == f"Signed out: {path} was removed.\n"
    assert "cannot be had again" in ended.stderr
    assert not path.exists()
    assert state.read_text() == STATE


def test_251_an_account_can_sign_in_again(cli: CommandLine, path: Path) -> None:
    sign_in(cli)
    ended = cli("logout", "--force", "--json")
    assert ended.json == {"signedOut": True, "path": str(path)}
    assert ended.stderr == ""


@pytest.mark.parametrize("content", ["{", "[]"])
def test_254_a_file_that_is_not_usable_may_be_removed(
    cli: CommandLine, path: Path, content: str
) -> None:
    path.parent.mkdir()
    path.write_text(content)
    ended = cli("logout", "--force")
    assert "cannot be had again" not in ended.stderr
    assert not path.exists()


def test_256_nobody(cli: CommandLine, emulator: Emulator, path: Path) -> None:
    ended = cli("whoami", code=4)
    assert ended.stderr == (
        "arkor-sync: nobody is signed in; run `arkor-sync login`, or set ARKOR_TOKEN\n"
    )
    assert emulator.requests == []
    assert not path.exists()


def test_257_258_262_and_263_who_it_is(cli: CommandLine, emulator: Emulator) -> None:
    sign_in(cli)
    ended = cli("whoami")
    assert ended.stdout == (
        "id: user_account\nemail: somebody@example.com\norgs: emulator-org second-org\n"
    )
    assert ended.stderr == ""
    me = cli("whoami", "--json").json
    assert me["user"] == {"id": "user_account", "email": "somebody@example.com"}
    assert [each["slug"] for each in me["orgs"]] == ["emulator-org", "second-org"]
    assert emulator.requests[-1].headers["X-Arkor-Client"].startswith("arkor/")


def test_259_an_old_version_is_told_to_upgrade(cli: CommandLine, emulator: Emulator) -> None:
    emulator.settings.supported_range = ">=99.0.0"
    ended = cli("whoami", code=6, ARKOR_TOKEN=emulator.token)
    assert "426" in ended.stderr
    assert "newer" in ended.stderr
    assert "expired" not in ended.stderr
    assert ended.stdout == ""


def test_260_a_token_that_is_refused_and_a_cloud_that_fails(
    cli: CommandLine, emulator: Emulator
) -> None:
    ended = cli("whoami", code=4, ARKOR_TOKEN="not-a-good-token")
    assert "401" in ended.stderr
    assert "ARKOR_TOKEN" in ended.stderr
    assert "not-a-good-token" not in ended.stderr
    emulator.faults.add(Fault("status", route="me", status=500))
    assert "500" in cli("whoami", code=6, ARKOR_TOKEN=emulator.token).stderr


def test_261_the_address_is_that_of_the_credentials(
    cli: CommandLine, emulator: Emulator, path: Path
) -> None:
    cli("login", "--anonymous")
    del cli.variables["ARKOR_CLOUD_API_URL"]
    assert json.loads(path.read_text())["anonymousId"] in cli("whoami").stdout
    stored = read_credentials(path)
    assert stored is not None
    assert stored.arkor_cloud_api_url == emulator.url


def test_264_the_notice_comes_once_at_the_end(cli: CommandLine, emulator: Emulator) -> None:
    emulator.settings.deprecation = "this version ends soon"
    ended = cli("whoami", ARKOR_TOKEN=emulator.token)
    assert ended.stdout.startswith("id: ")
    assert ended.stderr.count("this version ends soon") == 1
    assert ended.stderr.count("\n") == 1


def test_an_expired_sign_in_exits_with_its_own_code(
    cli: CommandLine, emulator: Emulator, path: Path
) -> None:
    sign_in(cli)
    before = path.read_bytes()
    emulator.advance(3600)
    emulator.faults.add(
        Fault("status", route="token", status=403, value="invalid_grant", count=None)
    )
    ended = cli("whoami", code=4)
    assert "sign in again" in ended.stderr
    assert path.read_bytes() == before


def test_nobody_at_the_browser_exits_with_the_code_of_a_timeout(
    cli: CommandLine, path: Path
) -> None:
    ended = cli("login", "--oauth", "--no-browser", "--timeout", "0.05", code=5)
    assert "nobody signed in within 0.05 s; nothing was changed" in ended.stderr
    assert not path.exists()


def test_ctrl_c_while_the_browser_is_waited_for(cli: CommandLine, path: Path) -> None:
    with signing_in(cli) as (process, _):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert not path.exists()
