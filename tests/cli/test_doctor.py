"""`doctor`: what it finds, what it advises, and that it shows no secret."""

from __future__ import annotations

import base64
import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest

from arkor_sync.cli.diagnosis import Finding, examine
from arkor_sync.cli.exit_codes import ExitCode
from arkor_sync.emulator import Emulator
from support.command_line import CommandLine
from support.scripted_cloud import ScriptedCloud
from support.servers import CERTIFICATE, LoopbackServer, QuietHandler

CANARY = "canary0123456789secret"
ME = {"user": {"id": "u"}, "orgs": [{"id": "o", "slug": "emulator-org", "name": "x"}]}
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
CONFIG = {"auth0Domain": None, "clientId": None, "audience": None, "callbackPorts": []}


def jwt(**claims: float) -> str:
    parts = ({"alg": "none"}, claims, {})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts)
    return ".".join(part.decode().rstrip("=") for part in encoded)


def problems(found: List[Finding]) -> Dict[str, Finding]:
    return {each.check: each for each in found if each.problem}


@pytest.fixture
def cloud() -> Iterator[ScriptedCloud]:
    with ScriptedCloud() as cloud:
        yield cloud


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> Path:
    """Be in an empty directory, with the address of the local Arkor, and no certificates."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", emulator.url)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in (*PROXIES, "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return tmp_path


def write_credentials(home: Path, permissions: int = 0o600, **fields: Any) -> Path:
    data = {
        "mode": "anon",
        "token": "emulator-token",
        "anonymousId": "a",
        "orgSlug": "emulator-org",
    }
    path = home / ".arkor" / "credentials.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps({**data, **fields}))
    path.chmod(permissions)
    return path


def test_all_is_well(cli: CommandLine) -> None:
    ended = cli("doctor")
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert all(line.startswith("ok  ") for line in lines)
    said = "\n".join(lines)
    for check in ("arkor-sync", "python", "click", "rich", "requests", "urllib3", "openssl"):
        assert f"ok      {check}: " in said
    assert "ok      ARKOR_TOKEN: set (it is not shown)" in said
    assert "ok      project exists: yes" in said
    assert "emulator-token" not in said


def test_json_has_the_same(cli: CommandLine) -> None:
    report = cli("doctor", "--json").json
    assert list(report) == ["ok", "checks"]
    assert report["ok"] is True
    assert {tuple(each) for each in report["checks"]} == {
        ("check", "ok", "found", "problem", "remedy")
    }
    bad = cli("doctor", "--json", ARKOR_TOKEN="refused-token", code=4).json
    (problem,) = [each for each in bad["checks"] if not each["ok"]]
    assert (bad["ok"], problem["check"]) == (False, "token")
    assert problem["found"] == "refused"
    assert "401" in problem["problem"]
    assert "arkor-sync login" in problem["remedy"]


def test_a_terminal_shows_problems_in_red(cli: CommandLine, terminal: Any) -> None:
    shown = terminal("doctor", columns=160, lines=40, ARKOR_TOKEN="refused-token")
    assert shown.wait() == 4
    assert b"\x1b[31mproblem" in shown.printed
    assert b"\x1b[32mok" in shown.printed


def test_who_has_nothing_is_well_and_gets_nothing(here: Path, emulator: Emulator) -> None:
    found = list(examine())
    assert problems(found) == {}
    assert list(here.iterdir()) == []
    assert [each.route for each in emulator.requests] == ["cli_config"]


@pytest.mark.parametrize(
    ("value", "why"),
    [("{", "holds no credentials"), ("[1]", "expected an object"), ('{"mode": "x"}', "mode")],
)
def test_a_corrupt_file_is_a_sign_in_problem(here: Path, value: str, why: str) -> None:
    path = write_credentials(here)
    path.write_text(value)
    problem = problems(list(examine()))["sign-in"]
    assert problem.code == ExitCode.SIGN_IN
    assert why in problem.problem
    assert str(path) in problem.problem
    assert path.read_text() == value


def test_a_file_that_others_can_read(here: Path) -> None:
    path = write_credentials(here, 0o644)
    problem = problems(list(examine()))["file"]
    assert problem.code == ExitCode.SIGN_IN
    assert problem.remedy == f"chmod 600 {path}"
    path.chmod(0o600)
    assert problems(list(examine())) == {}


def test_the_age_of_a_token(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()

    def of(token: str) -> Finding:
        write_credentials(here, token=token)
        return next(each for each in examine() if each.check == "sign-in")

    assert "when the token expires is not known" in of("emulator-token").found
    young = of(jwt(iat=now - 7200, exp=now + 86400 * 80 + 60))
    assert "issued 2 h 0 min ago" in young.found
    assert "it expires in 80 d 0 h" in young.found
    old = of(jwt(exp=now - 3600))
    assert (old.code, old.problem) == (ExitCode.SIGN_IN, "the token expired 1 h 0 min ago")
    assert of(jwt(exp=1e300, iat=float("1"))).problem == ""
    fields = {"mode": "oauth", "accessToken": "t", "auth0Domain": "d", "audience": "a"}
    write_credentials(here, **fields, clientId="c", expiresAt=int(now) - 60, refreshToken=None)
    found = next(each for each in examine() if each.check == "sign-in")
    assert found.problem.startswith("the token expired 1 min")


def test_the_state_of_another_organisation(here: Path) -> None:
    write_credentials(here)
    state = here / ".arkor" / "state.json"
    state.write_text(json.dumps({"orgSlug": "other", "projectSlug": "p", "projectId": "1"}))
    problem = problems(list(examine()))["project"]
    assert problem.code == ExitCode.USAGE
    assert "another organisation than the account" in problem.problem
    assert "arkor-sync projects use" in problem.remedy
    state.write_text("{}")
    assert "names no project" in problems(list(examine()))["project"].problem


def test_a_project_that_there_is_not(
    here: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARKOR_TOKEN", emulator.token)
    monkeypatch.setenv("ARKOR_ORG", emulator.org_slug)
    assert "ARKOR_PROJECT must be set too" in problems(list(examine()))["project"].problem
    monkeypatch.setenv("ARKOR_PROJECT", "gone")
    assert "has no project gone" in problems(list(examine()))["project exists"].problem
    monkeypatch.setenv("ARKOR_ORG", "other")
    assert "not for the organisation other" in problems(list(examine()))["project exists"].problem


class Dated(QuietHandler):
    """Answers with the date that it was given."""

    date = ""

    def date_time_string(self, timestamp: Optional[float] = None) -> str:
        return self.date

    def do_GET(self) -> None:  # noqa: N802
        self.answer(200, b"{}")


def test_a_clock_that_is_wrong(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(Dated) as server:
        monkeypatch.setenv("ARKOR_CLOUD_API_URL", server.url)

        def clock(date: str) -> Finding:
            monkeypatch.setattr(Dated, "date", date)
            return next(each for each in examine() if each.check == "clock")

        for offset, found, code in (
            (0, "right within a minute", ExitCode.COMPLETED),
            (-3600.0, "1 h 0 min ahead", ExitCode.FAILED),
            (3605.0, "1 h 0 min behind", ExitCode.FAILED),
        ):
            said = clock(formatdate(time.time() + offset, usegmt=True))
            assert (said.found, said.code) == (found, code)
        assert "not checked" in clock("yesterday").found


@pytest.mark.parametrize(
    ("status", "says"), [(426, "no longer accepts"), (404, "no answer of an Arkor"), (502, "no")]
)
def test_an_answer_that_is_none(
    here: Path, cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch, status: int, says: str
) -> None:
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", cloud.url)
    cloud.reply("<html>", status)
    problem = problems(list(examine()))["reachable"]
    assert problem.code == ExitCode.CLOUD
    assert says in problem.problem


def test_a_certificate_that_is_not_trusted(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ScriptedCloud(tls=True) as cloud:
        cloud.reply(CONFIG)
        monkeypatch.setenv("ARKOR_CLOUD_API_URL", cloud.url)
        problem = problems(list(examine()))["tls"]
        assert "REQUESTS_CA_BUNDLE" in problem.remedy
        assert problem.code == ExitCode.CLOUD
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", CERTIFICATE)
        monkeypatch.setenv("CURL_CA_BUNDLE", "/other.pem")
        found = {each.check: each for each in examine()}
        assert found["tls"].found == "the certificate is valid"
        assert "not used, because REQUESTS_CA_BUNDLE" in found["CURL_CA_BUNDLE"].found
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
        assert "no such file" in problems(list(examine()))["REQUESTS_CA_BUNDLE"].problem


def test_the_proxy_that_is_used(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "http://arkor.invalid")
    monkeypatch.setenv("http_proxy", f"http://user:{CANARY}@127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:2")
    found = {each.check: each for each in examine()}
    assert found["proxy"].found == "127.0.0.1:1 (http_proxy)"
    assert found["http_proxy"].found == "http://127.0.0.1:1 (with a user name or a password)"
    assert "not used, because http_proxy comes first" in found["HTTP_PROXY"].found
    assert found["reachable"].code == ExitCode.CLOUD
    assert CANARY not in str(found)


@pytest.mark.parametrize(
    "address",
    ["http://user:{}@127.0.0.1:1", "http://127.0.0.1:1/?token={}", "{}", "ht tp://user:{}@host"],
)
@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["lines", "json"])
def test_no_secret_is_shown(nobody: CommandLine, address: str, as_json: Any) -> None:
    credentials = write_credentials(nobody.home, token=jwt(exp=1.0) + CANARY)
    nobody.variables["ARKOR_CLOUD_API_URL"] = address.format(CANARY)
    for name in PROXIES:
        nobody.variables[name] = f"http://user:{CANARY}@127.0.0.1:1"
        nobody.variables[name.lower()] = f"user:{CANARY}@127.0.0.1:1"
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        nobody.variables[name] = f"/no/where?token={CANARY}"
    nobody.variables["ARKOR_ORG"] = f"Bearer {CANARY}"
    nobody.variables["ARKOR_PROJECT"] = f"token={CANARY}"
    for token in ("", CANARY, f"\x1b[2J{CANARY}"):
        ended = nobody("doctor", *as_json, code=None, ARKOR_TOKEN=token)
        assert ended.code in (2, 4, 6)
        assert CANARY not in ended.stdout + ended.stderr
        assert "\x1b" not in ended.stdout
    assert CANARY in credentials.read_text()
