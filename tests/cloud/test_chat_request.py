from __future__ import annotations

from typing import Any, Dict, List

import pytest

from arkor_sync.cloud.chat_request import build_chat_body, build_completion_body
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.errors import ArkorUsageError
from support.scripted_cloud import ScriptedCloud

HELLO = [{"role": "user", "content": "Hello"}]
CALL = {"id": "call-1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}


def body(messages: Any = HELLO, **more: Any) -> Dict[str, Any]:
    if "adapter" not in more:
        more.setdefault("base_model", "m")
    return build_chat_body(messages, **more)


def refused(match: str, messages: Any = HELLO, **more: Any) -> None:
    with pytest.raises(ArkorUsageError, match=match):
        body(messages, **more)


def test_every_argument_has_its_wire_name() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    choice = {"type": "function", "function": {"name": "f"}}
    checkpoint = {"kind": "checkpoint", "jobId": "job-1", "step": 25}
    assert body(
        adapter=checkpoint,
        stream=False,
        temperature=0,
        top_p=0.5,
        max_tokens=10,
        tools=tools,
        tool_choice=choice,
        response_format={"type": "text"},
        structured_outputs={"regex": "a+"},
        extra={"seed": 1, "stop": []},
    ) == {
        "messages": HELLO,
        "adapter": checkpoint,
        "stream": False,
        "temperature": 0,
        "topP": 0.5,
        "maxTokens": 10,
        "tools": tools,
        "toolChoice": choice,
        "responseFormat": {"type": "text"},
        "structuredOutputs": {"regex": "a+"},
        "seed": 1,
        "stop": [],
    }


def test_what_is_left_out_is_absent_and_stream_is_always_sent() -> None:
    assert body() == {"messages": HELLO, "baseModel": "m", "stream": True}


def test_messages_are_sent_as_they_are() -> None:
    messages: List[Dict[str, Any]] = [
        {"role": "system", "content": ""},
        {"role": "user", "content": "x", "id": 5},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "text"},
        {"role": "tool", "content": "{}", "tool_call_id": "call-1"},
    ]
    assert body(messages)["messages"] == messages
    assert body(tuple(messages))["messages"] == messages


def test_a_text_is_a_message_of_the_user() -> None:
    assert body("Hello")["messages"] == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    "messages", [[], "", b"Hello", None, 5, {"role": "user", "content": "x"}], ids=repr
)
def test_other_messages_are_refused(messages: Any) -> None:
    refused("^messages: got .*; give a text such as 'Hello', or a list", messages)


@pytest.mark.parametrize(
    ("message", "match"),
    [
        ("Hello", r"^messages\[1\]: got str 'Hello'; give an object"),
        ({"content": "x"}, r"^messages\[1\]\.role: got None; give one of system, user"),
        ({"role": "robot", "content": "x"}, r"^messages\[1\]\.role: got str 'robot'"),
        ({"role": ["user"], "content": "x"}, r"^messages\[1\]\.role: got a list"),
        ({"role": "user"}, r"^messages\[1\]\.content: got None; give a string"),
        ({"role": "user", "content": [{"type": "text"}]}, r"^messages\[1\]\.content: got a list"),
        ({"role": "system", "content": None}, r"^messages\[1\]\.content"),
        ({"role": "assistant"}, r"^messages\[1\]: got an assistant's message without content and"),
        (
            {"role": "assistant", "tool_calls": []},
            r"^messages\[1\]: got an assistant's",
        ),
        ({"role": "assistant", "content": 5, "tool_calls": [CALL]}, r"^messages\[1\]\.content"),
        ({"role": "tool", "content": "x"}, r"^messages\[1\]\.tool_call_id: got None; give the id"),
    ],
)
def test_messages_that_cannot_work(message: Any, match: str) -> None:
    refused(match, [*HELLO, message])


