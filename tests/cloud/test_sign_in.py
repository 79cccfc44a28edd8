"""Signing in with an account, anonymously, and out: the whole flow, and who disturbs it."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import signal
import socket
import stat
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from arkor_sync import CloudApiClient, ProjectState, TokenCredentials
from arkor_sync.cloud import sign_in as module
from arkor_sync.cloud.callback_server import CallbackServer
from arkor_sync.cloud.identity_provider import provider_url
from arkor_sync.cloud.oauth import Refresher
from arkor_sync.cloud.sign_in import read_sign_in_config
from arkor_sync.credentials import (
    AnonymousCredentials,
    OAuthCredentials,
    read_credentials,
    sign_in,
    sign_in_anonymously,
    sign_out,
    write_credentials,
)
from arkor_sync.emulator import Emulator, Fault
from arkor_sync.errors import (
    AnonymousTokenRejectedError,
    ArkorConnectionError,
    ArkorError,
    ArkorUsageError,
    AuthenticationError,
    CredentialsError,
    ResponseError,
    SignInTimeout,
)
from support.forking import lock_of_another
from support.scripted_cloud import Reply, ScriptedCloud
from support.visitors import Visitor, browse
from support.waiting import PATIENCE, PATIENCES

OLD = AnonymousCredentials("old-secret-token", "anonymous-0", "https://api.arkor.ai", "personal")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(account_sign_in=True, sign_in_answer="allow") as emulator:
        yield emulator
        assert emulator.errors == []


@pytest.fixture
def path(home: Path) -> Path:
    return home / ".arkor" / "credentials.json"


def sign_in_as(visitor: Visitor, emulator: Emulator, **more: Any) -> OAuthCredentials:
    return sign_in(
        emulator.url, open_browser=False, on_url=visitor, **{"timeout": PATIENCE, **more}
    )


def exchanges(emulator: Emulator) -> List[Any]:
    return [each.body for each in emulator.requests if each.route == "token"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def shown(error: BaseException) -> str:
    """All that a report of an error could hold, the variables of our functions too."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "/tests/" not in frame.f_code.co_filename:
            text += repr(frame.f_locals)
    return text + repr(vars(error)) + pickle.dumps(error).decode("latin-1")


# -- the whole flow -------------------------------------------------------------------------------


def test_who_signs_in_has_an_account_in_the_file_and_can_work(
    emulator: Emulator, path: Path
) -> None:
    visitor = Visitor(browse)
    account = sign_in_as(visitor, emulator)
    visitor.done()
    ((status, page),) = visitor.answers
    assert status == 200
    assert "You may close this" in page
    assert read_credentials() == account
    assert (account.path, account.source) == (path, f"from {path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    me = CloudApiClient(emulator.url, account).me()
    assert me.user["email"] == "somebody@example.com"
    assert [each.slug for each in me.orgs] == ["emulator-org", "second-org"]
    scope = ProjectState(emulator.org_slug, emulator.project_slug)
    assert CloudApiClient(credentials=account, scope=scope).jobs.list() == []


def test_the_request_for_tokens_has_five_fields(emulator: Emulator) -> None:
    sign_in_as(Visitor(browse), emulator)
    (body,) = exchanges(emulator)
    assert set(body) == {"grant_type", "code", "code_verifier", "client_id", "redirect_uri"}
    assert body["code"] == body["code_verifier"] == "[redacted]"


def test_a_token_that_has_expired_is_refreshed_without_the_user(emulator: Emulator) -> None:
    account = sign_in_as(Visitor(browse), emulator)
    client = CloudApiClient(emulator.url)
    client.me()
    emulator.advance(3600)
    client.me()
    renewed = read_credentials()
    assert isinstance(renewed, OAuthCredentials)
    assert renewed.access_token != account.access_token
    assert renewed.refresh_token != account.refresh_token
    assert [each["grant_type"] for each in exchanges(emulator)] == [
        "authorization_code",
        "refresh_token",
    ]


def test_a_refresh_token_that_was_used_twice_ends_the_sign_in(emulator: Emulator) -> None:
    account = sign_in_as(Visitor(browse), emulator)
    renewed = Refresher(account).valid_credentials(account.access_token)
    write_credentials(account)
    with pytest.raises(CredentialsError, match=r"403 invalid_grant\); sign in again"):
        Refresher(account).valid_credentials(account.access_token)
    client = CloudApiClient(emulator.url, TokenCredentials(renewed.bearer))
    with pytest.raises(AuthenticationError):
        client.me()


@pytest.mark.parametrize("kind", ["rotate", "keep"])
def test_refresh_tokens_that_stay_or_change(emulator: Emulator, kind: str) -> None:
    emulator.settings.refresh_tokens = kind
    account = sign_in_as(Visitor(browse), emulator)
    first = Refresher(account).valid_credentials(account.access_token)
    second = Refresher(first).valid_credentials(first.access_token)
    assert len({account.access_token, first.access_token, second.access_token}) == 3
    tokens = {account.refresh_token, first.refresh_token, second.refresh_token}
    assert len(tokens) == (3 if kind == "rotate" else 1)


def test_over_tls_the_provider_is_asked_over_tls(path: Path) -> None:
    import requests

    from arkor_sync.cloud.http import HttpClient
    from support.servers import CERTIFICATE, KEY

    settings: Dict[str, Any] = {"account_sign_in": True, "sign_in_answer": "allow"}
    with Emulator(tls=(CERTIFICATE, KEY), **settings) as emulator, requests.Session() as session:
        session.verify, session.trust_env = CERTIFICATE, False
        visitor = Visitor(lambda visitor: visitor.get(visitor.url, verify=CERTIFICATE))
        account = sign_in_as(visitor, emulator, http=HttpClient(template=session))
        visitor.done()
    assert account.auth0_domain == f"127.0.0.1:{emulator_port(account)}"
    assert visitor.url.startswith("https://")


def emulator_port(account: OAuthCredentials) -> int:
    return int(account.auth0_domain.rpartition(":")[2])


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":7")


