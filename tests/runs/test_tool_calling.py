"""Tools, over sockets: whatever can be chatted with can call them."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from arkor_sync import (
    ArkorConnectionError,
    ChatEndpoint,
    CheckpointContext,
    ToolRoundsExhausted,
    follow,
    run_tools,
)
from arkor_sync.emulator import Emulator, Fault, NgramEngine, ScriptedEngine
from support.emulator_client import Client
from support.waiting import PATIENCE

Make = Callable[..., Any]

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]


def called(call_id: str, arguments: str) -> Dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def reply(chat: Any, job: Any, step: Any) -> Any:
    """Ask for the weather of two cities at once, and tell what came back."""
    results = [each["content"] for each in chat.messages if each["role"] == "tool"]
    if chat.body.get("tools") and not results:
        return [called("a", '{"city": "Oslo"}'), called("b", '{"city": "Rome"}')]
    return f"step {step}: {', '.join(results)}"


def engine(**more: Any) -> ScriptedEngine:
    return ScriptedEngine(steps=4, checkpoints=[2], **{"reply": reply, **more})


def weather(city: str) -> str:
    return f"rain in {city}"


def ask(chat: Callable[..., Any], **more: Any) -> Any:
    return run_tools(chat, "How is it?", {"weather": weather}, tools=TOOLS, **more)


@pytest.mark.parametrize("stream", [True, False])
def test_whatever_can_be_chatted_with_calls_tools(
    make_emulator: Make, client_of: Make, stream: bool
) -> None:
    emulator = make_emulator(engine(), tool_calling=True)
    in_callback: List[Any] = []

    def on_checkpoint(ctx: CheckpointContext) -> None:
        in_callback.append(ask(ctx.infer, stream=stream))

    client = client_of(emulator)
    job_id = emulator.create_job()
    run = follow(job_id, client=client, callbacks={"on_checkpoint": on_checkpoint})
    result = run.wait(PATIENCE)
    answers = {
        "step 2": in_callback,
        "step None": [
            ask(run.infer, stream=stream),
            ask(result.infer, stream=stream),
            ask(client.chat, stream=stream, job=job_id),
            ask(client.chat, stream=stream, base_model="m"),
        ],
    }
    for start, conversations in answers.items():
        for answer, messages in conversations:
            assert answer.content() == f"{start}: rain in Oslo, rain in Rome"
            assert [each["role"] for each in messages] == [
                *("user", "assistant", "tool", "tool", "assistant")
            ]
            assert [each["tool_call_id"] for each in messages[2:4]] == ["a", "b"]


def test_a_forced_call_works_where_calls_are_not_looked_for(
    make_emulator: Make, client_of: Make
) -> None:
    client = client_of(make_emulator(engine()))
    answer, _ = ask(client.chat, base_model="m", tool_choice="required")
    assert answer.content() == "step None: rain in Oslo, rain in Rome"


def test_an_endless_conversation_is_bounded(make_emulator: Make, client_of: Make) -> None:
    emulator = make_emulator(engine(reply=called("a", '{"city": "Oslo"}')), tool_calling=True)
    with pytest.raises(ToolRoundsExhausted) as caught:
        ask(client_of(emulator).chat, base_model="m", max_rounds=3)
    assert len(caught.value.messages) == 1 + 3 * 2
    assert len(emulator.requests) == 3


@pytest.mark.parametrize("fault", ["cut_mid_event", "cut_clean", "reset_peer"])
@pytest.mark.parametrize("index", [1, 2, 3])
def test_no_call_is_made_of_an_answer_that_was_cut(
    make_emulator: Make, client_of: Make, fault: str, index: int
) -> None:
    emulator = make_emulator(engine(), tool_calling=True)
    emulator.faults.add(Fault(fault, route="chat", index=index))
    made: List[str] = []
    with pytest.raises(ArkorConnectionError):
        run_tools(
            client_of(emulator).chat,
            "How is it?",
            {"weather": made.append},
            tools=TOOLS,
            base_model="m",
        )
    assert made == []


# A deployment


def deployed(emulator: Emulator) -> ChatEndpoint:
    with Client(emulator) as client:
        body = {"slug": "bot", "target": {"kind": "base_model", "baseModel": "m"}}
        made = client.post("/v1/endpoints", {**body, "authMode": "fixed_api_key"}).json()
        path = f"/v1/endpoints/{made['deployment']['id']}/keys"
        key = client.post(path, {"label": "test"}).json()["key"]["plaintext"]
    return ChatEndpoint(emulator.endpoint_url("bot"), key)


@pytest.mark.parametrize("stream", [True, False])
def test_a_deployment_calls_tools(make_emulator: Make, stream: bool) -> None:
    endpoint = deployed(make_emulator(engine(), tool_calling=True))
    answer, _ = ask(endpoint.chat, stream=stream)
    assert answer.content() == "step None: rain in Oslo, rain in Rome"


def test_the_constraints_of_a_deployment(make_emulator: Make) -> None:
    endpoint = deployed(make_emulator(NgramEngine()))
    chosen = endpoint.chat("hello", structured_outputs={"choice": ["yes", "no"]})
    assert chosen.content() in ("yes", "no")
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    assert set(endpoint.chat("hello", response_format=form).parsed()) == {"city"}


@pytest.mark.parametrize("fault", ["cut_mid_event", "cut_clean", "reset_peer", "blackhole"])
@pytest.mark.parametrize("index", [1, 2, 3])
def test_a_cut_answer_of_a_deployment_raises(make_emulator: Make, fault: str, index: int) -> None:
    emulator = make_emulator(engine(reply="one two three"))
    endpoint = deployed(emulator)
    later = {"seconds": 0.1} if fault == "blackhole" else {}
    emulator.faults.add(Fault(fault, route="chat_completions", index=index, **later))
    with pytest.raises(ArkorConnectionError):
        endpoint.chat("hello").content()
    assert endpoint.chat("hello").content() == "one two three"
