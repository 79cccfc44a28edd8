"""What the text of a failed connection says, and whether the server may have got the request."""

from __future__ import annotations

import socket
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

import pytest
import requests

from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    TokenCredentials,
    read_credentials,
    write_credentials,
)
from arkor_sync.cloud.project import ProjectState
from arkor_sync.cloud.submission import maybe_created
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError, ArkorTimeoutError
from support.loopback import Connection, Server, answer, hang_up, stay_silent
from support.servers import CERTIFICATE, full_backlog, mute, server_context
from support.waiting import PATIENCE

SECRET = "do-not-show-me"
SCOPE = ProjectState("my org", "my&project", "project-1")
GIVEN = " (the address is given by the program)"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can get meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def template(**settings: Any) -> requests.Session:
    session = requests.Session()
    for name, value in settings.items():
        setattr(session, name, value)
    return session


def create(
    url: Optional[str],
    session: Optional[requests.Session] = None,
    timeout: Any = (PATIENCE, PATIENCE),
    credentials: Any = None,
) -> ArkorConnectionError:
    """Submit a job that cannot be submitted, and look at the error as a program would."""
    client = CloudApiClient(
        url,
        credentials or TokenCredentials(SECRET),
        scope=SCOPE,
        session=session,
        timeout=timeout,
    )
    with pytest.raises(ArkorConnectionError) as caught:
        client.jobs.create("n", {})
    error = caught.value
    text = str(error)
    assert text.startswith("POST ")
    assert SECRET not in text
    assert "orgSlug" not in text
    assert " at 0x" not in text
    assert text.endswith(f"; {maybe_created('n')}") is error.sent
    return error


