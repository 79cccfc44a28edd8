"""What the program gave decides, and nothing is sent that it did not give."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any, Iterator, List, Optional

import pytest
import requests

from arkor_sync.cloud import plain_session
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.loopback import is_loopback
from arkor_sync.cloud.plain_session import PlainSession
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError, ArkorUsageError
from support.loopback import Connection, Server, answer
from support.servers import CERTIFICATE
from support.waiting import PATIENCE

ELSEWHERE = "http://cloud.invalid/v1/me"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *map(str.lower, PROXIES), "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plain_session, "_warned_of", set())


@pytest.fixture
def proxy() -> Iterator[Server]:
    with Server(answer) as server:
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    with Server(answer) as server:
        yield server


def template(**settings: Any) -> requests.Session:
    session = requests.Session()
    for name, value in settings.items():
        setattr(session, name, value)
    return session


def get(url: str, session: Optional[requests.Session] = None) -> bytes:
    with Transport(session) as transport:
        return transport.request("GET", url, timeout=(PATIENCE, PATIENCE)).content


# The proxy.


@pytest.mark.parametrize("key", ["http", "all", "http://cloud.invalid", "all://cloud.invalid"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_the_sessions_proxy_is_used_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, proxy: Server, other: Server, key: str, variable: str
) -> None:
    monkeypatch.setenv(variable, other.url)
    assert get(ELSEWHERE, template(proxies={key: proxy.url})) == b"ok"
    assert proxy.requests
    assert other.requests == []


@pytest.mark.parametrize("none", [None, ""])
def test_a_session_can_say_that_there_is_no_proxy(
    monkeypatch: pytest.MonkeyPatch, other: Server, none: Optional[str]
) -> None:
    monkeypatch.setenv("HTTP_PROXY", other.url)
    with pytest.raises(ArkorConnectionError):
        get(ELSEWHERE, template(proxies={"http": none}))
    assert other.requests == []


def test_the_environment_decides_what_the_session_leaves_open(
    monkeypatch: pytest.MonkeyPatch, proxy: Server, other: Server
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f" {proxy.url}\n")
    assert get(ELSEWHERE, template(proxies={"https": other.url})) == b"ok"
    assert get(ELSEWHERE, template(proxies=None)) == b"ok"
    assert len(proxy.requests) == 2
    monkeypatch.setenv("NO_PROXY", "cloud.invalid")
    with pytest.raises(ArkorConnectionError):
        get(ELSEWHERE)
    assert len(proxy.requests) == 2
    monkeypatch.delenv("NO_PROXY")
    with pytest.raises(ArkorConnectionError):
        get(ELSEWHERE, template(trust_env=False))
    assert len(proxy.requests) == 2


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_variable_of_a_proxy_counts_as_none(
    monkeypatch: pytest.MonkeyPatch, proxy: Server, empty: str
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, empty)
    with pytest.raises(ArkorConnectionError):  # there is no such host, and no complaint of a proxy
        get(ELSEWHERE)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    assert get(ELSEWHERE) == b"ok"


@pytest.mark.parametrize("scheme", ["", "http://"])
@pytest.mark.parametrize("user", ["", "me:secret-word@"])
def test_a_proxy_needs_no_scheme(
    monkeypatch: pytest.MonkeyPatch, proxy: Server, scheme: str, user: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"{scheme}{user}127.0.0.1:{proxy.port}")
    assert get(ELSEWHERE) == b"ok"
    assert ("Proxy-Authorization: Basic " in proxy.requests[0]) is bool(user)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
def test_this_machine_is_not_asked_through_the_environments_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: Server, host: str
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    with Server(answer) as server:
        assert get(f"http://{host}:{server.port}/x") == b"ok"
        assert len(server.requests) == 1
        assert proxy.requests == []
        # A program that says so wants it, to look at its own requests.
        assert get(f"http://{host}:{server.port}/x", template(proxies={"http": proxy.url})) == b"ok"
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.1.2", True),
        ("127.1", True),
        ("0x7f.1", True),
        ("2130706433", True),
        ("0.0.0.0", True),
        ("::1", True),
        ("::1%lo", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LocalHost.", True),
        ("emulator.localhost", True),
        ("10.0.0.1", False),
        ("128.0.0.1", False),
        ("::2", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.example.com", False),
        ("notlocalhost", False),
        ("127.0.0.1.example.com", False),
        ("api.arkor.ai", False),
        ("", False),
    ],
)
def test_what_this_machine_is(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


UNREADABLE = [
    "http://me:secret#word@proxy:80",
    "http://me:secret/word@proxy:80",
    "http://me:secret?word@proxy:80",
    "http://me:80#secretword@proxy",
    "http://me:80/secretword@proxy",
    "me:secret/word@proxy",
    "http://me:secretword@proxy:99999",
    "http://me:secretword@proxy:-1",
    "http://me:secretword@proxy:port",
    "http://me:secretword@[::1",
    "http://me:secretword@[nonsense]:1",
    "http://me:secretword@pro xy:1",
    "http://me:secretword@proxy:1\nX: y",
    "http://me:secret\x00word@proxy:1",
    "http://me:secretword@:1",
    "http://me:secretword@ä..x:1",
    "http://me:secretword@" + "a" * 300,
    "http://me:secretword\u0142@proxy:1",
    "http://me:secretword\ud800@proxy:1",
    "ftp://me:secretword@proxy:1",
    "http:///secretword",
    "http://",
    "://secretword",
    "//me:secretword@proxy:1",
    "[secretword",
    "?secretword",
    "\x00",
]


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
@pytest.mark.parametrize(
    "url", [ELSEWHERE, ELSEWHERE.replace("http", "https")], ids=["http", "tls"]
)
def test_a_proxy_that_cannot_be_read_is_refused_and_not_shown(url: str, text: str) -> None:
    with pytest.raises(ArkorUsageError, match=r"proxy: got a text .* give http://host") as caught:
        get(url, template(proxies={"all": text}))
    for link in links(caught.value):
        shown = "".join(traceback.format_exception_only(type(link), link))
        assert "secret" not in shown
        assert "word" not in shown.replace("password", "")


@pytest.mark.parametrize("value", [5, b"http://proxy:1", ["http://proxy:1"], object()])
def test_a_proxy_that_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(ArkorUsageError, match="no address of a proxy"):
        get(ELSEWHERE, template(proxies={"http": value}))


def test_a_socks_proxy_without_its_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", "socks5h://me:secretword@proxy:1")
    with pytest.raises(ArkorUsageError, match=r"requests\[socks\]") as caught:
        get(ELSEWHERE)
    assert "secretword" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_error_of_a_proxy_shows_its_password(scheme: str) -> None:
    def refuse(connection: Connection, _: str) -> None:
        connection.send(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
        connection.sock.close()

    with Server(refuse) as server:
        reachable = f"http://me:secretword@127.0.0.1:{server.port}"
        for proxy in (
            reachable,
            "http://me:secretword@127.0.0.1:1",
            "http://me:secretword@no.invalid",
        ):
            client = CloudApiClient(
                f"{scheme}://cloud.invalid",
                TokenCredentials("t"),
                session=template(proxies={"all": proxy}),
            )
            with pytest.raises(Exception, match=r"407|Connection|Name|failure") as caught:
                client.me()
            for link in links(caught.value):
                assert "secretword" not in f"{link!r} {link}"


def links(error: BaseException) -> List[BaseException]:
    found = [error]
    for link in found:
        found += [each for each in (link.__cause__, link.__context__) if each is not None]
    return found


# Certificates.


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_sessions_certificates_are_used_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, requests.certs.where())
    with Server(answer, tls=True) as server:
        assert get(server.url, template(verify=CERTIFICATE)) == b"ok"
        with pytest.raises(ArkorConnectionError, match="certificate"):
            get(server.url)
        monkeypatch.setenv(variable, f"{CERTIFICATE}\n")
        assert get(server.url) == b"ok"
        with pytest.raises(ArkorConnectionError, match="certificate"):
            get(server.url, template(trust_env=False))


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_variable_of_certificates_counts_as_none(
    monkeypatch: pytest.MonkeyPatch, variable: str, empty: str
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, CERTIFICATE)
    monkeypatch.setenv(variable, empty)
    with Server(answer, tls=True) as server:
        assert get(server.url) == b"ok"  # the other variable counts
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        monkeypatch.setenv("CURL_CA_BUNDLE", empty)
        with pytest.raises(ArkorConnectionError, match="certificate"):
            get(server.url)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_session_that_does_not_verify_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    with Server(answer, tls=True) as server:
        assert get(server.url, template(verify=False)) == b"ok"


# What comes back from a server is not sent again.


def test_cookies_are_not_sent_back() -> None:
    def set_cookie(connection: Connection, head: str) -> None:
        count = len(server.requests)
        connection.send(
            f"HTTP/1.1 200 OK\r\nSet-Cookie: c{count}={'x' * 4000}; Path=/\r\n"
            f"Set-Cookie2: d{count}=1; Version=1\r\nContent-Length: 2\r\n\r\nok".encode()
        )

    with Server(set_cookie) as server, Transport() as transport:
        for _ in range(3):
            transport.request("GET", server.url, timeout=(PATIENCE, PATIENCE))
            transport.reset()
        assert len(server.requests) == 3
        assert not any("cookie" in head.lower() for head in server.requests)


def test_a_cookie_that_the_program_gave_is_sent(proxy: Server) -> None:
    get(proxy.url, template(headers={"Cookie": "mine=1"}))
    assert "Cookie: mine=1" in proxy.requests[0]


# Headers.


@pytest.mark.parametrize(
    "value", ["secretword\n", " secretword", "secret\r\nX: y", "secretword\u20ac"]
)
def test_a_header_that_cannot_be_sent_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ArkorUsageError, match=r"headers: got .* X-Key") as caught:
        get("http://127.0.0.1:1", template(headers={"X-Key": value}))
    for link in links(caught.value):
        assert "secret" not in str(link)


# Without TLS.


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        (ELSEWHERE, True),
        ("http://10.1.2.3/x", True),
        ("https://cloud.invalid/x", False),
        ("http://127.0.0.1:1/x", False),
        ("http://localhost:1/x", False),
    ],
)
def test_plain_http_to_another_machine_is_logged_once(
    caplog: pytest.LogCaptureFixture, url: str, warned: bool
) -> None:
    session = PlainSession()
    for _ in range(3):
        session.merge_environment_settings(f"{url}?secretword", {}, None, None, None)
    lines = [each for each in caplog.records if each.name == "arkor_sync.http"]
    assert len(lines) == warned
    assert all(each.levelno == logging.WARNING for each in lines)
    assert "secretword" not in caplog.text


def test_a_cloud_without_tls_on_another_machine_is_warned_of(
    proxy: Server, caplog: pytest.LogCaptureFixture
) -> None:
    session = template(proxies={"http": proxy.url})
    client = CloudApiClient("http://cloud.invalid", TokenCredentials("t"), session=session)
    with pytest.raises(Exception, match="expected JSON"):
        client.me()
    assert "requests to cloud.invalid are not encrypted" in caplog.text
