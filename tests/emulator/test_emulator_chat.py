from __future__ import annotations

import json
from typing import Any, Dict, Generator, Iterator, List, Tuple

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.emulator.engine.base import Answer, Piece
from arkor_sync.emulator.http.messages import ApiError
from arkor_sync.errors import CloudApiError
from support.emulator_client import MODEL, Client, parse_sse
from support.waiting import until

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PERSON}}


def finished(emu: Emulator) -> str:
    job_id = emu.create_job()
    emu.wait_for(lambda: emu.jobs[job_id].terminal)
    return job_id


def chunks(body: bytes) -> Tuple[List[Dict[str, Any]], str]:
    """Return the chunks of a streamed answer and the data of its last frame."""
    events = parse_sse(body)
    return [event.json for event in events[:-1]], str(events[-1].data)


def content(parts: List[Dict[str, Any]]) -> str:
    return "".join(part["choices"][0]["delta"].get("content", "") for part in parts)


def test_a_whole_answer_has_the_shape_of_a_chat_completion(emu: Emulator, client: Client) -> None:
    adapter = {"kind": "checkpoint", "jobId": finished(emu), "step": 2}
    body = client.chat("how are you", adapter=adapter, stream=False).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == MODEL
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "[job @ 2] how are you"},
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {"prompt_tokens": 11, "completion_tokens": 21, "total_tokens": 32}


def test_a_streamed_answer_comes_in_chunks_and_ends_with_done(
    emu: Emulator, client: Client
) -> None:
    adapter = {"kind": "final", "jobId": finished(emu)}
    response = client.chat("how are you", adapter=adapter, stream=True)
    assert response.headers["Content-Type"] == "text/event-stream"
    parts, last = chunks(response.content)
    assert last == "[DONE]"
    assert content(parts) == "[job @ final] how are you"
    assert len(parts) > 4
    assert parts[0]["choices"][0]["delta"]["role"] == "assistant"
    assert parts[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert {part["object"] for part in parts} == {"chat.completion.chunk"}


class BreaksOff(ScriptedEngine):
    """Fails in the middle of each answer."""

    def reply(self, *_: Any) -> Iterator[Piece]:
        yield "half "
        raise ApiError(503, "the model has gone")


def test_an_answer_that_breaks_off_says_why_in_its_stream() -> None:
    """The status was sent already. It is the model's failure, and none of the emulator."""
    with Emulator(BreaksOff()) as emu:
        with Client(emu) as client:
            parts, last = chunks(client.chat("hi", baseModel=MODEL, stream=True).content)
            assert parts[-1] == {"error": {"message": "the model has gone", "code": 503}}
            assert last == "[DONE]"
            whole = client.chat("hi", baseModel=MODEL, stream=False)
            assert (whole.status_code, whole.json()) == (503, {"error": "the model has gone"})
        answer = emu.client().chat([{"role": "user", "content": "hi"}], base_model=MODEL)
        with pytest.raises(CloudApiError, match="503: the model has gone"):
            answer.content()
        assert emu.errors == []


def test_a_streamed_answer_may_end_with_an_end_event_and_tell_the_usage() -> None:
    with Emulator(ScriptedEngine(reply="yes"), chat_end="end") as emu, Client(emu) as client:
        response = client.chat(
            "ok?", baseModel=MODEL, stream=True, streamOptions={"includeUsage": True}
        )
        events = parse_sse(response.content)
        assert events[-1].name == "end"
        assert events[-2].json["choices"] == []
        assert events[-2].json["usage"]["completion_tokens"] == 3


def test_without_stream_the_answer_is_whole(client: Client) -> None:
    assert client.chat(baseModel=MODEL).json()["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("adapter", "status"),
    [
        ({"kind": "checkpoint", "step": 3}, 404),
        ({"kind": "checkpoint", "step": 2, "jobId": "unknown"}, 404),
        ({"kind": "checkpoint"}, 400),
        ({"kind": "checkpoint", "step": "2"}, 400),
        ({"kind": "last"}, 400),
        ({"kind": "final", "jobId": 7}, 400),
        ("final", 400),
    ],
)
def test_an_adapter_that_is_not_there_is_refused(
    emu: Emulator, client: Client, adapter: Any, status: int
) -> None:
    job_id = finished(emu)
    if isinstance(adapter, dict):
        adapter = {"jobId": job_id, **adapter}
    assert client.chat(adapter=adapter).status_code == status


def test_a_checkpoint_answers_while_the_run_goes_on_and_final_only_after(
    emu: Emulator, client: Client
) -> None:
    job_id = emu.create_job(ScriptedEngine(steps=3, checkpoints=[2], manual=True))
    checkpoint = {"kind": "checkpoint", "jobId": job_id, "step": 2}
    final = {"kind": "final", "jobId": job_id}
    emu.step(job_id, 3)
    assert client.chat(adapter=checkpoint).status_code == 404
    emu.step(job_id)
    assert client.chat(adapter=checkpoint).status_code == 200
    assert client.chat(adapter=final).status_code == 404
    emu.step(job_id, 2)
    assert client.chat(adapter=final).status_code == 200


def test_exactly_one_of_adapter_and_base_model(emu: Emulator, client: Client) -> None:
    assert client.chat().status_code == 400
    adapter = {"kind": "final", "jobId": finished(emu)}
    assert client.chat(adapter=adapter, baseModel=MODEL).status_code == 400
    assert client.chat(baseModel="").status_code == 400


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        ["hi"],
        [{"role": "robot", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "assistant"}],
        [{"role": "assistant", "content": None, "tool_calls": []}],
        [{"role": "assistant", "content": "x", "tool_calls": "y"}],
        [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}],
        [{"role": "user", "content": "x", "tool_calls": []}],
        [{"role": "tool", "content": "x"}],
    ],
)
def test_messages_that_make_no_sense_are_refused(client: Client, messages: Any) -> None:
    response = client.post("/v1/inference/chat", {"messages": messages, "baseModel": MODEL})
    assert response.status_code == 400
    assert response.json()["error"].startswith("messages")


