"""A SOCKS proxy: the way through it, a stop in every phase, and bytes that drip."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Iterator

import pytest
import requests

from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.cloud.project import ProjectState
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorConnectionError, ArkorTimeoutError
from arkor_sync.options import RunOptions
from arkor_sync.run import Run
from support.loopback import Connection, Server, answer, stay_silent
from support.scripted_cloud import JOB
from support.servers import CERTIFICATE
from support.waiting import PATIENCE, Background, until

PATIENT = (PATIENCE, PATIENCE)
GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"


def take(connection: Connection, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        data = connection.sock.recv(size - len(taken))
        if not data:
            raise OSError("the client has closed the connection")
        taken += data
    return taken


def grant(connection: Connection) -> str:
    """Play a SOCKS 5 proxy that lets everybody through; return the host that was asked for."""
    take(connection, take(connection, 2)[1])
    connection.send(b"\x05\x00")
    kind = take(connection, 4)[3]
    assert kind in (1, 3)
    host = take(connection, 4 if kind == 1 else take(connection, 1)[0])
    take(connection, 2)
    connection.send(GRANTED)
    return host.decode("latin-1")


def and_then(handler: Callable[[Connection, str], None]) -> Callable[[Connection, str], None]:
    """Play the proxy, and behind it the server."""

    def proxy(connection: Connection, _: str) -> None:
        grant(connection)
        handler(connection, connection.read_request())

    return proxy


def session_through(proxy: Server) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.proxies = dict.fromkeys(("http", "https"), f"socks5h://127.0.0.1:{proxy.port}")
    session.verify = CERTIFICATE
    return session


@pytest.fixture
def transport() -> Iterator[Callable[[Server], Transport]]:
    made = []

    def make(proxy: Server) -> Transport:
        made.append(Transport(session_through(proxy)))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.reset()


def get(transport: Transport, timeout: Any = PATIENT) -> requests.Response:
    return transport.request("GET", "http://cloud.example/v1/me", timeout=timeout, stream=True)


def test_a_request_goes_through_the_proxy(transport: Any) -> None:
    with Server(and_then(answer), read_request=False) as proxy:
        assert get(transport(proxy)).content == b"ok"


def test_a_proxy_that_refuses_is_named(transport: Any) -> None:
    def refuse(connection: Connection, _: str) -> None:
        connection.send(b"\x05\xff")
        connection.wait_until_closed()

    with (
        Server(refuse, read_request=False) as proxy,
        pytest.raises(ArkorConnectionError, match="SOCKS5"),
    ):
        get(transport(proxy))


PHASES = {"before the proxy answers": stay_silent, "before the server does": and_then(stay_silent)}


@pytest.mark.parametrize("phase", sorted(PHASES))
def test_an_interrupt_ends_a_request_through_the_proxy(transport: Any, phase: str) -> None:
    with Server(PHASES[phase], read_request=False) as proxy:
        own = transport(proxy)
        blocked = Background(get, own)
        until(lambda: proxy.accepted.acquire(timeout=0) and own._duplicates)
        own.interrupt()
        with pytest.raises(ArkorConnectionError):
            blocked.result()


def test_closing_a_run_behind_the_proxy_leaves_no_thread() -> None:
    with Server(and_then(stay_silent), read_request=False) as proxy:
        client = CloudApiClient(
            "http://cloud.example",
            TokenCredentials("token"),
            scope=ProjectState("org", "project", "1"),
            session=session_through(proxy),
        )
        run = Run(client, TrainingJob.from_dict(JOB), RunOptions()).start()
        assert proxy.accepted.acquire(timeout=PATIENCE)
        run.close(PATIENCE)
        assert not run._reader._thread.is_alive()


def test_a_proxy_that_drips_is_given_up(transport: Any) -> None:
    closed = threading.Event()

    def greet_slowly(connection: Connection, _: str) -> None:
        take(connection, 3)
        connection.send(b"\x05\x00\x05\x00\x00\x03\xff")  # a name of 255 bytes follows
        while not closed.wait(0.05):
            connection.send(b"a")

    with Server(greet_slowly, read_request=False) as proxy:
        begin = time.monotonic()
        with pytest.raises(ArkorTimeoutError):
            get(transport(proxy), (0.3, PATIENCE))
        assert time.monotonic() - begin < 10  # the name alone takes 13 s
        closed.set()