@pytest.mark.parametrize(
    ("target", "adapter"),
    [
        ({"job": "job-1"}, {"kind": "final", "jobId": "job-1"}),
        ({"job": "job-1", "step": 0}, {"kind": "checkpoint", "jobId": "job-1", "step": 0}),
    ],
)
def test_a_job_is_sent_as_its_adapter(target: Any, adapter: Any) -> None:
    assert body(base_model=None, **target)["adapter"] == adapter


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ({"base_model": None}, "^job, adapter, base_model: got none of them; give exactly one"),
        ({"job": "j"}, "^job, adapter, base_model: got job and base_model; give exactly one"),
        ({"step": 5}, "^step: got int 5; give the job of the checkpoint too: job='...'"),
        ({"base_model": None, "job": ""}, "^job: got str ''; give a TrainingJob or the id"),
        ({"base_model": None, "job": 5}, "^job: got int 5; give a TrainingJob or the id"),
        ({"base_model": None, "job": "j", "step": "5"}, "^step: got str '5'; give the step of"),
        ({"base_model": None, "job": "j", "step": True}, "^step: got bool True; give the step of"),
    ],
)
def test_jobs_that_cannot_be_asked(target: Any, match: str) -> None:
    refused(match, HELLO, **target)


@pytest.mark.parametrize(
    "target",
    [
        {"base_model": None},
        {"base_model": "m", "adapter": {"kind": "final", "jobId": "j"}},
        {"adapter": {"kind": "final"}},
        {"adapter": {"kind": "other", "jobId": "j"}},
        {"adapter": {"kind": "checkpoint", "jobId": "j"}},
        {"adapter": {"kind": "checkpoint", "jobId": "j", "step": "25"}},
        {"adapter": "job-1"},
    ],
)
def test_targets_that_cannot_work(target: Any) -> None:
    refused("adapter", HELLO, **target)


@pytest.mark.parametrize(
    "constraint",
    [
        {"json": {"type": "object"}},
        {"regex": "[a-z]+"},
        {"choice": ["yes", "no"]},
        {"grammar": "root ::= 'x'"},
        {"json_object": True},
        {"json_object": True, "disable_any_whitespace": False},
        {"regex": "x", "whitespace_pattern": "_", "disable_additional_properties": True},
        {"regex": "x", "grammar": None},
    ],
)
def test_constraints_that_work(constraint: Any) -> None:
    assert body(structured_outputs=constraint)["structuredOutputs"] == constraint


@pytest.mark.parametrize(
    ("constraint", "match"),
    [
        ("json", "^structured_outputs: got str 'json'; give an object"),
        ({}, "^structured_outputs: got none; give exactly one of json, regex"),
        ({"disable_any_whitespace": True}, "got none; give exactly one"),
        ({"regex": "x", "choice": ["y"]}, "got regex, choice; give exactly one"),
        ({"json_object": False}, r"json_object: got bool False; give True"),
        ({"json": '{"type": "object"}'}, r"\.json: got .*; give a JSON schema as an object"),
        (
            {"choice": []},
            r"\.choice: got an empty list; give a list of strings, none",
        ),
        ({"choice": "yes"}, r"\.choice: got str 'yes'"),
        ({"choice": ["yes", " "]}, r"\.choice: got a list"),
        ({"grammar": " \n"}, r"\.grammar: got .*; give a string that is not blank"),
        ({"regex": ""}, r"\.regex: got str ''"),
        ({"regex": "x", "whitespace_pattern": ""}, r"\.whitespace_pattern: got"),
        ({"regex": "x", "disable_any_whitespace": 1}, r"\.disable_any_whitespace: got int 1"),
        ({"regex": "x", "structural_tag": {}}, "^structured_outputs: got structural_tag, which"),
        ({"guided_json": {}}, "^structured_outputs: got guided_json, which"),
    ],
)
def test_constraints_that_cannot_work(constraint: Any, match: str) -> None:
    refused(match, structured_outputs=constraint)


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_a_constraint_excludes_a_json_format(kind: str) -> None:
    refused(
        f"^response_format: got the type {kind} together with structured_outputs",
        structured_outputs={"regex": "x"},
        response_format={"type": kind},
    )
    assert body(structured_outputs={"regex": "x"}, response_format={"type": "text"})


def test_extra_cannot_replace_an_argument() -> None:
    refused("^extra: got stream, topP; give only keys", extra={"topP": 1, "stream": False})