@pytest.mark.usefixtures("screen")
def test_the_address_is_printed_and_the_browser_opened(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: List[str] = []

    def open_page(url: str) -> None:
        opened.append(url)
        Visitor().get(url)

    monkeypatch.setattr("webbrowser.open", open_page)
    sign_in(emulator.url, timeout=PATIENCE)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"Open this page to sign in:\n{opened[0]}\n"


@pytest.mark.usefixtures("screen")
def test_a_browser_that_cannot_be_opened_is_no_error(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(url: str) -> None:
        raise OSError("no browser")

    monkeypatch.setattr("webbrowser.open", fail)
    assert sign_in(emulator.url, on_url=Visitor(browse), timeout=PATIENCE).refresh_token


@pytest.mark.usefixtures("screen")
def test_a_browser_that_never_returns_delays_nothing(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()
    monkeypatch.setattr("webbrowser.open", lambda url: closed.wait(PATIENCE))
    assert sign_in(emulator.url, on_url=Visitor(browse), timeout=PATIENCE).refresh_token
    closed.set()


@pytest.mark.parametrize(
    ("variable", "opened"),
    [(None, False), ("DISPLAY", True), ("WAYLAND_DISPLAY", True), ("BROWSER", True)],
)
def test_no_browser_takes_the_terminal(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, variable: Any, opened: bool
) -> None:
    """On a server, `webbrowser` would start w3m or lynx there, and the user could type nothing."""
    pages: List[str] = []
    monkeypatch.setattr(module, "open_page", pages.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, "x")
    visitor = Visitor(browse)
    sign_in(emulator.url, on_url=visitor, timeout=PATIENCE)
    assert pages == ([visitor.url] if opened else [])


# -- ports ----------------------------------------------------------------------------------------


def test_a_busy_port_is_passed_over(emulator: Emulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken, free = busy.getsockname()[1], free_port()
        with CallbackServer([taken, free], "state") as server:
            assert server.port == free


@pytest.mark.parametrize("ports", [[], [70000], [-1]], ids=repr)
def test_no_port_that_can_be_used(emulator: Emulator, ports: List[int], path: Path) -> None:
    config = {
        "auth0Domain": "x.example",
        "clientId": "c",
        "audience": "a",
        "callbackPorts": ports,
    }
    with Emulator(cli_config=config) as other:
        with pytest.raises(CredentialsError, match="come back") as caught:
            sign_in_as(Visitor(), other)
        assert all(str(port) in str(caught.value) for port in ports)
    assert not path.exists()


def test_when_all_ports_are_busy_the_error_lists_them() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        ports = [each.getsockname()[1] for each in (first, second)]
        with pytest.raises(CredentialsError, match=rf"{ports[0]} \(Address.*{ports[1]} \(Address"):
            CallbackServer(ports, "state")


def test_the_port_is_closed_afterwards(emulator: Emulator) -> None:
    visitor = Visitor(browse)
    sign_in_as(visitor, emulator)
    visitor.done()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", visitor.port), PATIENCE)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, OLD], ids=["no file", "a file"])
def test_a_refusal_of_the_user_changes_nothing(emulator: Emulator, path: Path, before: Any) -> None:
    if before:
        write_credentials(before)
    emulator.settings.sign_in_answer = "refuse"
    visitor = Visitor(browse)
    with pytest.raises(CredentialsError, match="access_denied: The user refused the sign-in"):
        sign_in_as(visitor, emulator)
    visitor.done()
    ((status, text),) = visitor.answers
    assert status == 400
    assert text == "the sign-in was refused: access_denied: The user refused the sign-in."
    assert read_credentials() == before
    assert path.exists() == bool(before)
    assert exchanges(emulator) == []


def test_an_error_without_a_description_ends_with_its_code(emulator: Emulator) -> None:
    visitor = Visitor(lambda v: v.come_back(error="login_required", state=v.query["state"]))
    with pytest.raises(CredentialsError, match=r"login_required$"):
        sign_in_as(visitor, emulator)
    visitor.done()
    assert visitor.answers[0][1].endswith("login_required")


def test_an_error_without_a_readable_reason_is_still_a_refusal(emulator: Emulator) -> None:
    visitor = Visitor(lambda v: v.come_back(error="\x1b[2J", state=v.query["state"]))
    with pytest.raises(CredentialsError, match="without a reason"):
        sign_in_as(visitor, emulator)
    visitor.done()
    assert exchanges(emulator) == []


def test_what_an_error_says_is_shown_harmless(emulator: Emulator) -> None:
    pages: List[Any] = []
    evil = "<script>alert(1)</script>\x1b[2J\u202e\nnext"
    visitor = Visitor(
        lambda v: pages.append(
            v.come_back(error="e", error_description=evil, state=v.query["state"])
        )
    )
    with pytest.raises(CredentialsError) as caught:
        sign_in_as(visitor, emulator)
    visitor.done()
    (page,) = pages
    assert page.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script>alert(1)</script> next" in page.text
    for text in (page.text, str(caught.value)):
        assert text.replace("\n", " ").isprintable()


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        ({"status": 403, "value": "invalid_grant"}, CredentialsError, "403 invalid_grant"),
        ({"status": 401, "value": "invalid_client"}, CredentialsError, "401 invalid_client"),
        (
            {"status": 400, "value": "unauthorized_client"},
            CredentialsError,
            "400 unauthorized_client",
        ),
        ({"status": 503, "value": "down"}, ArkorConnectionError, "503 down"),
    ],
)
def test_a_provider_that_gives_no_tokens(
    emulator: Emulator, path: Path, reply: Dict[str, Any], error: Any, said: str
) -> None:
    emulator.faults.add(Fault("status", route="token", **reply))
    with pytest.raises(error, match=rf"{said}; sign in again"):
        sign_in_as(Visitor(browse), emulator)
    assert not path.exists()
    assert len(exchanges(emulator)) == 1


def test_a_provider_that_hangs_up(emulator: Emulator, path: Path) -> None:
    emulator.faults.add(Fault("accept_then_drop", route="token"))
    with pytest.raises(ArkorConnectionError, match="exchanging the code for tokens: POST"):
        sign_in_as(Visitor(browse), emulator)
    assert not path.exists()


def test_no_refresh_token_names_the_scope(emulator: Emulator, path: Path) -> None:
    emulator.settings.refresh_tokens = "none"
    with pytest.raises(CredentialsError, match="offline_access") as caught:
        sign_in_as(Visitor(browse), emulator)
    assert "emulator-access" not in shown(caught.value)
    assert not path.exists()


def test_an_answer_that_is_no_tokens(emulator: Emulator) -> None:
    emulator.faults.add(Fault("wrong_content_type", route="token"))
    with pytest.raises(ResponseError, match="access_token: expected a string"):
        sign_in_as(Visitor(browse), emulator)


def test_the_code_of_somebody_else_is_worth_nothing(emulator: Emulator, path: Path) -> None:
    """Who knows the state, and brings a code of another sign-in, is stopped by PKCE."""
    stolen: List[str] = []

    def catch(visitor: Visitor) -> None:
        answer = visitor.get(visitor.url, allow_redirects=False)
        stolen.append(re.findall(r"code=([^&]+)", answer.headers["Location"])[0])
        visitor.come_back(error="access_denied", state=visitor.query["state"])

    first = Visitor(catch)
    with pytest.raises(CredentialsError):
        sign_in_as(first, emulator)
    first.done()
    second = Visitor(lambda v: v.come_back(code=stolen[0], state=v.query["state"]))
    with pytest.raises(CredentialsError, match="invalid_grant"):
        sign_in_as(second, emulator)
    second.done()
    assert not path.exists()


def test_a_cloud_without_accounts(path: Path) -> None:
    with (
        Emulator() as emulator,
        pytest.raises(CredentialsError, match="no sign-in with an account"),
    ):
        sign_in_as(Visitor(), emulator)
    assert not path.exists()


@pytest.mark.parametrize("config", [[1], {"callbackPorts": ["x"]}, {"auth0Domain": 5}], ids=repr)
def test_a_config_of_another_shape(config: Any) -> None:
    with (
        Emulator(cli_config=config) as emulator,
        pytest.raises(ResponseError, match="auth/cli/config: "),
    ):
        sign_in_as(Visitor(), emulator)


@pytest.mark.parametrize(("name", "field"), [("clientId", "client_id"), ("audience", "audience")])
def test_half_a_character_in_the_config_is_what_the_provider_may_refuse(
    emulator: Emulator, name: str, field: str
) -> None:
    visitor = Visitor()

    def leave(url: str) -> None:
        visitor.url = url
        raise KeyboardInterrupt

    offered = read_sign_in_config(emulator.url).to_dict()
    with (
        Emulator(cli_config={**offered, name: "a\ud800"}) as odd,
        pytest.raises(KeyboardInterrupt),
    ):
        sign_in(odd.url, open_browser=False, on_url=leave)
    assert visitor.query[field] == "a?"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", None, True])
def test_a_timeout_that_cannot_work(timeout: Any) -> None:
    with pytest.raises(ArkorUsageError, match="timeout"):
        sign_in("http://127.0.0.1:1", timeout=timeout)


# -- who disturbs ---------------------------------------------------------------------------------

FOREIGN: List[Dict[str, str]] = [
    {},
    {"code": "stolen"},
    {"code": "stolen", "state": ""},
    {"code": "stolen", "state": "another"},
    {"error": "access_denied"},
    {"error": "access_denied", "state": "another"},
]


def test_a_request_with_another_state_does_not_end_the_sign_in(emulator: Emulator) -> None:
    visits = [lambda v, given=given: v.come_back(**given) for given in FOREIGN]
    visitor = Visitor(*visits, browse)
    account = sign_in_as(visitor, emulator)
    visitor.done()
    assert [status for status, _ in visitor.answers] == [*[400] * len(FOREIGN), 200]
    assert read_credentials() == account
    assert len(exchanges(emulator)) == 1


def test_other_paths_methods_and_hosts_change_nothing(emulator: Emulator) -> None:
    answers: List[bytes] = []

    def ask(line: str, host: str = "", more: str = "") -> Callable[[Visitor], None]:
        def visit(visitor: Visitor) -> None:
            target = line.replace("CALLBACK", f"/callback?code=x&state={visitor.query['state']}")
            head = f"{target}\r\nHost: {host or f'127.0.0.1:{visitor.port}'}\r\n{more}\r\n"
            answers.append(visitor.raw(head.encode()))

        return visit

    visitor = Visitor(
        ask("GET /favicon.ico HTTP/1.1"),
        ask("GET / HTTP/1.1"),
        ask("POST CALLBACK HTTP/1.1"),
        ask("HEAD CALLBACK HTTP/1.1"),
        ask("GET CALLBACK HTTP/1.1", "attacker.example"),
        ask("GET CALLBACK HTTP/1.1", "localhost:1"),
        ask("GET CALLBACK HTTP/1.1", more="Host: attacker.example\r\n"),
        ask("GET CALLBACK&state=2 HTTP/1.1"),
        ask("GET CALLBACK&code=2 HTTP/1.1"),
        ask("GET  CALLBACK HTTP/1.1"),
        ask("GET CALLBACK"),
        ask("GET http://127.0.0.1CALLBACK HTTP/1.1"),
        browse,
    )
    assert sign_in_as(visitor, emulator).refresh_token
    visitor.done()
    statuses = [answer.split()[1].decode() for answer in answers]
    assert statuses == ["404", "404", "405", "405", *["403"] * 3, "400", "400", *["400"] * 3]
    assert all(b"nosniff" in each and b"text/plain" in each for each in answers)


def test_connections_that_send_nothing_or_too_much_delay_nobody(emulator: Emulator) -> None:
    open_sockets: List[socket.socket] = []

    def crowd(visitor: Visitor) -> None:
        for number in range(100):
            sock = socket.create_connection(("127.0.0.1", visitor.port), PATIENCE)
            open_sockets.append(sock)
            if number % 3 == 0:
                sock.sendall(b"GET /callback?")

    def flood(visitor: Visitor) -> None:
        with socket.create_connection(("127.0.0.1", visitor.port), PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)
            assert b"431 " in sock.recv(1000)

    visitor = Visitor(crowd, flood, browse)
    begin = time.monotonic()
    assert sign_in_as(visitor, emulator).refresh_token
    assert time.monotonic() - begin < PATIENCE
    visitor.done()
    for sock in open_sockets:
        sock.close()


def test_a_request_in_pieces_and_one_that_leaves_in_the_middle(emulator: Emulator) -> None:
    def pieces(visitor: Visitor) -> None:
        with socket.create_connection(("127.0.0.1", visitor.port), PATIENCE) as gone:
            gone.sendall(b"GET /callback")
        with socket.create_connection(("127.0.0.1", visitor.port), PATIENCE) as sock:
            for byte in f"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1:{visitor.port}\r\n\r\n".encode():
                sock.sendall(bytes([byte]))
            assert b"404 " in sock.recv(1000)

    visitor = Visitor(pieces, browse)
    assert sign_in_as(visitor, emulator).refresh_token
    visitor.done()


def test_a_connection_is_kept_for_a_while_only(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arkor_sync.cloud.callback_server._PATIENCE", 0.05)

    def silent(visitor: Visitor) -> None:
        with socket.create_connection(("127.0.0.1", visitor.port), PATIENCE) as sock:
            assert sock.recv(1) == b""

    visitor = Visitor(silent, browse)
    assert sign_in_as(visitor, emulator).refresh_token
    visitor.done()


# -- time and signals -----------------------------------------------------------------------------


def test_nobody_signs_in(emulator: Emulator, path: Path) -> None:
    visitor = Visitor(lambda v: v.come_back(code="x", state="y"))
    for patience in PATIENCES:
        with pytest.raises(SignInTimeout, match=f"within {patience:g} s; nothing was changed") as e:
            sign_in_as(visitor, emulator, timeout=patience)
        if "1 answers" in str(e.value):
            break
    assert isinstance(e.value, TimeoutError)
    assert not path.exists()


def test_ctrl_c_ends_the_waiting_at_once(emulator: Emulator, path: Path) -> None:
    pressed: List[float] = []

    def press(visitor: Visitor) -> None:
        visitor.get(visitor.callback)  # it is waiting now
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    delays = []
    for _ in range(5):
        visitor = Visitor(press)
        with pytest.raises(KeyboardInterrupt):
            sign_in_as(visitor, emulator)
        delays.append(time.monotonic() - pressed.pop())
        if delays[-1] < 0.1:
            break
    assert min(delays) < 0.1
    assert not path.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", visitor.port), PATIENCE)


# -- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["account", "anonymous"])
@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_full_disk_leaves_the_old_file(
    emulator: Emulator, path: Path, monkeypatch: pytest.MonkeyPatch, step: str, how: str
) -> None:
    write_credentials(OLD)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    calls: Dict[str, Callable[[], Any]] = {
        "account": lambda: sign_in_as(Visitor(browse), emulator),
        "anonymous": lambda: sign_in_anonymously(emulator.url),
    }
    with pytest.raises(CredentialsError, match="No space left on device"):
        calls[how]()
    assert path.read_bytes() == before


def test_a_home_that_cannot_be_written(emulator: Emulator, home: Path) -> None:
    (home / ".arkor").write_text("a file in its place")
    for call in (
        lambda: sign_in_as(Visitor(browse), emulator),
        lambda: sign_in_anonymously(emulator.url),
    ):
        with pytest.raises(CredentialsError, match="cannot be written"):
            call()
    assert (home / ".arkor").read_text() == "a file in its place"


@pytest.mark.parametrize("content", [None, "{", "null", "[]"], ids=repr)
def test_what_cannot_be_had_again_is_kept_beside_the_new_file(
    emulator: Emulator, path: Path, content: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write_credentials(OLD)
    if content is not None:
        path.write_text(content)
    before, copy = path.read_bytes(), path.with_name("credentials.json.bak")
    account = sign_in_as(Visitor(browse), emulator)
    assert copy.read_bytes() == before
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert "credentials.json.bak" in caplog.text
    copy.unlink()
    assert sign_in_as(Visitor(browse), emulator) != account
    assert not copy.exists(), "an account can sign in again"


def test_a_file_that_this_user_may_not_read_is_not_replaced(
    emulator: Emulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_credentials(OLD)
    before = path.read_bytes()

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("arkor_sync._common.files.read_file", refuse)
    for call in (
        lambda: sign_in_as(Visitor(browse), emulator),
        lambda: sign_in_anonymously(emulator.url),
    ):
        with pytest.raises(CredentialsError, match=r"cannot be copied to .*: Permission denied"):
            call()
    assert path.read_bytes() == before


def test_a_file_with_wider_rights_is_closed(emulator: Emulator, path: Path) -> None:
    write_credentials(OLD)
    path.chmod(0o644)
    sign_in_as(Visitor(browse), emulator)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_lock_that_is_never_given_up_is_named(emulator: Emulator, path: Path) -> None:
    from arkor_sync.cloud.http import HttpClient

    write_credentials(OLD)
    http = HttpClient(timeout=(0.5, 1.0))
    said = "has been locked by another"
    with lock_of_another(path.parent), pytest.raises(CredentialsError, match=said):
        sign_in_anonymously(emulator.url, http=http)
    assert read_credentials() == OLD


def test_another_file_than_that_of_the_home(emulator: Emulator, path: Path, work: Path) -> None:
    account = sign_in_as(Visitor(browse), emulator, path="mine.json")
    assert read_credentials(work / "mine.json") == account
    assert sign_in_anonymously(emulator.url, path=work / "mine.json").mode == "anon"
    assert sign_out("mine.json")
    assert not path.exists()


def test_signing_in_anonymously(emulator: Emulator, path: Path) -> None:
    made = sign_in_anonymously(emulator.url + "/")
    assert read_credentials() == made
    assert (made.arkor_cloud_api_url, made.source) == (emulator.url, f"from {path}")
    assert [each.path for each in emulator.requests] == ["/v1/auth/anonymous"]
    assert CloudApiClient(emulator.url, made).me().orgs[0].slug == made.org_slug


def test_an_anonymous_sign_in_that_is_refused(emulator: Emulator, path: Path) -> None:
    emulator.settings.anonymous_sign_in = False
    write_credentials(OLD)
    with pytest.raises(AnonymousTokenRejectedError):
        sign_in_anonymously(emulator.url)
    assert read_credentials() == OLD
    assert [each.name for each in path.parent.iterdir()] == ["credentials.json"]


@pytest.mark.parametrize("content", ["{", "[]", "", None], ids=repr)
def test_signing_out_removes_the_file_whatever_it_holds(path: Path, content: Any) -> None:
    write_credentials(OLD)
    if content is not None:
        path.write_text(content)
    assert sign_out()
    assert not path.exists()
    assert not sign_out()


def test_signing_out_without_a_directory_makes_none(home: Path) -> None:
    assert not sign_out()
    assert list(home.iterdir()) == []


def test_a_directory_that_cannot_be_looked_into_is_no_signed_out_user(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    write_credentials(OLD)
    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(CredentialsError, match=r"json cannot be removed: Permission denied$"):
        sign_out()
    assert os.path.exists(path)


@pytest.mark.parametrize("odd", ["a\0b", "/dev/null/credentials.json"])
def test_a_path_that_can_lead_to_no_file(odd: str) -> None:
    assert not sign_out(odd)


def test_a_directory_in_place_of_the_file_is_not_removed(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(CredentialsError, match="cannot be removed"):
        sign_out()
    assert path.is_dir()


# -- the address of the provider ------------------------------------------------------------------


def test_plain_http_is_for_this_machine_only() -> None:
    assert provider_url("arkor.auth0.com") == "https://arkor.auth0.com"
    assert provider_url("127.0.0.1:8976") == "https://127.0.0.1:8976"
    for good in ("http://127.0.0.1:8976", "http://localhost:1", "http://[::1]:80"):
        assert provider_url(good) == good


@pytest.mark.parametrize(
    "domain",
    [
        "http://arkor.auth0.com",
        "http://arkor.auth0.com:80",
        "http://127.0.0.1",
        "http://127.0.0.1:80/x",
        "http://127.0.0.1:80@attacker.example",
        "http://127.0.0.1.attacker.example:80",
        "http://localhost.attacker.example:80",
        "http://user@127.0.0.1:80",
        "http://127.0.0.1:80\n",
        "HTTP://127.0.0.1:80",
        "https://arkor.auth0.com",
        "a/b",
        "a?b",
        "a b",
        "",
    ],
)
def test_no_other_address_is_asked(domain: str, path: Path) -> None:
    with pytest.raises(ValueError, match="auth0Domain"):
        provider_url(domain)
    config = {"auth0Domain": domain, "clientId": "c", "audience": "a", "callbackPorts": [0]}
    visitor = Visitor()
    wanted = (ResponseError, CredentialsError)
    with Emulator(cli_config=config) as emulator, pytest.raises(wanted):
        sign_in_as(visitor, emulator)
    assert visitor.url == ""
    account = OAuthCredentials("a", "r", 0, domain, "a", "c")
    with pytest.raises(CredentialsError, match="sign in again"):
        Refresher(account).valid_credentials()
    assert not path.exists()


def test_a_provider_that_repeats_the_request_shows_no_secret() -> None:
    with ScriptedCloud() as cloud:
        config = {"auth0Domain": cloud.url, "clientId": "c", "audience": "a", "callbackPorts": [0]}
        cloud.replies = [
            Reply(200, config),
            lambda request: Reply(403, {"error": "e", "error_description": str(request.json)}),
        ]
        visitor = Visitor(lambda v: v.come_back(code="the-code-123", state=v.query["state"]))
        with pytest.raises(CredentialsError, match=r"403 e: .*'code': '\[hidden\]'") as caught:
            sign_in(cloud.url, open_browser=False, on_url=visitor, timeout=PATIENCE)
        visitor.done()
        sent = cloud.received[-1].json
    for secret in (sent["code"], sent["code_verifier"]):
        assert secret not in shown(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", route="token", status=403, value="invalid_grant"),
        Fault("status", route="token", status=503, value="down"),
        Fault("accept_then_drop", route="token"),
        Fault("wrong_content_type", route="token"),
        None,
    ],
    ids=["refused", "down", "dropped", "a page", "no refresh token"],
)
def test_no_secret_is_in_the_address_or_in_an_error(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    verifiers: List[str] = []
    challenge = module._challenge

    def remember(verifier: str) -> str:
        verifiers.append(str(verifier))
        return challenge(verifier)

    monkeypatch.setattr(module, "_challenge", remember)
    if fault is None:
        emulator.settings.refresh_tokens = "none"
    else:
        emulator.faults.add(fault)
    answers: List[Any] = []
    visitor = Visitor(lambda v: answers.append(v.get(v.url)))
    with pytest.raises(ArkorError) as caught:
        sign_in_as(visitor, emulator)
    visitor.done()
    (verifier,) = verifiers
    (code,) = re.findall(r"code=([^&]+)", answers[0].url)
    assert verifier not in visitor.url
    for secret in (verifier, code, "emulator-access"):
        assert secret not in shown(caught.value)
    assert verifier not in json.dumps([each.wire() for each in emulator.requests])
