from __future__ import annotations

import json
import threading
import tracemalloc
from typing import Any, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.cloud.chat import ChatResponse, _text
from arkor_sync.cloud.chat_request import build_chat_body
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.project import ProjectState
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorError,
    ArkorTimeoutError,
    ArkorUsageError,
    BadRequestError,
    CloudApiError,
    RateLimitError,
    ResponseError,
    ServerError,
    UnprocessableEntityError,
)
from support.scripted_cloud import Reply, ScriptedCloud
from support.waiting import PATIENCE, PATIENCES, Background

HELLO = [{"role": "user", "content": "Hello"}]
DONE = b"data: [DONE]\n\n"


def data(value: Any) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def delta(content: Optional[str] = None, **more: Any) -> bytes:
    finish = more.pop("finish_reason", None)
    fields = more if content is None else {"content": content, **more}
    return data({"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


def envelope(content: Any = "Hi", finish_reason: Any = "stop", **message: Any) -> Any:
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"content": content, **message},
    }
    return {"id": "chat-1", "choices": [choice], "usage": {}}


def chat(client: CloudApiClient, **more: Any) -> ChatResponse:
    return client.chat(HELLO, adapter={"kind": "final", "jobId": "job-1"}, **more)


def streamed(cloud: ScriptedCloud, client: CloudApiClient, *chunks: bytes) -> ChatResponse:
    cloud.replies = []
    cloud.stream(*chunks)
    return chat(client)


