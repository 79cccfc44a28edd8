"""What a program keeps of a request, an answer or an error, holds no connection open."""

from __future__ import annotations

import select
import socket
import ssl
from typing import Any, Callable, List

import pytest

from arkor_sync import CloudApiClient, CloudApiError, NotFoundError
from arkor_sync.cloud.transport import Transport
from arkor_sync.emulator import Emulator
from arkor_sync.errors import ArkorConnectionError
from support.hang_phases import cloud_of, no_descriptor_left
from support.servers import CERTIFICATE, KEY
from support.waiting import PATIENCE

QUESTION = [{"role": "user", "content": "hi"}]


def whole_answer(client: CloudApiClient) -> Any:
    return client.chat(QUESTION, base_model="m", stream=False)


def streamed_answer(client: CloudApiClient) -> Any:
    answer = client.chat(QUESTION, base_model="m")
    assert answer.text()
    return answer


def refusal(client: CloudApiClient) -> Any:
    with pytest.raises(NotFoundError) as caught:
        client.jobs.get("no-such-job")
    return caught.value


def refused_stream(client: CloudApiClient) -> Any:
    with client.transport() as transport, pytest.raises(CloudApiError) as caught:
        client.jobs.events("no-such-job", transport=transport)
    return caught.value


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("ask", [whole_answer, streamed_answer, refusal, refused_stream])
def test_what_is_kept_holds_no_connection_open(
    ask: Callable[[CloudApiClient], Any], tls: bool
) -> None:
    kept: List[Any] = []
    with no_descriptor_left(), Emulator(tls=(CERTIFICATE, KEY) if tls else None) as emulator:
        client = cloud_of(emulator, "").client()
        for _ in range(3):
            kept.append(ask(client))
    assert len(kept) == 3


def test_a_reset_before_the_handshake_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    wrap_socket = ssl.SSLContext.wrap_socket

    def wrap_reset_socket(context: ssl.SSLContext, sock: socket.socket, **how: Any) -> Any:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        accepted.close()
        poll = select.poll()
        poll.register(sock, 0)
        assert poll.poll(PATIENCE * 1000), "it was never reset"
        return wrap_socket(context, sock, **how)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap_reset_socket)
    with no_descriptor_left(), socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with Transport() as transport, pytest.raises(ArkorConnectionError) as caught:
            transport.request("GET", url, timeout=(PATIENCE, PATIENCE))
    assert str(caught.value).startswith(f"GET {url}: ")
