"""Chatting with a server that is no Arkor cloud, over sockets."""

from __future__ import annotations

import json
import logging
import math
import pickle
from typing import Any, Callable

import pytest
import requests

from arkor_sync import (
    ArkorConnectionError,
    ArkorUsageError,
    AuthenticationError,
    BadRequestError,
    ChatEndpoint,
    CloudApiError,
    NotFoundError,
    RateLimitError,
    ResponseError,
    ServerError,
    latest_deprecation,
)
from support.scripted_cloud import Reply, ScriptedCloud

KEY = "ark_live_0123456789abcdef"
ANSWER = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": {"a": 1}}


@pytest.fixture
def endpoint(cloud: ScriptedCloud) -> ChatEndpoint:
    return ChatEndpoint(f"{cloud.url}/v1/", KEY, model="my-model", timeout=(20.0, 20.0))


def refused(cloud: ScriptedCloud, endpoint: ChatEndpoint, reply: Reply) -> CloudApiError:
    cloud.replies = [reply]
    with pytest.raises(CloudApiError) as caught:
        endpoint.chat("Hello")
    return caught.value


def test_the_request(cloud: ScriptedCloud, endpoint: ChatEndpoint) -> None:
    cloud.reply(ANSWER)
    answer = endpoint.chat("Hello", stream=False, top_p=0.5, max_tokens=9, extra={"seed": 7})
    (request,) = cloud.received
    assert (request.method, request.target) == ("POST", "/v1/chat/completions")
    assert json.loads(request.body) == {
        "messages": [{"role": "user", "content": "Hello"}],
        "model": "my-model",
        "stream": False,
        "top_p": 0.5,
        "max_tokens": 9,
        "seed": 7,
    }
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert not [name for name in request.headers if name.lower().startswith("x-")]
    assert (answer.content(), answer.finish_reason, answer.usage) == ("Hi", "stop", {"a": 1})
    assert KEY not in str(answer.response.request.headers)


def test_a_server_may_want_no_key_and_no_model(cloud: ScriptedCloud) -> None:
    cloud.reply(ANSWER)
    ChatEndpoint(cloud.url).chat("Hello", stream=False)
    (request,) = cloud.received
    assert request.target == "/chat/completions"
    assert "Authorization" not in request.headers
    assert set(json.loads(request.body)) == {"messages", "stream"}


def test_a_model_of_one_request(cloud: ScriptedCloud, endpoint: ChatEndpoint) -> None:
    cloud.reply(ANSWER)
    endpoint.chat("Hello", model="other", stream=False)
    assert cloud.received[0].json["model"] == "other"


def test_a_streamed_answer(cloud: ScriptedCloud, endpoint: ChatEndpoint) -> None:
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in ("He", "llo")]
    body = b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    cloud.stream(body, b"data: [DONE]\n\n")
    assert list(endpoint.chat("Hello")) == ["He", "llo"]


@pytest.mark.parametrize("end", [b"", b"data: [DO", b'data: {"choices": [{"delta": {"con'])
def test_an_answer_that_was_cut_raises(
    cloud: ScriptedCloud, endpoint: ChatEndpoint, end: bytes
) -> None:
    cloud.stream(b'data: {"choices": [{"delta": {"content": "He"}}]}\n\n', end)
    answer = endpoint.chat("Hello")
    for read in (answer.content, answer.message, answer.tool_calls, answer.parsed):
        with pytest.raises(ArkorConnectionError, match="cut before its end"):
            read()


@pytest.mark.parametrize(
    ("status", "content", "kind", "message", "code"),
    [
        (
            400,
            {
                "error": {
                    "message": "bad",
                    "type": "invalid_request_error",
                    "code": "context_length",
                }
            },
            BadRequestError,
            "bad",
            "context_length",
        ),
        (404, {"error": {"message": "no model", "code": 404}}, NotFoundError, "no model", None),
        (429, {"error": {"message": "slow"}}, RateLimitError, "slow", None),
        (500, {"error": {"message": None}}, ServerError, '{"error": {"message": null}}', None),
        (400, {"detail": "bad"}, BadRequestError, '{"detail": "bad"}', None),
        (400, {"error": "invalid_schema"}, BadRequestError, "invalid_schema", "invalid_schema"),
        (426, {"error": "upgrade"}, CloudApiError, "upgrade", None),
        (503, "", ServerError, "the server answered with status 503", None),
    ],
)
def test_errors_are_those_of_the_cloud(
    cloud: ScriptedCloud,
    endpoint: ChatEndpoint,
    status: int,
    content: Any,
    kind: Any,
    message: str,
    code: Any,
) -> None:
    error = refused(cloud, endpoint, Reply(status, content))
    assert isinstance(error, kind)
    assert (error.status, error.message, error.code) == (status, message, code)
    assert len(cloud.received) == 1


def test_a_refused_key_is_named_and_not_shown(cloud: ScriptedCloud, endpoint: ChatEndpoint) -> None:
    content = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    error = refused(cloud, endpoint, Reply(401, content))
    assert type(error) is AuthenticationError
    assert str(error) == (
        "401: Incorrect API key provided: [token] "
        f"(POST {cloud.url}/v1/chat/completions; the token given as api_key was refused: "
        "give credentials that are valid there)"
    )