def test_the_request(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply(envelope())
    chat(client, stream=False, temperature=0.5, extra={"seed": 7})
    (request,) = cloud.received
    assert (request.method, request.path) == ("POST", "/v1/inference/chat")
    assert request.query == {"orgSlug": "my org", "projectSlug": "my&project"}
    assert request.json == {
        "messages": HELLO,
        "adapter": {"kind": "final", "jobId": "job-1"},
        "stream": False,
        "temperature": 0.5,
        "seed": 7,
    }
    assert request.headers["Accept-Encoding"] == "identity"


def test_a_whole_answer(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply(envelope("Hi there"))
    answer = chat(client, stream=False)
    assert cloud.wait_until_idle()
    assert answer.content() == answer.text() == "Hi there"
    assert list(answer) == list(answer) == ["Hi there"]
    assert answer.json() == answer.response.json() == envelope("Hi there")
    assert answer.finish_reason == "stop"
    assert answer.tool_calls() == []
    assert repr(answer) == "<ChatResponse [200]>"
    with answer:
        pass
    assert answer.text() == "Hi there"


def test_a_tool_call(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    call = {"id": "call-1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    for content in ({}, {"content": None}):
        message = {"role": "assistant", "tool_calls": [call], **content}
        cloud.replies = [
            Reply(content={"choices": [{"finish_reason": "tool_calls", "message": message}]})
        ]
        answer = chat(client, stream=False)
        assert answer.content() is None
        assert answer.text() == ""
        assert list(answer) == []
        assert answer.tool_calls() == [call]
        assert answer.finish_reason == "tool_calls"


def test_json_in_the_content(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply(envelope('{"label": ["a", 1.5]}'))
    assert chat(client, stream=False).parsed() == {"label": ["a", 1.5]}
    assert streamed(cloud, client, delta('{"la'), delta('bel": 1}'), DONE).parsed() == {"label": 1}


@pytest.mark.parametrize(
    ("content", "finish", "message"),
    [
        (None, "tool_calls", "the answer has no content"),
        ("", "stop", "the answer has no content"),
        ("not json", "stop", "expected JSON, got 'not json'"),
        ("NaN", "stop", "expected JSON, got 'NaN'"),
        ('{"label": "cu', "length", "max_tokens cut it short"),
        ("x" * 1000, "stop", "expected JSON"),
    ],
)
def test_content_that_is_not_json(
    cloud: ScriptedCloud, client: CloudApiClient, content: Any, finish: str, message: str
) -> None:
    cloud.reply(envelope(content, finish))
    with pytest.raises(ResponseError, match=message) as caught:
        chat(client, stream=False).parsed()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html>", "the chat answer: expected JSON"),
        ([], "the answer: expected an object, got an empty list"),
        ({}, "choices: expected a list, got None"),
        ({"choices": []}, "choices: expected a list with at least one entry"),
        ({"choices": ["x"]}, r"choices\[0\]: expected an object, got str 'x'"),
        ({"choices": [{}]}, r"choices\[0\]\.message: expected an object, got None"),
        (envelope(5), r"choices\[0\]\.message\.content: expected a string, got int 5"),
    ],
)
def test_a_whole_answer_of_another_shape(
    cloud: ScriptedCloud, client: CloudApiClient, content: Any, message: str
) -> None:
    cloud.reply(content)
    with pytest.raises(ResponseError, match=message):
        chat(client, stream=False).content()


def test_tool_calls_of_another_shape(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply(envelope(None, tool_calls=["x"]))
    with pytest.raises(ResponseError, match=r"tool_calls\[0\]: expected an object"):
        chat(client, stream=False).tool_calls()


def test_a_whole_answer_that_breaks_off(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply('{"choices"', headers={"Content-Type": "application/json"}, length=1000)
    with pytest.raises(ArkorConnectionError):
        chat(client, stream=False)
    assert cloud.wait_until_idle()


@pytest.mark.parametrize(
    "end", [DONE, b"event: end\ndata:\n\n", b'event: end\ndata: {"id": 1}\n\n']
)
def test_a_streamed_answer(cloud: ScriptedCloud, client: CloudApiClient, end: bytes) -> None:
    answer = streamed(
        cloud,
        client,
        delta("", role="assistant"),
        b"event: ping\ndata: {}\n\n: comment\n\n",
        b"event: token\n" + delta("Hel"),
        delta("lo"),
        delta(finish_reason="stop"),
        data({"choices": [], "usage": {"total_tokens": 3}}),
        end,
        delta("ignored"),
    )
    before = answer.finish_reason
    assert before is None
    assert list(answer) == ["Hel", "lo"]
    assert list(answer) == ["Hel", "lo"]
    assert answer.text() == answer.content() == "Hello"
    assert answer.finish_reason == "stop"
    assert answer.tool_calls() == []
    assert len(answer.json()) == 5
    assert repr(answer) == "<StreamedChatResponse [200]>"


def test_pieces_come_as_they_arrive(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    seen = threading.Event()
    cloud.stream(delta("first"), hold=seen)
    answer = chat(client)
    pieces = iter(answer)
    assert next(pieces) == "first"
    seen.set()
    with pytest.raises(ArkorConnectionError, match="cut before its end"):
        next(pieces)


@pytest.mark.parametrize(
    "cut", [b"", b"data: [DO", b"data: [DONE]\n", b"event: end\n\n", b"id: 1\n\n"]
)
def test_an_answer_that_was_cut_never_looks_whole(
    cloud: ScriptedCloud, client: CloudApiClient, cut: bytes
) -> None:
    answer = streamed(cloud, client, delta("Hel"), delta("lo", finish_reason="stop"), cut)
    pieces: List[str] = []
    with pytest.raises(ArkorConnectionError, match="cut before its end"):
        pieces.extend(answer)
    assert cloud.wait_until_idle()
    for read in (answer.text, answer.content, answer.json, answer.parsed, answer.tool_calls):
        with pytest.raises(ArkorConnectionError, match="cut before its end"):
            read()
    again = iter(answer)
    assert [next(again), next(again)] == ["Hel", "lo"]
    with pytest.raises(ArkorConnectionError):
        next(again)


@pytest.mark.parametrize(
    ("error", "kind", "message", "code"),
    [
        ({"error": "out of memory"}, ServerError, "out of memory", None),
        ({"error": "slow", "code": "rate_limited"}, ServerError, "slow", "rate_limited"),
        ({"error": {"message": "bad", "code": 400}}, BadRequestError, "bad", None),
        ({"error": {"message": "slow", "code": "429"}}, ServerError, "slow", "429"),
        ({"error": {"type": "x"}}, ServerError, "could not finish the answer", None),
        ({"error": True}, ServerError, "could not finish the answer", None),
        ({"error": {"message": "slow", "code": 429}, "choices": []}, RateLimitError, "slow", None),
    ],
)
def test_an_error_in_the_midst(
    cloud: ScriptedCloud, client: CloudApiClient, error: Any, kind: Any, message: str, code: Any
) -> None:
    answer = streamed(cloud, client, delta("Hel"), data(error), delta("lo"), DONE)
    pieces = iter(answer)
    assert next(pieces) == "Hel"
    with pytest.raises(CloudApiError, match=message) as caught:
        next(pieces)
    assert type(caught.value) is kind
    assert caught.value.code == code
    with pytest.raises(kind):
        answer.text()
    assert cloud.wait_until_idle()


def test_an_error_event_is_no_text(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    for content in (b"data: out of memory", b'data: "out of memory"'):
        answer = streamed(cloud, client, b"event: error\n" + content + b"\n\n", DONE)
        with pytest.raises(ServerError, match="out of memory"):
            answer.text()


@pytest.mark.parametrize("error", [None, False, "", {}])
def test_an_empty_error_is_none(cloud: ScriptedCloud, client: CloudApiClient, error: Any) -> None:
    chunk = data({"error": error, "choices": [{"delta": {"content": "x"}}]})
    assert streamed(cloud, client, chunk, DONE).text() == "x"


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ({"choices": [{"delta": {"content": "a"}}], "content": "b", "text": "c"}, "a"),
        ({"choices": [{"delta": {"content": ""}}], "content": "b"}, ""),
        ({"choices": [{"delta": {"content": None}}], "content": "b", "text": "c"}, "b"),
        ({"choices": [{"delta": {}}], "text": "c"}, "c"),
        ({"choices": [{"delta": None}], "text": "c"}, "c"),
        ({"choices": [{}], "text": "c"}, "c"),
        ({"choices": [], "content": "b"}, "b"),
        ({"choices": ["x"], "content": "b"}, "b"),
        ({"choices": [None], "text": "c"}, "c"),
        ({"choices": None, "text": "c"}, "c"),
        ({"choices": {"0": {}}, "text": "c"}, "c"),
        ({"content": "b", "text": "c"}, "b"),
        ({"content": 5, "text": "c"}, "c"),
        ({"text": ""}, ""),
        ({"usage": {}}, None),
        ({}, None),
        ("bare", "bare"),
        ("", ""),
        (None, None),
        (5, None),
        (True, None),
        ([], None),
        ([{"content": "b"}], None),
    ],
)
def test_the_text_of_a_chunk(chunk: Any, text: Optional[str]) -> None:
    assert _text(chunk) == text


def test_text_that_is_not_json(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    answer = streamed(
        cloud,
        client,
        b"data: Hel\n\n",
        b'data: "lo "\n\n',
        b"data: {oops\n\n",
        b"data: NaN\n\n",
        b"data: 42\n\n",
        b"data: [1, 2]\n\n",
        b"data: true\n\n",
        b"data: null\n\n",
        DONE,
    )
    assert list(answer) == ["Hel", "lo ", "{oops", "NaN", "42", "[1, 2]", "true", "null"]
    assert answer.json() == []


def test_what_is_empty_is_not_passed_on(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    answer = streamed(
        cloud, client, b"data:\n\n", b'data: ""\n\n', delta(""), delta(content=None), DONE
    )
    assert list(answer) == []
    assert answer.content() is None
    assert answer.text() == ""


def test_tool_calls_are_put_together(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    def part(index: Any, call_id: Any = None, name: Any = None, arguments: Any = None) -> Any:
        return {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}

    answer = streamed(
        cloud,
        client,
        delta(tool_calls=[part(0, "call-1", "weather", "")]),
        delta(tool_calls=[part(0, arguments='{"city": "B')]),
        delta(tool_calls=[part(1, "call-2", "time", '{"zone"'), part(0, arguments='erlin"}')]),
        delta(tool_calls=[part(1, arguments=": 1}"), "odd", {"index": 1, "function": None}]),
        delta(tool_calls="odd"),
        delta(finish_reason="tool_calls"),
        DONE,
    )
    first, second = answer.tool_calls()
    assert first == {
        "id": "call-1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Berlin"}'},
    }
    assert second["function"] == {"name": "time", "arguments": '{"zone": 1}'}
    assert answer.finish_reason == "tool_calls"
    assert answer.content() is None


def test_tool_calls_without_an_index(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    calls = [{"id": f"call-{i}", "function": {"name": "f", "arguments": "{}"}} for i in range(2)]
    answer = streamed(cloud, client, delta(tool_calls=calls), DONE)
    assert [each["id"] for each in answer.tool_calls()] == ["call-0", "call-1"]


def choice(index: Any, content: str, finish: Any = None) -> Any:
    return {"index": index, "delta": {"content": content}, "finish_reason": finish}


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "details": {"cached": 1}}


def test_the_usage_of_a_whole_answer(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    for usage, expected in ((USAGE, USAGE), ({}, None), (None, None), ("3", None)):
        cloud.replies = [Reply(content={**envelope(), "usage": usage})]
        assert chat(client, stream=False).usage == expected


def test_the_usage_of_a_streamed_answer(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    none: Any = {"usage": None}
    first = data({"choices": [choice(0, "Hi")], **none})
    answer = streamed(cloud, client, first, data({"choices": [], "usage": USAGE}), DONE)
    before = answer.usage
    assert before is None
    assert (answer.text(), answer.usage) == ("Hi", USAGE)
    untold = streamed(cloud, client, first, DONE)
    assert (untold.text(), untold.usage) == ("Hi", None)


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"content": "Hi"}, {"content": "Hi"}),
        ({"content": None}, {"content": ""}),
        ({"content": None, "tool_calls": [CALL]}, {"content": None, "tool_calls": [CALL]}),
        ({"content": "Wait", "tool_calls": [CALL]}, {"content": "Wait", "tool_calls": [CALL]}),
        ({"content": "Hi", "tool_calls": []}, {"content": "Hi"}),
        ({"content": "Hi", "refusal": None, "reasoning_content": "..."}, {"content": "Hi"}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_as_a_message_can_be_sent_back(
    cloud: ScriptedCloud, client: CloudApiClient, sent: Any, message: Any, stream: bool
) -> None:
    if stream:
        answer = streamed(cloud, client, data({"choices": [{"delta": sent}]}), DONE)
    else:
        cloud.reply({"choices": [{"message": sent}]})
        answer = chat(client, stream=False)
    assert answer.message() == {"role": "assistant", **message}
    assert build_chat_body([*HELLO, answer.message()], base_model="m")


def test_of_several_answers_the_first_is_read(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    answer = streamed(
        cloud,
        client,
        data({"choices": [choice(0, "Hel")]}),
        data({"choices": [choice(1, "Bon")]}),
        data({"choices": [choice(1, "jour"), choice(0, "lo")]}),
        data({"choices": [choice(1, "", "length")]}),
        data({"choices": [choice(0, "", "stop")]}),
        data({"choices": [choice(1, "!")]}),
        DONE,
    )
    assert list(answer) == ["Hel", "lo"]
    assert answer.finish_reason == "stop"
    assert len(answer.json()) == 6


def test_of_several_whole_answers_the_first_is_read(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    second, first = (
        {"index": index, "message": {"content": text}, "finish_reason": text}
        for index, text in ((1, "b"), (0, "a"))
    )
    cloud.reply({"choices": [second, first]})
    answer = chat(client, stream=False)
    assert (answer.text(), answer.finish_reason) == ("a", "a")


def test_the_tool_calls_of_the_first_answer_are_its_own(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    calls = [
        {"index": n, "delta": {"tool_calls": [{"index": 0, "id": f"c{n}", "function": {}}]}}
        for n in range(2)
    ]
    answer = streamed(cloud, client, *(data({"choices": [each]}) for each in calls), DONE)
    assert [each["id"] for each in answer.tool_calls()] == ["c0"]


def limited(cloud: ScriptedCloud, limit: int) -> CloudApiClient:
    scope = ProjectState("my org", "my&project", "project-1")
    return CloudApiClient(
        cloud.url, TokenCredentials("token-0123456789"), scope=scope, max_chat_bytes=limit
    )


def test_a_streamed_answer_is_bounded_in_memory(cloud: ScriptedCloud) -> None:
    client = limited(cloud, 1 << 20)
    chunks = [delta("x" * 10) * 500] * 100 + [DONE]
    answer = streamed(cloud, client, *chunks)
    tracemalloc.start()
    try:
        with pytest.raises(ResponseError, match="more than 1,048,576 bytes of memory"):
            answer.text()
        assert tracemalloc.get_traced_memory()[0] < 2 << 20  # of 5 MB, and of 30 as objects
    finally:
        tracemalloc.stop()
    assert cloud.wait_until_idle()


@pytest.mark.parametrize(
    "frame",
    [b"data: x\n\n", data("x"), data({"a": []}), delta(tool_calls=[{"id": "a"}])],
    ids=["text", "JSON text", "an object without a text", "a part of a call"],
)
def test_whatever_a_streamed_answer_is_made_of_counts(cloud: ScriptedCloud, frame: bytes) -> None:
    client = limited(cloud, 10_000)
    assert streamed(cloud, client, frame * 10, DONE).text() in ("", "x" * 10)
    with pytest.raises(ResponseError, match="10,000 bytes"):
        streamed(cloud, client, frame * 200, DONE).text()


def test_many_parts_of_one_call_cost_linear_time(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    part = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "x" * 50}}
    answer = streamed(cloud, client, *[delta(tool_calls=[part]) * 500] * 20, DONE)
    ((call,), again) = answer.tool_calls(), answer.tool_calls()
    assert call["function"]["arguments"] == "x" * 500_000
    assert again == [call]


def test_the_connection_ends_with_the_answer(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    never = threading.Event()
    cloud.stream(delta("Hi"), DONE, hold=never)
    assert chat(client).text() == "Hi"
    never.set()
    assert cloud.wait_until_idle()


def test_closing_early(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    never = threading.Event()
    cloud.stream(delta("Hi"), hold=never)
    with chat(client) as answer:
        assert next(iter(answer)) == "Hi"
    answer.close()
    with pytest.raises(ArkorUsageError, match="closed before its end"):
        answer.text()
    never.set()
    assert cloud.wait_until_idle()


def test_closing_at_the_end_keeps_the_text(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    with streamed(cloud, client, delta("Hi"), DONE) as answer:
        assert answer.text() == "Hi"
    assert answer.text() == "Hi"


def test_silence_has_a_limit(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    never = threading.Event()
    cloud.stream(delta("Hi"), hold=never)
    for patience in PATIENCES:
        try:
            answer = chat(client, timeout=patience)
        except ArkorTimeoutError:
            continue  # too little for the answer to begin
        break
    with pytest.raises(ArkorTimeoutError):
        answer.text()
    never.set()


def test_ctrl_c_in_a_read_leaves_no_gap(
    cloud: ScriptedCloud, client: CloudApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer: Any = streamed(cloud, client, delta("Hel"), delta("lo"), DONE)

    def interrupt(chunk: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(answer._parser, "feed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        answer.text()
    with pytest.raises(ArkorConnectionError, match="interrupted"):
        answer.text()
    assert cloud.wait_until_idle()


@pytest.mark.parametrize("status", [400, 401, 422, 500])
@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_is_never_an_answer(
    cloud: ScriptedCloud, client: CloudApiClient, status: int, stream: bool
) -> None:
    cloud.reply({"error": "no such adapter"}, status=status)
    with pytest.raises(CloudApiError, match="no such adapter"):
        chat(client, stream=stream)
    assert len(cloud.received) == 1
    assert cloud.wait_until_idle()


def test_a_422_has_its_class(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"error": "bad adapter"}, status=422)
    with pytest.raises(UnprocessableEntityError):
        chat(client)


def test_the_content_type_says_what_came(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply(envelope("whole"))
    assert chat(client, stream=True).text() == "whole"
    cloud.replies = []
    cloud.stream(delta("piece"), DONE)
    assert chat(client, stream=False).text() == "piece"
    cloud.replies = []
    cloud.stream(delta("piece"), DONE, headers={"Content-Type": ""})
    assert chat(client, stream=True).text() == "piece"


def test_an_event_over_the_limit(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    answer = streamed(cloud, client, b"data: " + b"x" * (1 << 21), b"\n\n", DONE)
    with pytest.raises(ArkorError, match="larger than"):
        answer.text()
    assert cloud.wait_until_idle()


def test_each_call_asks_the_cloud_anew(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply(envelope())
    chat(client, stream=False)
    chat(client, stream=False)
    assert len(cloud.received) == 2


@given(st.lists(st.text(min_size=1), max_size=5), st.integers(1, 7))
def test_any_text_in_any_chunks(pieces: List[str], size: int) -> None:
    answer, feed = _offline()
    body = b"".join(map(delta, pieces)) + DONE
    feed.extend(body[i : i + size] for i in range(0, len(body), size))
    assert list(answer) == pieces
    assert answer.text() == "".join(pieces)


def _offline() -> Any:
    """A streamed answer whose bytes come from a list."""
    from arkor_sync.cloud.chat import StreamedChatResponse
    from arkor_sync.cloud.sse import FrameParser

    feed: List[bytes] = []

    class Stream:
        def set_timeout(self, seconds: float) -> None:
            pass

        def read(self) -> bytes:
            return feed.pop(0) if feed else b""

    answer: Any = StreamedChatResponse.__new__(StreamedChatResponse)
    answer.__dict__.update(
        _stream=Stream(),
        _patience=PATIENCE,
        _parser=FrameParser(),
        _pieces=[],
        _chunks=[],
        _room=1 << 20,
        _finish_reason=None,
        _usage=None,
        _ended=False,
        _failure=None,
        _close_connection=lambda: None,
    )
    return answer, feed


def test_another_thread_interrupts_a_chat_by_its_transport(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    hold = threading.Event()
    cloud.replies = [
        Reply(headers={"Content-Type": "text/event-stream"}, chunks=[delta("one")], hold=hold)
    ]
    with client.transport() as transport:
        with chat(client, transport=transport) as answer:
            pieces = iter(answer)
            assert next(pieces) == "one"
            waiting = Background(lambda: next(pieces))
            transport.interrupt()
            with pytest.raises(ArkorConnectionError):
                waiting.result()
        with pytest.raises(ArkorConnectionError, match="interrupted"):
            chat(client, transport=transport)
        assert transport.reset()  # it was left open
        cloud.replies = [Reply(content=envelope())]
        assert chat(client, transport=transport).content() == "Hi"
    hold.set()
