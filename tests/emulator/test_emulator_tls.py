from __future__ import annotations

import socket
import ssl
from typing import Iterator

import pytest
import requests

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.emulator_client import Client, live
from support.servers import CERTIFICATE, KEY
from support.waiting import PATIENCE


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=1), tls=(CERTIFICATE, KEY)) as emulator:
        yield emulator
        assert emulator.errors == []


@pytest.fixture
def client(emu: Emulator) -> Iterator[Client]:
    with Client(emu) as bare:
        bare.session.verify = CERTIFICATE
        yield bare


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_streams_and_plain_routes_over_tls(emu: Emulator, client: Client, framing: str) -> None:
    emu.settings.framing = framing
    assert emu.url.startswith("https://")
    job_id = client.submit()
    assert [event.id for event in client.read(job_id)] == ["1", "2", "3", None]
    assert client.get(f"/v1/jobs/{job_id}").json()["job"]["status"] == "completed"


def test_a_client_that_leaves_is_noticed_over_tls(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(events=[{"type": "training.started"}]))
    with client.open(job_id) as response:
        assert next(live(response)).id == "1"
        emu.wait_for(lambda: emu.open_streams)
    emu.wait_for(lambda: not emu.open_streams)


def test_a_stream_is_cut_over_tls(emu: Emulator, client: Client) -> None:
    emu.faults.add(Fault("cut_mid_event", event="2"))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        assert client.open(emu.create_job()).content


def test_a_handshake_that_fails_or_never_comes_harms_nobody(emu: Emulator, client: Client) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(emu.url, timeout=PATIENCE)
    with socket.create_connection(("127.0.0.1", emu.port), timeout=PATIENCE) as hasty:
        hasty.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with socket.create_connection(("127.0.0.1", emu.port), timeout=PATIENCE) as silent:
        assert client.get("/v1/me").ok
        emu.stop()
        assert silent.recv(1) == b""


def test_a_context_may_be_given() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    with Emulator(tls=context) as emu, Client(emu) as client:
        client.session.verify = CERTIFICATE
        assert client.get("/v1/me").ok