def refusing(connection: Connection, status: str) -> None:
    connection.send(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
    connection.sock.close()


def refuse_with(status: str) -> Callable[[Connection, str], None]:
    return lambda connection, _: refusing(connection, status)


def speak_plainly(connection: Connection, _: str) -> None:
    """Answer a TLS handshake as an HTTP server does that does not know what it got."""
    connection.sock.recv(1)
    connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    connection.wait_until_closed()


# Before the request is sent: nothing can have been created.


def test_a_refused_connection_names_the_host_the_port_and_where_they_were_found(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    error = create(url)
    assert str(error) == (
        f"POST {url}/v1/jobs: [Errno 111] Connection refused; tried 127.0.0.1:{closed_port}{GIVEN}"
    )
    credentials = TokenCredentials(SECRET, url)
    found = "(the address is that of the credentials given by the program)"
    assert str(create(None, credentials=credentials)).endswith(found)
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", url)
    assert str(create(None)).endswith("(the address is from ARKOR_CLOUD_API_URL)")
    for given, source in ((None, "from ARKOR_CLOUD_API_URL"), (url, "given by the program")):
        with pytest.raises(ArkorConnectionError) as caught:
            CloudApiClient(given).me()  # it requests an anonymous identity first
        assert str(caught.value).endswith(f"(the address is {source})")


def test_the_credentials_of_a_local_arkor_that_has_ended_say_what_to_do(
    closed_port: int, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    path = tmp_path / "credentials.json"
    write_credentials(AnonymousCredentials(SECRET, "i", url, "my org"), path)
    assert str(create(None, credentials=read_credentials(path))) == (
        f"POST {url}/v1/jobs: [Errno 111] Connection refused; tried 127.0.0.1:{closed_port} (the "
        f"address is that of the credentials from {path}); no local Arkor listens there: "
        f"`arkor-sync emulator --port {closed_port}` starts one; `arkor-sync logout` goes back to "
        "the public cloud"
    )


def test_a_name_that_is_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    error = create("https://cloud.invalid/arkor")
    assert str(error) == (
        f"POST https://cloud.invalid/arkor/v1/jobs: [Errno {socket.EAI_NONAME}] Name or service "
        f"not known; tried cloud.invalid:443{GIVEN}"
    )
    session = template(proxies={"https": f"http://me:{SECRET}@proxy.invalid"})
    assert "; tried the proxy proxy.invalid:80 (the session), on the way to cloud.invalid:443" in (
        str(create("https://cloud.invalid", session))
    )


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_that_refuses_connections_is_named_with_its_variable(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://me:{SECRET}@127.0.0.1:{closed_port}")
    error = create("https://cloud.invalid")
    assert str(error) == (
        "POST https://cloud.invalid/v1/jobs: [Errno 111] Connection refused; tried the proxy "
        f"127.0.0.1:{closed_port} ({variable}), on the way to cloud.invalid:443{GIVEN}"
    )


@pytest.mark.parametrize("status", ["407", "403", "502"])
def test_a_proxy_that_opens_no_tunnel_is_named(status: str) -> None:
    with Server(refuse_with(status)) as proxy:
        session = template(proxies={"all": f"http://me:{SECRET}@127.0.0.1:{proxy.port}"})
        error = create("https://cloud.invalid", session)
    assert (
        f": Tunnel connection failed: {status} No; tried cloud.invalid:443 through the proxy "
        in (str(error))
    )
    assert f"the proxy 127.0.0.1:{proxy.port} (the session)" in str(error)


def test_tls_that_is_spoken_to_a_plain_port_is_told_as_such() -> None:
    with Server(speak_plainly, read_request=False) as server:
        error = create(server.url.replace("http:", "https:"))
    assert "; what answered does not speak TLS: if that is right, use http:// there; tried " in (
        str(error)
    )


def test_plain_http_that_is_spoken_to_a_tls_port_is_told_as_such() -> None:
    def alert(connection: Connection, _: str) -> None:
        connection.send(b"\x15\x03\x01\x00\x02\x02\x46")  # as OpenSSL does
        hang_up(connection, "")

    with Server(alert) as server:
        error = create(server.url)
    assert str(error) == (
        f"POST {server.url}/v1/jobs: the server speaks TLS, and was asked without it; "
        "use https:// in the address"
    )


@pytest.mark.parametrize("source", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "the session", ""])
def test_a_certificate_that_is_not_trusted_is_told_with_what_it_was_checked_with(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    session, bundle = None, requests.certs.where()
    advice = f"; the certificates of {source} ({bundle}) were used; "
    if source == "the session":
        session = template(verify=bundle)
    elif source:
        monkeypatch.setenv(source, bundle)
    else:
        advice = "; for an authority of your own, name its file in REQUESTS_CA_BUNDLE; "
    with Server(answer, tls=True) as server:
        error = create(server.url, session)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert f"{advice}tried 127.0.0.1:{server.port}{GIVEN}" in str(error)


def test_a_certificate_of_another_name_is_told_with_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest: find("127.0.0.1", *rest))
    with Server(answer, tls=True) as server:
        error = create(f"https://cloud.invalid:{server.port}", template(verify=CERTIFICATE))
    said = str(error).partition(": ")[2]
    assert "were used" not in said
    assert "'cloud.invalid'" in said
    assert f"tried cloud.invalid:{server.port}" in said


def test_certificates_that_are_not_there_are_told_with_their_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    error = create("https://127.0.0.1:1")
    assert f"the certificates of REQUESTS_CA_BUNDLE ({tmp_path}/nothing.pem) were used" in (
        str(error)
    )


def hang_up_at_once(connection: Connection, _: str) -> None:
    connection.sock.recv(1)
    hang_up(connection, "")


def reset_at_once(connection: Connection, _: str) -> None:
    connection.sock.recv(1)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.sock.close()


@pytest.mark.parametrize("handler", [hang_up_at_once, reset_at_once])
def test_a_handshake_that_breaks_off_has_sent_nothing(handler: Any) -> None:
    with Server(handler, read_request=False) as server:
        error = create(server.url.replace("http:", "https:"))
    assert f"; tried 127.0.0.1:{server.port}{GIVEN}" in str(error)
    assert error.sent is False


def test_a_handshake_that_never_comes_is_a_timeout_that_has_sent_nothing() -> None:
    with mute() as port:
        error = create(f"https://127.0.0.1:{port}", timeout=(0.05, 0.05))
    assert isinstance(error, ArkorTimeoutError)
    assert f": timed out after 0.05 s; tried 127.0.0.1:{port}" in str(error)


def test_connecting_that_takes_too_long_says_how_long_and_where() -> None:
    with full_backlog() as port:
        error = create(f"http://127.0.0.1:{port}", timeout=(0.05, PATIENCE))
    assert isinstance(error, ArkorTimeoutError)
    assert f": timed out after 0.05 s; tried 127.0.0.1:{port}{GIVEN}" in str(error)


@pytest.mark.parametrize("url", ["http://a..b", "http://" + "a" * 300])
def test_a_host_that_is_no_name_is_asked_nothing(url: str) -> None:
    assert create(url).sent is False


# After it: it may have been created.


def reset(connection: Connection, _: str) -> None:
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.sock.close()


def nonsense(connection: Connection, _: str) -> None:
    connection.send(b"SSH-2.0-OpenSSH\r\n\r\n")
    hang_up(connection, "")


def cut_body(connection: Connection, _: str) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    hang_up(connection, "")


AFTER_SENDING: Dict[str, Any] = {
    "hung up": hang_up,
    "reset": reset,
    "not HTTP": nonsense,
    "cut body": cut_body,
}


@pytest.mark.parametrize("by", ["plain", "tls", "proxy", "tunnel"])
@pytest.mark.parametrize("how", AFTER_SENDING)
def test_a_request_that_was_sent_may_have_created_the_job(how: str, by: str) -> None:
    fail, url, session = AFTER_SENDING[how], "http://cloud.invalid", template(verify=False)
    with Server(tunnel_to(fail) if by == "tunnel" else fail, tls=by == "tls") as server:
        if by in ("proxy", "tunnel"):
            session.proxies = {"all": server.url}
        if by == "tunnel":
            url = "https://cloud.invalid"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the certificate is not checked here
            error = create(url if session.proxies else server.url, session)
        assert error.sent is True
        assert len(server.requests) == 1


def tunnel_to(handler: Callable[[Connection, str], None]) -> Callable[[Connection, str], None]:
    """Open a tunnel, and be what is at its end."""

    def serve(connection: Connection, _: str) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        with server_context().wrap_socket(connection.sock, server_side=True) as connection.sock:
            assert connection.read_request().startswith("POST /v1/jobs")
            handler(connection, "")

    return serve


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_answer_that_does_not_come_says_how_long_it_was_waited_for(tls: bool) -> None:
    with Server(stay_silent, tls=tls) as server:
        error = create(server.url, template(verify=CERTIFICATE), timeout=(PATIENCE, 0.05))
    assert isinstance(error, ArkorTimeoutError)
    assert ": timed out after 0.05 s" in str(error)


def test_a_connection_that_was_kept_alive_and_has_broken_may_have_been_used() -> None:
    def once(connection: Connection, head: str) -> None:
        if len(server.requests) == 1:
            return answer(connection, head)
        return hang_up(connection, head)

    with Server(once) as server, Transport() as transport:
        transport.request("GET", server.url, timeout=(PATIENCE, PATIENCE))
        with pytest.raises(ArkorConnectionError) as caught:
            transport.request("POST", server.url, timeout=(PATIENCE, PATIENCE))
    assert caught.value.sent is True


def test_the_error_of_a_body_names_the_route_without_its_query() -> None:
    with Server(cut_body) as server, pytest.raises(ArkorConnectionError) as caught:
        CloudApiClient(server.url, TokenCredentials(SECRET), scope=SCOPE).jobs.list()
    assert str(caught.value).startswith(f"GET {server.url}/v1/jobs: reading the answer: ")


# Other kinds of proxies and addresses.


def test_an_ipv6_address_has_its_brackets(closed_port: int) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6))
        try:
            listener.bind(("::1", 0))
        except OSError:
            return  # this machine has no IPv6
        port = listener.getsockname()[1]
        assert f"tried [::1]:{port}" in str(create(f"http://[::1]:{port}"))
