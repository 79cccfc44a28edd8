"""What a checkpoint is asked, and in which form it answers: tools, constraints, JSON."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from arkor_sync import (
    ArkorUsageError,
    BadRequestError,
    ChatMessage,
    CheckpointContext,
    follow,
    run_tools,
)
from arkor_sync.emulator import Emulator, NgramEngine, ScriptedEngine
from support.waiting import PATIENCE

Make = Callable[..., Any]

CITY: Dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
CALL: Any = {
    "id": "call-1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
}
HELLO: Any = {"role": "user", "content": "How is it?"}


def in_callback(emulator: Emulator, client: Any, ask: Callable[[CheckpointContext], Any]) -> Any:
    """Return what a callback got from its checkpoint."""
    got: List[Any] = []
    job_id = emulator.create_job(config={"saveSteps": {"steps": 4}, "maxSteps": 4})
    run = follow(job_id, client=client, callbacks={"on_checkpoint": lambda c: got.append(ask(c))})
    run.wait(PATIENCE)
    return got[0]


def requests_of(emulator: Emulator) -> List[Any]:
    return [each.body for each in emulator.requests if each.route == "chat"]


@pytest.fixture
def emulator(make_emulator: Make) -> Emulator:
    emulator: Emulator = make_emulator(ScriptedEngine(steps=4, checkpoints=[4]))
    return emulator


def test_an_assistants_message_with_calls_and_no_content_is_sent_unchanged(
    emulator: Emulator, client_of: Make
) -> None:
    messages: List[ChatMessage] = [
        HELLO,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call-1", "content": "rain"},
    ]
    in_callback(emulator, client_of(emulator), lambda ctx: ctx.infer(messages, stream=False))
    (body,) = requests_of(emulator)
    assert body["messages"] == messages


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"messages": [{"role": "assistant"}]}, "without content and tool_calls"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "exactly one of json, regex"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "the type json_object together with structured_outputs",
        ),
        ({"structured_outputs": {"json_object": False}}, "json_object: got bool False"),
        ({"structured_outputs": {"choice": []}}, "choice: got an empty list"),
        ({"structured_outputs": {"grammar": " "}}, "grammar: got str ' '"),
    ],
)
def test_what_the_cloud_would_refuse_is_not_sent(
    emulator: Emulator, client_of: Make, arguments: Any, match: str
) -> None:
    def ask(ctx: CheckpointContext) -> None:
        with pytest.raises(ArkorUsageError, match=match):
            ctx.infer(**{"messages": [HELLO], **arguments})

    in_callback(emulator, client_of(emulator), ask)
    assert requests_of(emulator) == []


@pytest.mark.parametrize("stream", [True, False])
def test_a_call_makes_a_round_trip(make_emulator: Make, client_of: Make, stream: bool) -> None:
    def reply(chat: Any, *_: Any) -> Any:
        last = chat.messages[-1]
        return last["content"] if last["role"] == "tool" else CALL

    engine = ScriptedEngine(steps=4, checkpoints=[4], reply=reply)
    emulator = make_emulator(engine, tool_calling=True)

    def by_hand(ctx: CheckpointContext) -> Any:
        asked = ctx.infer([HELLO], tools=[TOOL], stream=stream)
        (call,) = asked.tool_calls()
        result: ChatMessage = {"role": "tool", "tool_call_id": call["id"], "content": "rain"}
        told = ctx.infer([HELLO, asked.message(), result], tools=[TOOL], stream=stream)
        return call, asked.finish_reason, told.content()

    client = client_of(emulator)
    assert in_callback(emulator, client, by_hand) == (CALL, "tool_calls", "rain")

    def by_the_loop(ctx: CheckpointContext) -> Any:
        functions = {"weather": lambda city: "rain"}
        return run_tools(ctx.infer, [HELLO], functions, tools=[TOOL], stream=stream)

    answer, _ = in_callback(emulator, client, by_the_loop)
    assert answer.content() == "rain"
    first, second, third, fourth = requests_of(emulator)
    assert (first["messages"], second["messages"]) == (third["messages"], fourth["messages"])


def test_automatic_calls_need_an_endpoint_that_looks_for_them(
    emulator: Emulator, client_of: Make
) -> None:
    def ask(ctx: CheckpointContext) -> Any:
        named: Any = {"type": "function", "function": {"name": "weather"}}
        for choice in ("required", named):
            ctx.infer([HELLO], tools=[TOOL], tool_choice=choice, stream=False)
        codes = []
        for automatic in (None, "auto"):
            with pytest.raises(BadRequestError) as caught:
                ctx.infer([HELLO], tools=[TOOL], tool_choice=automatic)
            codes.append(caught.value.code)
        return codes

    assert in_callback(emulator, client_of(emulator), ask) == ["tool_calling_not_configured"] * 2
    assert len(requests_of(emulator)) == 4


def json_schema(schema: Any, **more: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, **more}}


@pytest.mark.parametrize(
    ("form", "code", "message"),
    [
        (json_schema(CITY, strict=True), "invalid_schema", "additionalProperties"),
        (json_schema({"type": "object", "properties": 5}), None, "properties"),
    ],
)
def test_the_cloud_looks_at_schemas(
    make_emulator: Make, client_of: Make, form: Any, code: Any, message: str
) -> None:
    def ask(ctx: CheckpointContext) -> Any:
        with pytest.raises(BadRequestError) as caught:
            ctx.infer([HELLO], response_format=form)
        return caught.value

    emulator = make_emulator(NgramEngine())
    error = in_callback(emulator, client_of(emulator), ask)
    assert code in (None, error.code)
    assert message in error.message


@pytest.mark.parametrize(
    "options", [{"response_format": json_schema(CITY)}, {"structured_outputs": {"json": CITY}}]
)
def test_json_is_a_text_that_can_be_parsed(
    make_emulator: Make, client_of: Make, options: Any
) -> None:
    def ask(ctx: CheckpointContext) -> Any:
        answer = ctx.infer([HELLO], **options)
        return type(answer.content()), set(answer.parsed())

    emulator = make_emulator(NgramEngine())
    assert in_callback(emulator, client_of(emulator), ask) == (str, {"city"})