def test_a_conversation_with_tools_in_it_is_taken(client: Client) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "be brief", "id": 1},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
    ]
    response = client.post("/v1/inference/chat", {"messages": messages, "baseModel": MODEL})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 2.1},
        {"temperature": "hot"},
        {"topP": -0.1},
        {"maxTokens": 0},
        {"stream": "yes"},
        {"stop": ""},
        {"stop": ["a"] * 17},
        {"stop": ["a", ""]},
        {"presencePenalty": 3},
        {"frequencyPenalty": -3},
        {"seed": "x"},
        {"logprobs": 1},
        {"topLogprobs": 21, "logprobs": True},
        {"topLogprobs": 3},
        {"topLogprobs": 3, "logprobs": False},
        {"logitBias": {"5": 101}},
        {"streamOptions": {"includeUsage": 1}},
        {"enableThinking": "no"},
        {"reasoningEffort": "huge"},
        {"tools": "x"},
        {"tools": [{"type": "function"}]},
        {"tools": [WEATHER], "toolChoice": "sometimes"},
        {"tools": [], "toolChoice": "required"},
        {
            "tools": [WEATHER],
            "toolChoice": {"type": "function", "function": {"name": "other"}},
        },
        {"structuredOutputs": "x"},
        {"structuredOutputs": {}},
        {"structuredOutputs": {"whitespace_pattern": " "}},
        {"structuredOutputs": {"regex": "a", "choice": ["b"]}},
        {"structuredOutputs": {"choice": []}},
        {"structuredOutputs": {"grammar": "  "}},
        {"structuredOutputs": {"regex": ""}},
        {"structuredOutputs": {"json_object": False}},
        {"structuredOutputs": {"json": "{}"}},
        {"structuredOutputs": {"structural_tag": "x"}},
        {"structuredOutputs": {"guided_json": {}}},
        {"structuredOutputs": {"regex": "a", "disable_any_whitespace": 1}},
        {"structuredOutputs": {"regex": "a"}, "responseFormat": {"type": "json_object"}},
        {"responseFormat": {"type": "xml"}},
        {"responseFormat": "json_object"},
        {"responseFormat": {"type": "json_schema"}},
        {"responseFormat": {"type": "json_schema", "json_schema": {"name": "x"}}},
    ],
)
def test_a_request_that_the_cloud_rejects_is_rejected(client: Client, body: Any) -> None:
    response = client.chat(baseModel=MODEL, **body)
    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 0, "topP": 1, "maxTokens": 5, "seed": 1},
        {"stop": [], "presencePenalty": -2, "frequencyPenalty": 2},
        {"logprobs": True, "topLogprobs": 20, "logitBias": {"5": -100}},
        {"enableThinking": True, "reasoningEffort": "max"},
        {"tools": [WEATHER], "toolChoice": "none"},
        {"structuredOutputs": {"regex": "a+", "disable_any_whitespace": True}},
        {"structuredOutputs": {"choice": ["a"]}, "responseFormat": {"type": "text"}},
        {"something": "unknown"},
    ],
)
def test_a_request_that_the_cloud_takes_is_taken(client: Client, body: Any) -> None:
    assert client.chat(baseModel=MODEL, **body).status_code == 200