@pytest.mark.parametrize("reply", [Reply(404, "<h1>no</h1>"), Reply(405, "")])
def test_an_address_that_is_no_server_is_asked_about(
    cloud: ScriptedCloud, endpoint: ChatEndpoint, reply: Reply
) -> None:
    hint = refused(cloud, endpoint, reply).hint
    assert f"is {cloud.url} an OpenAI-compatible server" in hint
    assert "Arkor" not in hint


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_with_the_status_of_a_success(
    cloud: ScriptedCloud, endpoint: ChatEndpoint, stream: bool
) -> None:
    cloud.reply({"error": {"message": "the model is busy", "code": 503}, "choices": []})
    with pytest.raises(ServerError, match="the model is busy") as caught:
        endpoint.chat("Hello", stream=stream).content()
    assert caught.value.status == 503


@pytest.mark.parametrize("stream", [True, False])
def test_a_page_is_no_answer(cloud: ScriptedCloud, endpoint: ChatEndpoint, stream: bool) -> None:
    cloud.reply("<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(ResponseError, match="expected JSON"):
        endpoint.chat("Hello", stream=stream).content()


def test_its_headers_say_nothing_of_this_package(
    cloud: ScriptedCloud, endpoint: ChatEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.reply(ANSWER, headers={"Deprecation": "true", "Warning": '299 - "old"'})
    endpoint.chat("Hello", stream=False)
    assert latest_deprecation() is None
    assert caplog.text == ""


def test_the_key_is_never_shown(
    cloud: ScriptedCloud, endpoint: ChatEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cloud.reply({"error": {"message": KEY}}, status=400)
    with pytest.raises(BadRequestError) as caught:
        endpoint.chat("Hello")
    shown = [repr(endpoint), repr(vars(endpoint)), str(caught.value), repr(vars(caught.value))]
    assert not [text for text in shown if KEY in text]
    assert KEY.encode() not in pickle.dumps(caught.value)
    assert KEY not in caplog.text


def test_a_copy_can_be_used_in_another_process(
    cloud: ScriptedCloud, endpoint: ChatEndpoint
) -> None:
    cloud.reply(ANSWER)
    assert pickle.loads(pickle.dumps(endpoint)).chat("Hello", stream=False).content() == "Hi"
    assert cloud.received[0].headers["Authorization"] == f"Bearer {KEY}"


def test_the_proxy_and_the_headers_of_the_program_are_used(
    new_cloud: Callable[[], ScriptedCloud],
) -> None:
    proxy = new_cloud()
    proxy.reply(ANSWER)
    with requests.Session() as session:
        session.proxies = {"http": proxy.url}
        session.headers["X-Tenant"] = "a"
        endpoint = ChatEndpoint("http://models.example/v1", KEY, session=session)
        assert endpoint.chat("Hello", stream=False).content() == "Hi"
    (request,) = proxy.received
    assert request.target == "http://models.example/v1/chat/completions"
    assert request.headers["X-Tenant"] == "a"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"base_url": "models.example/v1"}, "^base_url: got a text without http.*; give the base"),
        ({"base_url": None}, "^base_url: got None, which is not .*such as https://support-bot"),
        ({"base_url": "https://u:p@x/v1"}, "^base_url: got an address with a user name"),
        ({"base_url": "https://x/v1?key=1"}, "^base_url: got an address with a user name, a query"),
        ({"base_url": "https://x/v1/chat/completions/"}, "give it without /chat/completions"),
        ({"api_key": ""}, "^api_key: got a str; give the text of a key"),
        ({"api_key": " "}, "^api_key: got a str;"),
        ({"api_key": f"{KEY}\n{KEY}"}, "^api_key: got a str;"),
        ({"api_key": KEY.encode()}, "^api_key: got a bytes;"),
        ({"timeout": 5}, r"^timeout: got int 5; give two numbers of seconds above 0"),
        *(
            ({"timeout": timeout}, r"^timeout: got tuple \(.*; give two numbers of seconds above 0")
            for timeout in [(1, math.inf), (math.inf, 1), (1, 1e18), (1, math.nan), (1, True)]
        ),
        ({"timeout": (5, None)}, r"^timeout: got .*; give two numbers"),
        ({"timeout": (0, 5)}, r"^timeout: got .*; give two numbers"),
        ({"max_chat_bytes": 0}, "^max_chat_bytes: got int 0"),
    ],
)
def test_arguments_that_cannot_work(arguments: Any, match: str) -> None:
    with pytest.raises(ArkorUsageError, match=match) as caught:
        ChatEndpoint(**{"base_url": "https://x/v1", **arguments})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("timeout", [math.inf, 1e18, True, 0])
def test_a_timeout_that_the_system_cannot_wait_for_is_refused(
    cloud: ScriptedCloud, endpoint: ChatEndpoint, timeout: float
) -> None:
    with pytest.raises(ArkorUsageError, match="timeout"):
        endpoint.chat("Hello", timeout=timeout)
    assert cloud.received == []


def test_nothing_is_sent_that_cannot_work(cloud: ScriptedCloud, endpoint: ChatEndpoint) -> None:
    both: Any = {"choice": ["a"], "regex": "a"}
    for arguments in ({"model": ""}, {"timeout": 0}, {"structured_outputs": both}):
        with pytest.raises(ArkorUsageError):
            endpoint.chat("Hello", **arguments)
    assert cloud.received == []