@pytest.mark.parametrize(
    ("tools", "match"),
    [
        ("f", r"^tools: got str 'f'; give a list of tools: {'type': 'function'"),
        ({"type": "function"}, r"^tools: got a dict with 'type'; give a list of tools"),
        (
            [FUNCTION],
            r"^tools\[0\]: got a dict with 'name', 'parameters'; give {'type': 'function'",
        ),
        ([TOOL, "f"], r"^tools\[1\]: got str 'f'"),
        ([{"type": "function"}], r"^tools\[0\]: got a dict with 'type'"),
        ([{"type": "function", "function": {"name": " "}}], r"^tools\[0\]: got"),
        ([{"type": "function", "function": print}], r"^tools\[0\]: got"),
        ([{**TOOL, "type": None}], r"^tools\[0\]: got"),
    ],
)
def test_tools_that_cannot_work(tools: Any, match: str) -> None:
    refused(match, tools=tools)


@pytest.mark.parametrize(
    "choice",
    ["sometimes", "f", 5, ["auto"], {}, {"function": {"name": "f"}}, {"type": "function"}],
    ids=str,
)
def test_choices_of_tools_that_cannot_work(choice: Any) -> None:
    refused("^tool_choice: got .*; give 'auto', 'none', 'required' or {'type'", tool_choice=choice)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (
            "json",
            "^response_format: got str 'json'; give an object whose type is one of text, json",
        ),
        ({}, "^response_format: got an empty dict; give an object whose type"),
        ({"type": "jsonObject"}, r"json_schema \(did you mean 'json_object'\?\)$"),
        ({"type": "json_schema"}, r"^response_format\.json_schema: got None; give {'name'"),
        (
            {"type": "json_schema", "json_schema": {"type": "object"}},
            r"^response_format\.json_schema: got a dict with 'type'; give {'name'",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": "{}"}},
            r"^response_format\.json_schema: got a dict with 'name', 'schema'",
        ),
    ],
)
def test_formats_that_cannot_work(value: Any, match: str) -> None:
    refused(match, response_format=value)


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": (TOOL, {"type": "web_search"}), "tool_choice": {"type": "web_search"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
        {"response_format": {"type": "of another server"}},
    ],
)
def test_what_can_work_or_may_be_new_is_sent(options: Any) -> None:
    sent = body(**options)
    for value in options.values():
        assert (list(value) if isinstance(value, tuple) else value) in sent.values()


def test_another_server_gets_the_names_of_the_arguments() -> None:
    form = {"type": "json_object"}
    sent = build_completion_body(
        "Hello",
        model="m",
        stream=False,
        temperature=0,
        top_p=0.5,
        max_tokens=10,
        tools=[TOOL],
        tool_choice="none",
        response_format=form,
        structured_outputs=None,
        extra={"seed": 1},
    )
    assert sent == {
        "messages": HELLO,
        "model": "m",
        "stream": False,
        "temperature": 0,
        "top_p": 0.5,
        "max_tokens": 10,
        "tools": [TOOL],
        "tool_choice": "none",
        "response_format": form,
        "seed": 1,
    }
    assert build_completion_body(HELLO) == {"messages": HELLO, "stream": True}


def test_another_server_may_know_more_roles_and_contents() -> None:
    messages: List[Dict[str, Any]] = [
        {"role": "developer", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
    ]
    assert build_completion_body(messages)["messages"] == messages
    for message in ({"role": "", "content": "x"}, {"role": "user"}, {"role": "user", "content": 5}):
        with pytest.raises(ArkorUsageError, match=r"^messages\[0\]\."):
            build_completion_body([message])


@pytest.mark.parametrize("name", ["top_p", "topP", "max_tokens", "model"])
def test_an_extra_of_another_server_has_no_argument_of_its_own(name: str) -> None:
    with pytest.raises(ArkorUsageError, match=f"^extra: got {name}; give only keys"):
        build_completion_body(HELLO, top_p=None, max_tokens=1, extra={name: 1})


def test_what_json_cannot_carry() -> None:
    refused("cannot be sent as JSON", temperature=float("nan"))
    tool = {"type": "function", "function": {"name": "f", "parameters": object()}}
    refused("cannot be sent as JSON: tools.*parameters", tools=[tool])


def test_nothing_is_sent_that_cannot_work(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    with pytest.raises(ArkorUsageError):
        client.chat([], base_model="m")
    for timeout in (0, -1, "5"):
        with pytest.raises(ArkorUsageError, match=r"^timeout: got"):
            client.chat(HELLO, base_model="m", timeout=timeout)  # type: ignore[arg-type]
    assert not cloud.received