@pytest.mark.parametrize("choice", [{}, {"toolChoice": "auto"}])
def test_automatic_tools_have_to_be_configured(
    emu: Emulator, client: Client, choice: Dict[str, Any]
) -> None:
    response = client.chat(baseModel=MODEL, tools=[WEATHER], **choice)
    assert response.status_code == 400
    assert response.json()["code"] == "tool_calling_not_configured"
    assert "tool_calling_not_configured" in response.json()["error"]
    emu.settings.tool_calling = True
    assert client.chat(baseModel=MODEL, tools=[WEATHER], **choice).status_code == 200


@pytest.mark.parametrize(
    ("schema", "status"),
    [
        (PERSON, 200),
        ({**PERSON, "required": ["name"]}, 400),
        ({**PERSON, "additionalProperties": True}, 400),
        ({"type": "object", "properties": {}}, 400),
        (
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["people"],
                "properties": {"people": {"type": "array", "items": {"type": "object"}}},
            },
            400,
        ),
        ({"anyOf": [{"type": "string"}, {"type": "object"}]}, 400),
        ({"$defs": {"x": {"type": "object"}}, "type": "string"}, 400),
    ],
)
def test_a_strict_schema_is_closed_throughout(client: Client, schema: Any, status: int) -> None:
    named = {"name": "person", "schema": schema}
    loose = {"type": "json_schema", "json_schema": named}
    strict = {"type": "json_schema", "json_schema": {**named, "strict": True}}
    assert client.chat(baseModel=MODEL, responseFormat=loose).status_code == 200
    response = client.chat(baseModel=MODEL, responseFormat=strict)
    assert response.status_code == status
    if status == 400:
        assert response.json()["code"] == "invalid_schema"


# -- how an answer ends ---------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({}, "one two three", "stop"),
        ({"maxTokens": 6}, "one tw", "length"),
        ({"stop": "two"}, "one ", "stop"),
        ({"stop": ["e t", "three"]}, "on", "stop"),
        ({"stop": ["four"]}, "one two three", "stop"),
    ],
)
def test_an_answer_is_cut_at_a_stop_text_and_at_the_limit(
    stream: bool, options: Dict[str, Any], text: str, reason: str
) -> None:
    with Emulator(ScriptedEngine(reply="one two three")) as emu, Client(emu) as client:
        response = client.chat(baseModel=MODEL, stream=stream, **options)
        if stream:
            parts, _ = chunks(response.content)
            assert (content(parts), parts[-1]["choices"][0]["finish_reason"]) == (text, reason)
        else:
            choice = response.json()["choices"][0]
            assert (choice["message"]["content"], choice["finish_reason"]) == (text, reason)


@pytest.mark.parametrize("stream", [True, False])
def test_a_tool_call(stream: bool) -> None:
    arguments = '{"city": "Oslo"}'
    function = {"name": "weather", "arguments": arguments}
    call = {"id": "c1", "type": "function", "function": function}
    with Emulator(ScriptedEngine(reply=call)) as emu, Client(emu) as client:
        response = client.chat(
            baseModel=MODEL, stream=stream, tools=[WEATHER], toolChoice="required"
        )
        if stream:
            parts, _ = chunks(response.content)
            sent = [part["choices"][0]["delta"]["tool_calls"][0] for part in parts[1:-1]]
            empty = {**function, "arguments": ""}
            assert sent[0] == {"index": 0, **call, "function": empty}
            assert "".join(part["function"]["arguments"] for part in sent) == arguments
            assert len(sent) == 3
            assert parts[-1]["choices"][0]["finish_reason"] == "tool_calls"
        else:
            choice = response.json()["choices"][0]
            assert choice["message"]["tool_calls"] == [call]
            assert choice["message"]["content"] is None
            assert choice["finish_reason"] == "tool_calls"


class Counted(Answer):
    """An answer of three words, each of which is a token to its engine."""

    def __init__(self) -> None:
        self.prompt_tokens = 7
        self.closed = False

    def __iter__(self) -> Generator[Piece, None, None]:
        for word in ("one ", "two ", "three"):
            self.completion_tokens += 1
            yield word
        self.finish_reason = "length"

    def close(self) -> None:
        self.closed = True


