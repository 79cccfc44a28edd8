"""The transport over real sockets: prompt bytes, honest errors, and a stop in every phase."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import socket
import ssl
import threading
import time
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
import requests
from urllib3.util.ssl_ import create_urllib3_context

from arkor_sync.cloud import bodies as bodies_module
from arkor_sync.cloud.bodies import ByteStream, _receive
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError, ArkorTimeoutError
from support.forking import fork
from support.loopback import Connection, Server, answer, hang_up, stay_silent
from support.servers import CERTIFICATE, full_backlog
from support.waiting import PATIENCE, PATIENCES, Background, until

PATIENT = (PATIENCE, PATIENCE)
SECRET = "a-token-that-nobody-may-see"


@pytest.fixture(autouse=True)
def _own_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can get meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def transport() -> Iterator[Transport]:
    session = requests.Session()
    session.verify = CERTIFICATE
    with Transport(session) as made:
        yield made


def bearer(request: Any) -> Any:
    request.headers["Authorization"] = f"Bearer {SECRET}"
    return request


def get(transport: Transport, url: str, **more: Any) -> requests.Response:
    return transport.request("GET", url, timeout=more.pop("timeout", PATIENT), **more)


def stream(transport: Transport, url: str, **more: Any) -> ByteStream:
    return ByteStream(get(transport, url, stream=True, **more))


# Framings: how a body may come.


class Framing:
    """One way to send a body in pieces, each of which must be read as it comes."""

    def __init__(self, headers: str, wrap: Callable[[bytes], bytes], end: bytes) -> None:
        self.head = f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode()
        self.wrap = wrap
        self.end = end


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def plain(data: bytes) -> bytes:
    return data


def framings(length: int) -> Dict[str, Framing]:
    """Build each framing anew: a compressor keeps what it has seen."""
    gzip, chunked_gzip = zlib.compressobj(wbits=31), zlib.compressobj(wbits=31)

    def squeeze(data: bytes, by: Any = gzip) -> bytes:
        return by.compress(data) + by.flush(zlib.Z_SYNC_FLUSH)

    chunked = "Transfer-Encoding: chunked\r\n"
    gzipped = "Content-Encoding: gzip\r\n"
    return {
        "chunked": Framing(chunked, chunk, b"0\r\n\r\n"),
        "content-length": Framing(f"Content-Length: {length}\r\n", plain, b""),
        "close-delimited": Framing("Connection: close\r\n", plain, b""),
        "gzip, close-delimited": Framing(f"Connection: close\r\n{gzipped}", squeeze, b""),
        "gzip, chunked": Framing(
            chunked + gzipped, lambda data: chunk(squeeze(data, chunked_gzip)), b"0\r\n\r\n"
        ),
    }


NAMES = sorted(framings(0))
PIECES = [b": ping\n\n", b'id: 1\ndata: {"type":"training.log","step":1}\n\n', b"x"]


def send_pieces(name: str, go: threading.Semaphore) -> Callable[[Connection, str], None]:
    """Send a piece, and the next one only when the last one was read."""

    def handler(connection: Connection, _: str) -> None:
        framing = framings(sum(map(len, PIECES)))[name]
        connection.send(framing.head)
        for piece in PIECES:
            connection.send(framing.wrap(piece))
            assert go.acquire(timeout=PATIENCE)
        connection.send(framing.end)
        connection.sock.shutdown(socket.SHUT_RDWR)

    return handler


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_bytes_are_read_as_they_arrive(transport: Transport, name: str, tls: bool) -> None:
    go = threading.Semaphore(0)
    with Server(send_pieces(name, go), tls=tls) as server:
        body = stream(transport, server.url)
        for piece in PIECES:
            assert read_all_of(piece, body)
            go.release()
        assert body.read() == b""
        assert body.read() == b""
        body.close()


def read_all_of(piece: bytes, body: ByteStream) -> bool:
    """Read a piece, which older versions of urllib3 hand over byte by byte."""
    read = b""
    while len(read) < len(piece):
        read += body.read()
    return read == piece


def begin_body(name: str) -> Callable[[Connection, str], None]:
    def handler(connection: Connection, _: str) -> None:
        framing = framings(1000)[name]
        connection.send(framing.head + framing.wrap(PIECES[0]))
        connection.wait_until_closed()

    return handler


def test_silence_in_a_body_is_a_timeout(transport: Transport) -> None:
    with Server(begin_body("chunked")) as server:
        for patience in PATIENCES:
            try:
                body = stream(transport, server.url, timeout=(PATIENCE, patience))
                assert read_all_of(PIECES[0], body)
            except ArkorTimeoutError:
                continue  # too little for the server to begin with
            break
        with pytest.raises(ArkorTimeoutError, match=r"^reading the stream: timed out$"):
            body.read()
        body.close()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_new_timeout_holds_from_the_next_read_on(
    transport: Transport, name: str, tls: bool
) -> None:
    with Server(begin_body(name), tls=tls) as server:
        body = stream(transport, server.url, timeout=(PATIENCE, PATIENCE * 10))
        assert read_all_of(PIECES[0], body)
        body.set_timeout(0.05)
        with pytest.raises(ArkorTimeoutError):
            body.read()
        body.close()


def test_a_timeout_may_be_set_when_the_body_is_at_its_end(transport: Transport) -> None:
    with Server(answer) as server:
        body = stream(transport, server.url)
        assert body.read() == b"ok"
        assert body.read() == b""
        body.set_timeout(1.0)
        body.close()
        body.set_timeout(1.0)


CUT = {
    "in a chunk": b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    "before a chunk": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "in the size of a chunk": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1",
    "after the chunk, before its newline": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc",
}


@pytest.mark.parametrize("sent", CUT.values(), ids=CUT.keys())
def test_a_chunked_body_that_is_cut_is_an_error(transport: Transport, sent: bytes) -> None:
    def handler(connection: Connection, _: str) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n" + sent)
        hang_up(connection, "")

    with Server(handler) as server:
        body = stream(transport, server.url)
        assert body.read() == b"abc"
        with pytest.raises(ArkorConnectionError, match="reading the stream") as caught:
            body.read()
        assert not isinstance(caught.value, ArkorTimeoutError)
        body.close()


def test_a_reset_in_a_body_is_an_error(transport: Transport) -> None:
    go = threading.Event()

    def handler(connection: Connection, _: str) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")
        go.wait(PATIENCE)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.sock.close()

    with Server(handler) as server:
        body = stream(transport, server.url)
        assert body.read() == b"abc"
        go.set()
        with pytest.raises(ArkorConnectionError, match="reset"):
            body.read()
        body.close()


def test_bytes_that_are_not_what_the_encoding_says_are_an_error(transport: Transport) -> None:
    def handler(connection: Connection, _: str) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnot gzip at all")
        hang_up(connection, "")

    with Server(handler) as server:
        body = stream(transport, server.url)
        with pytest.raises(ArkorConnectionError, match="reading the stream"):
            body.read()
        body.close()


def test_all_addresses_of_a_name_share_the_time_to_connect(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_backlog() as port:
        found = socket.getaddrinfo("127.0.0.1", port, 0, socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found * 100)
        begin = time.monotonic()
        with pytest.raises(ArkorTimeoutError):
            get(transport, f"http://many.example:{port}", timeout=(0.5, PATIENCE))
        assert time.monotonic() - begin < 20  # 0.5 s for each would be 50


# Interrupts: one for every phase in which a thread can be blocked.


def interrupted(transport: Transport, blocked: Background) -> ArkorConnectionError:
    transport.interrupt()
    with pytest.raises(ArkorConnectionError) as caught:
        blocked.result()
    assert not isinstance(caught.value, ArkorTimeoutError)
    assert transport.interrupted
    return caught.value


def test_an_interrupt_wakes_a_blocked_connect(transport: Transport) -> None:
    with full_backlog() as port:
        blocked = Background(get, transport, f"http://127.0.0.1:{port}")
        until(lambda: transport._duplicates)
        # Nothing tells when the thread is inside connect, so it is interrupted until it was.
        until(lambda: transport.interrupt() or not blocked.running())
        interrupted(transport, blocked)


def test_an_interrupt_wakes_a_tls_handshake_that_never_comes(transport: Transport) -> None:
    greeted = threading.Event()

    def handler(connection: Connection, _: str) -> None:
        connection.sock.recv(1)
        greeted.set()
        connection.wait_until_closed()

    with Server(handler, read_request=False) as server:
        blocked = Background(get, transport, server.url.replace("http:", "https:"))
        assert greeted.wait(PATIENCE)
        interrupted(transport, blocked)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_interrupt_wakes_the_wait_for_headers(transport: Transport, tls: bool) -> None:
    with Server(stay_silent, tls=tls) as server:
        blocked = Background(get, transport, server.url)
        until(lambda: server.requests)
        interrupted(transport, blocked)


def read_to_the_end(body: ByteStream) -> List[bytes]:
    """Read as the reader does; an interrupt may look like the end of the body."""
    pieces: List[bytes] = []
    try:
        for piece in iter(body.read, b""):
            pieces.append(piece)
    except ArkorTimeoutError:
        raise
    except ArkorConnectionError:
        return pieces
    return pieces


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_interrupt_wakes_a_read(transport: Transport, name: str, tls: bool) -> None:
    with Server(begin_body(name), tls=tls) as server:
        body = stream(transport, server.url)
        assert read_all_of(PIECES[0], body)
        blocked = Background(read_to_the_end, body)
        transport.interrupt()
        assert blocked.result() == []
        assert transport.interrupted
        body.close()


def test_an_interrupt_wakes_the_read_of_a_plain_answer(transport: Transport) -> None:
    with Server(begin_body("chunked")) as server:
        blocked = Background(get, transport, server.url)
        until(lambda: server.requests)
        interrupted(transport, blocked)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_interrupt_wakes_the_wait_for_a_proxy(scheme: str) -> None:
    with Server(stay_silent) as proxy:
        session = requests.Session()
        session.proxies = {scheme: proxy.url}
        with Transport(session) as transport:
            blocked = Background(get, transport, f"{scheme}://cloud.invalid/v1/me")
            until(lambda: proxy.requests)
            interrupted(transport, blocked)
    method = "GET http://cloud.invalid/v1/me" if scheme == "http" else "CONNECT cloud.invalid:443"
    assert proxy.requests[0].startswith(method)


def test_an_interrupt_stops_the_search_for_an_address_that_answers(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: List[Any] = []

    class Addresses(List[Any]):
        def __iter__(self) -> Iterator[Any]:
            for port in super().__iter__():
                tried.append(port)
                if len(tried) == 3:
                    transport.interrupt()
                yield socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: Addresses(range(1, 1000)))
    with pytest.raises(ArkorConnectionError, match="interrupted"):
        get(transport, "http://cloud.invalid")
    assert len(tried) == 3


def test_an_interrupt_before_the_request_makes_it_fail(transport: Transport) -> None:
    with Server(answer) as server:
        assert transport.reset()
        transport.interrupt()
        with pytest.raises(ArkorConnectionError, match="interrupted"):
            get(transport, server.url)
        assert server.requests == []


def test_an_interrupt_is_not_evaded_by_a_connection_that_was_kept_alive(
    transport: Transport,
) -> None:
    with Server(answer) as server:
        get(transport, server.url)
        transport.interrupt()
        with pytest.raises(ArkorConnectionError):
            get(transport, server.url)
        assert len(server.requests) == 1


def test_an_armed_transport_works_again(transport: Transport) -> None:
    with Server(answer) as server:
        for _ in range(3):
            assert get(transport, server.url).content == b"ok"
            transport.interrupt()
            assert transport.interrupted
            assert transport.reset()
            assert not transport.interrupted
        assert get(transport, server.url).content == b"ok"


def test_arming_drops_the_connections_of_before(transport: Transport) -> None:
    with Server(answer) as server:
        get(transport, server.url)
        get(transport, server.url)
        assert server.accepted.acquire(timeout=PATIENCE)
        assert not server.accepted.acquire(blocking=False)  # it was kept alive
        transport.reset()
        get(transport, server.url)
        assert server.accepted.acquire(timeout=PATIENCE)


def test_a_close_is_for_good(transport: Transport) -> None:
    with Server(stay_silent) as server:
        blocked = Background(get, transport, server.url)
        until(lambda: server.requests)
        transport.close()
        with pytest.raises(ArkorConnectionError):
            blocked.result()
        assert not transport.reset()
        assert transport.interrupted
        with pytest.raises(ArkorConnectionError, match="interrupted"):
            get(transport, server.url)
        assert len(server.requests) == 1
        transport.close()


def test_interrupting_an_idle_transport_is_harmless() -> None:
    transport = Transport()
    transport.interrupt()
    transport.close()
    transport.interrupt()


def test_interrupts_from_many_threads_at_any_moment() -> None:
    """Whatever the owner is doing, it fails or succeeds; nothing hangs and nothing breaks."""
    with Server(answer) as server, Transport() as transport:
        over = threading.Event()

        def disturb() -> None:
            while not over.is_set():
                transport.interrupt()

        disturbing = [Background(disturb) for _ in range(2)]
        outcomes = set()
        for _ in range(50):
            transport.reset()
            try:
                outcomes.add(get(transport, server.url).content)
            except ArkorConnectionError as error:
                outcomes.add(type(error).__name__.encode())
        over.set()
        for each in disturbing:
            each.result()
        assert outcomes <= {b"ok", b"ArkorConnectionError"}


# Requests.


def test_a_request_carries_what_it_was_given(transport: Transport) -> None:
    bodies: List[bytes] = []

    def handler(connection: Connection, head: str) -> None:
        bodies.append(connection.sock.recv(100))
        answer(connection, head)

    with Server(handler) as server:
        response = transport.request(
            "POST",
            f"{server.url}/v1/jobs",
            timeout=PATIENT,
            params={"org": "a b"},
            headers={"X-Test": "yes"},
            json={"name": "n"},
            auth=bearer,  # type: ignore[arg-type]
        )
    assert response.content == b"ok"
    assert server.requests[0].startswith("POST /v1/jobs?org=a+b HTTP/1.1\r\n")
    assert "X-Test: yes\r\n" in server.requests[0]
    assert f"Authorization: Bearer {SECRET}\r\n" in server.requests[0]
    assert bodies == [b'{"name": "n"}']


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(transport: Transport, status: int) -> None:
    def handler(connection: Connection, _: str) -> None:
        connection.send(
            f"HTTP/1.1 {status} Elsewhere\r\nLocation: {server.url}/other\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )

    with Server(handler) as server:
        response = get(transport, server.url, auth=bearer)
        assert response.status_code == status
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [204, 401, 404, 429, 500, 503])
def test_any_status_is_returned_and_not_tried_again(transport: Transport, status: int) -> None:
    def handler(connection: Connection, _: str) -> None:
        connection.send(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())

    with Server(handler) as server:
        assert get(transport, server.url).status_code == status
        assert len(server.requests) == 1


def test_nobody_signs_in_with_a_netrc_file(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".netrc", "_netrc", "netrc"):
        (tmp_path / name).write_text(f"default login me password {SECRET}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Server(answer) as server:
        assert requests.get(server.url, timeout=PATIENCE).request.headers["Authorization"]
        response = get(transport, server.url)
        assert "Authorization" not in response.request.headers
        assert "authorization" not in server.requests[-1].lower()
        get(transport, server.url, auth=bearer)
        assert f"Authorization: Bearer {SECRET}" in server.requests[-1]


def test_a_templates_settings_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(answer) as proxy:
        session = requests.Session()
        session.headers["X-Team"] = "ml"
        session.proxies = {"http": proxy.url}
        with Transport(session) as transport:
            assert get(transport, "http://cloud.invalid/v1/me").content == b"ok"
        assert "X-Team: ml" in proxy.requests[0]
        # The environment counts as it does for requests, and not for a template that says so.
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with Transport() as transport:
            assert get(transport, "http://cloud.invalid/v1/me").content == b"ok"
        with Server(answer) as direct:
            session = requests.Session()
            session.trust_env = False
            with Transport(session) as transport:
                get(transport, direct.url)
            assert len(direct.requests) == 1


def test_the_next_address_is_tried_when_one_refuses(
    transport: Transport, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(answer) as server:

        def resolve(*_: Any) -> List[Any]:
            kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
            return [(*kind, ("127.0.0.1", closed_port)), (*kind, ("127.0.0.1", server.port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert get(transport, "http://cloud.invalid").content == b"ok"


# Errors.


def failing_requests() -> Iterator[Tuple[str, Callable[[Connection, str], None], float]]:
    def nonsense(connection: Connection, _: str) -> None:
        connection.send(b"SSH-2.0-OpenSSH\r\n\r\n")
        hang_up(connection, "")

    def cut_body(connection: Connection, _: str) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n" + CUT["in a chunk"])
        hang_up(connection, "")

    yield "hung up", hang_up, PATIENCE
    yield "not http", nonsense, PATIENCE
    yield "cut body", cut_body, PATIENCE
    yield "headers never come", stay_silent, 0.05
    yield "body never comes", begin_body("content-length"), 0.05


CASES = list(failing_requests())


def check_error(error: ArkorConnectionError, timed_out: bool) -> None:
    assert isinstance(error, ArkorTimeoutError) == timed_out
    assert isinstance(error, requests.RequestException)
    text = str(error)
    assert text.startswith("GET http://127.0.0.1:")
    assert " at 0x" not in text
    assert "secret-query" not in text
    assert len(text) < 200
    # Neither it nor its cause leads to the request, and so to its headers.
    link: Optional[BaseException] = error
    while link is not None:
        assert getattr(link, "request", None) is None
        link = link.__cause__
    assert SECRET not in "".join(traceback.format_exception(type(error), error, None))
    assert SECRET not in "".join(
        traceback.format_exception(type(error), error, error.__traceback__)
    )
    assert str(pickle.loads(pickle.dumps(error))) == text


@pytest.mark.parametrize(
    ("handler", "patience"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_request_without_its_answer_is_a_clean_error(
    transport: Transport, handler: Callable[[Connection, str], None], patience: float
) -> None:
    with Server(handler) as server:
        url = f"{server.url}/v1/me?key=secret-query"
        with pytest.raises(ArkorConnectionError) as caught:
            get(transport, url, auth=bearer, timeout=(PATIENCE, patience))
        check_error(caught.value, timed_out=patience < PATIENCE)


def test_a_refused_connection_is_a_clean_error(transport: Transport, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}/v1/me?key=secret-query"
    with pytest.raises(ArkorConnectionError, match="refused") as caught:
        get(transport, url, auth=bearer)
    check_error(caught.value, timed_out=False)


def test_a_name_that_does_not_resolve_is_a_clean_error(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ArkorConnectionError, match="Name or service not known") as caught:
        get(transport, "http://cloud.invalid/v1/me", auth=bearer)
    assert str(caught.value).startswith("GET http://cloud.invalid/v1/me: ")


def test_a_connect_that_takes_too_long_is_a_timeout(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arkor_sync.cloud.transport.wait_for_write", lambda *_: False)
    with pytest.raises(ArkorTimeoutError) as caught:
        get(transport, "http://127.0.0.1:1/v1/me?key=secret-query", auth=bearer)
    check_error(caught.value, timed_out=True)


def test_a_certificate_that_nobody_vouches_for_is_a_clean_error() -> None:
    with Server(answer, tls=True) as server, Transport() as transport:
        with pytest.raises(ArkorConnectionError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            get(transport, server.url, auth=bearer)
        assert not isinstance(caught.value, ArkorTimeoutError)
        assert server.requests == []


def test_all_connections_that_trust_the_same_certificates_share_one_tls_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def make(**settings: Any) -> ssl.SSLContext:
        nonlocal made
        made += 1
        return create_urllib3_context(**settings)

    monkeypatch.setattr("arkor_sync.cloud.connections.create_urllib3_context", make)
    monkeypatch.setattr("arkor_sync.cloud.connections._contexts", {})
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Path(CERTIFICATE).read_bytes())
    session = requests.Session()
    session.verify = str(bundle)
    with Server(answer, tls=True) as server:
        for _ in range(3):
            with Transport(session) as transport:
                assert get(transport, server.url).status_code == 200
        assert made == 1
        os.utime(bundle, ns=(1, 1))
        with Transport(session) as transport:
            assert get(transport, server.url).status_code == 200
        assert made == 2, "certificates that were replaced are read again"
        session.verify = False
        with warnings.catch_warnings(), Transport(session) as transport:
            warnings.simplefilter("ignore")
            assert get(transport, server.url).status_code == 200
        session.verify = str(bundle)
        with Transport(session) as transport:
            assert get(transport, server.url).status_code == 200
        assert made == 3, "what one connection does not check is none of the others' business"


@pytest.mark.parametrize("url", ["cloud", "ftp://cloud.invalid", "http://", "http://[::1", "//x"])
def test_a_url_that_is_none_is_a_clean_error(transport: Transport, url: str) -> None:
    with pytest.raises(ArkorConnectionError):
        get(transport, url)


# Leaks.


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("how", ["plain", "streamed", "interrupted", "refused", "timed out"])
def test_no_socket_is_left_open(how: str, closed_port: int) -> None:
    gc.collect()
    gc.disable()  # what is closed by the garbage collector only is not closed
    try:
        before = open_descriptors()
        with Server(stay_silent if how in ("interrupted", "timed out") else answer) as server:
            for _ in range(5):
                with Transport() as transport:
                    for _ in range(3):
                        transport.reset()
                        use(transport, server, how, closed_port)
        assert open_descriptors() <= before
    finally:
        gc.enable()


def use(transport: Transport, server: Server, how: str, closed_port: int) -> None:
    if how == "plain":
        get(transport, server.url)
    elif how == "streamed":
        body = stream(transport, server.url)
        assert body.read() == b"ok"
        body.close()
    elif how == "interrupted":
        seen = len(server.requests)
        blocked = Background(get, transport, server.url)
        until(lambda: len(server.requests) > seen)
        interrupted(transport, blocked)
    elif how == "timed out":
        with pytest.raises(ArkorTimeoutError):
            get(transport, server.url, timeout=(PATIENCE, 0.01))
    else:
        with pytest.raises(ArkorConnectionError):
            get(transport, f"http://127.0.0.1:{closed_port}")


def test_an_interrupt_right_after_the_connect_began_is_not_lost() -> None:
    class Interrupted(Transport):
        def _start_connecting(self, sock: socket.socket, target: Any) -> None:
            super()._start_connecting(sock, target)
            self.interrupt()

    with full_backlog() as port:
        url = f"http://127.0.0.1:{port}"
        with Interrupted() as transport, pytest.raises(ArkorConnectionError) as caught:
            get(transport, url, timeout=(PATIENCE, 1))
    assert not isinstance(caught.value, ArkorTimeoutError)


def test_an_address_family_that_the_machine_lacks_is_passed_over(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_socket = socket.socket

    def make(family: int = -1, *rest: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return plain_socket(family, *rest, **more)

    with Server(answer) as server:

        def resolve(*_: Any) -> Any:
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", server.port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
            ]

        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", resolve)
            patch.setattr(socket, "socket", make)
            assert get(transport, "http://localhost").content == b"ok"


def test_an_error_that_was_being_handled_is_not_taken_for_the_cause(
    transport: Transport, closed_port: int
) -> None:
    try:
        raise socket.timeout("of something else")
    except OSError:
        with pytest.raises(ArkorConnectionError, match="refused") as caught:
            get(transport, f"http://127.0.0.1:{closed_port}")
    assert not isinstance(caught.value, ArkorTimeoutError)


def test_no_link_of_the_chain_holds_the_request(transport: Transport, closed_port: int) -> None:
    with pytest.raises(ArkorConnectionError) as caught:
        get(transport, f"http://127.0.0.1:{closed_port}", auth=bearer)
    links: List[Any] = [caught.value]
    while links:
        link = links.pop()
        if link is not None:
            links += [link.__cause__, link.__context__]
            assert getattr(link, "request", None) is None


def test_closing_a_stream_hangs_up(transport: Transport) -> None:
    gone = threading.Event()

    def handler(connection: Any, _: Any) -> None:
        connection.send(framings(0)["chunked"].head + chunk(b"abc"))
        connection.wait_until_closed()
        gone.set()

    with Server(handler) as server:
        body = ByteStream(get(transport, server.url, stream=True), transport)
        assert body.read() == b"abc"
        body.close()
        assert gone.wait(PATIENCE)


def test_an_interrupt_in_the_middle_of_the_headers_is_an_error(transport: Transport) -> None:
    def handler(connection: Any, _: Any) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n")
        connection.wait_until_closed()

    with Server(handler) as server:
        blocked = Background(get, transport, server.url, stream=True)
        until(lambda: server.requests)
        transport.interrupt()
        with pytest.raises(ArkorConnectionError):
            blocked.result()


def test_what_was_read_ahead_with_the_headers_comes_first_and_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However large the file's buffer is beside what is asked of the socket."""
    monkeypatch.setattr(bodies_module, "_CHUNK", 4)
    near, far = socket.socketpair()
    with near, far, near.makefile("rb") as file:
        far.sendall(b"head\n0123456789")
        assert file.readline() == b"head\n"
        far.sendall(b"abcdef")
        arriving = _receive(file)
        assert [next(arriving) for _ in range(3)] == [b"0123456789", b"abcd", b"ef"]


def test_a_forked_child_that_closes_a_transport_leaves_the_parents_connection_open(
    transport: Transport,
) -> None:
    go_on = threading.Event()

    def in_two_parts(connection: Connection, head: str) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        assert go_on.wait(PATIENCE)
        connection.send(b"two")

    with Server(in_two_parts) as server:
        stream = ByteStream(get(transport, server.url, stream=True))
        assert stream.read() == b"one"
        assert fork(transport.close)() == 0
        assert fork(lambda: transport.__exit__())() == 0
        go_on.set()
        assert stream.read() == b"two"