class CountingEngine(ScriptedEngine):
    """An engine that counts its tokens itself."""

    def reply(self, *_: Any) -> Answer:
        self.answer = Counted()
        return self.answer


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("options", "text", "reason", "tokens"),
    [
        ({"maxTokens": 3}, "one two three", "length", 3),
        ({"stop": "two"}, "one ", "stop", 2),
        ({"stop": "three"}, "one two ", "stop", 3),
    ],
)
def test_an_engine_that_counts_its_tokens_says_how_the_answer_ends(
    stream: bool, options: Dict[str, Any], text: str, reason: str, tokens: int
) -> None:
    engine = CountingEngine()
    with Emulator(engine) as emu, Client(emu) as client:
        usage = {"streamOptions": {"includeUsage": True}} if stream else {}
        response = client.chat("hello", baseModel=MODEL, stream=stream, **usage, **options)
        if stream:
            parts, _ = chunks(response.content)
            *parts, last = parts
            said, finish_reason = content(parts), parts[-1]["choices"][0]["finish_reason"]
        else:
            last = response.json()
            choice = last["choices"][0]
            said, finish_reason = choice["message"]["content"], choice["finish_reason"]
    assert (said, finish_reason) == (text, reason)
    assert last["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": tokens,
        "total_tokens": 7 + tokens,
    }
    assert engine.answer.closed


def test_a_client_that_goes_away_ends_the_answer() -> None:
    class Endless(Counted):
        def __iter__(self) -> Generator[Piece, None, None]:
            while True:
                yield "and "

    answer = Endless()
    engine = ScriptedEngine()
    engine.reply = lambda *_: answer  # type: ignore[method-assign]
    with Emulator(engine) as emu, Client(emu) as client:
        body = {"messages": [{"role": "user", "content": "go on"}], "baseModel": MODEL}
        with client.post("/v1/inference/chat", {**body, "stream": True}, stream=True) as response:
            pieces = response.iter_content(10)  # the end of this iterator closes the connection
            assert next(pieces)
            assert not answer.closed
        until(lambda: answer.closed)


def test_a_scripted_reply_may_be_a_function_or_pieces() -> None:
    def reply(chat: Any, job: Any, step: Any) -> List[str]:
        assert (job, step) == (None, None)
        return [chat.prompt.upper(), "!"]

    with Emulator(ScriptedEngine(reply=reply)) as emu, Client(emu) as client:
        body = client.chat("hey", baseModel=MODEL).json()
        assert body["choices"][0]["message"]["content"] == "HEY!"


# -- what the language model does with constraints -----------------------------------------------


def answer(client: Client, **body: Any) -> Dict[str, Any]:
    response = client.chat("My invoice is wrong.", baseModel=MODEL, **body)
    assert response.status_code == 200, response.text
    message: Dict[str, Any] = response.json()["choices"][0]["message"]
    return message


def test_the_language_model_keeps_to_structured_outputs() -> None:
    with Emulator() as emu, Client(emu) as client:
        choices = ["billing: Send us", "qqqqqqqqqqqqqqqq"]
        said = answer(client, structuredOutputs={"choice": choices})["content"]
        assert said == choices[0]
        for extra in (
            {"structuredOutputs": {"json": PERSON}},
            {
                "responseFormat": {
                    "type": "json_schema",
                    "json_schema": {"name": "p", "schema": PERSON},
                }
            },
        ):
            person = json.loads(answer(client, **extra)["content"])
            assert set(person) == {"name", "age"}
            assert isinstance(person["age"], int)
        assert isinstance(
            json.loads(answer(client, responseFormat={"type": "json_object"})["content"]), dict
        )
        message = answer(client, tools=[WEATHER], toolChoice="required")
        call = message["tool_calls"][0]
        assert call["function"]["name"] == "weather"
        assert set(json.loads(call["function"]["arguments"])) == {"name", "age"}
        refused = client.chat(baseModel=MODEL, structuredOutputs={"regex": "[a-z]+"})
        assert refused.status_code == 400
        assert refused.json()["code"] == "not_supported_by_emulator"
        assert (
            client.chat(
                baseModel=MODEL, structuredOutputs={"regex": "[a-z]+"}, stream=True
            ).status_code
            == 400
        )
