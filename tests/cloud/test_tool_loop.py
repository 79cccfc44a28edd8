from __future__ import annotations

import copy
import json
import operator
import pickle
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import pytest
import requests

from arkor_sync import ArkorUsageError, BadRequestError, ToolRoundsExhausted, run_tools
from arkor_sync.cloud.chat import ChatResponse
from arkor_sync.cloud.tool_loop import ToolConversation

Answer = Union[str, Sequence[Tuple[Any, Any]], Exception]
HELLO: Dict[str, Any] = {"role": "user", "content": "Hello"}


class Model:
    """Chats by a script: a text, calls as pairs of a name and arguments, or an error to raise."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.asked: List[List[Any]] = []
        self.options: List[Dict[str, Any]] = []

    def chat(self, messages: Any, **options: Any) -> ChatResponse:
        self.asked.append(copy.deepcopy(messages))
        self.options.append(options)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        message: Dict[str, Any] = {"content": step}
        if not isinstance(step, str):
            calls = [call(f"c{i}", *each) for i, each in enumerate(step)]
            message = {"content": None, "tool_calls": calls}
        response = requests.Response()
        response.status_code = 200
        response._content = json.dumps({"choices": [{"message": message}]}).encode()
        return ChatResponse(response)


def call(call_id: Optional[str], name: Any, arguments: Any) -> Dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def tool(name: str) -> Dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def result(call_id: str, content: str) -> Dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def weather(city: str, days: int = 1) -> Any:
    return {"city": city, "days": days, "sky": "größer ☁"}


def run(model: Model, functions: Optional[Mapping[str, Any]] = None, **more: Any) -> Any:
    functions = {"weather": weather} if functions is None else functions
    more.setdefault("tools", [tool(name) for name in functions])
    return run_tools(model.chat, "Hello", functions, **more)


def told(arguments: Any, function: Callable[..., Any] = weather, name: Any = "weather") -> str:
    """Return what the model is told about a call."""
    model = Model([(name, arguments)], "ok")
    run(model, {"weather": function})
    content: str = model.asked[1][-1]["content"]
    return content


def test_calls_are_made_until_there_is_an_answer() -> None:
    first = [("weather", '{"city": "Oslo"}'), ("time", "")]
    model = Model(first, [("weather", '{"city": "Rome", "days": 2}')], "It rains.")
    functions = {"weather": weather, "time": lambda: "noon"}
    conversation = run(model, functions, temperature=0, job="job-1")
    assert isinstance(conversation, ToolConversation)
    answer, messages = conversation
    assert answer.content() == "It rains."
    assert messages == [
        HELLO,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("c0", *first[0]), call("c1", "time", "")],
        },
        result("c0", '{"city": "Oslo", "days": 1, "sky": "größer ☁"}'),
        result("c1", "noon"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("c0", "weather", '{"city": "Rome", "days": 2}')],
        },
        result("c0", '{"city": "Rome", "days": 2, "sky": "größer ☁"}'),
        {"role": "assistant", "content": "It rains."},
    ]
    assert model.asked == [messages[:1], messages[:4], messages[:6]]
    for options in model.options:
        assert options == {
            "tools": [tool("weather"), tool("time")],
            "tool_choice": None,
            "temperature": 0,
            "job": "job-1",
        }


def test_an_answer_at_once_makes_no_call() -> None:
    given = [HELLO]
    answer, messages = run_tools(
        Model("Hi").chat, given, {"weather": weather}, tools=[tool("weather")]
    )
    assert (answer.content(), messages) == ("Hi", [HELLO, {"role": "assistant", "content": "Hi"}])
    assert given == [HELLO]


@pytest.mark.parametrize(
    ("returned", "content"),
    [
        ("text", "text"),
        ("", ""),
        (None, "null"),
        (5, "5"),
        (True, "true"),
        ([1, "a"], '[1, "a"]'),
        ({"é": (1, 2)}, '{"é": [1, 2]}'),
    ],
)
def test_a_result_is_told_as_a_text_or_as_json(returned: Any, content: str) -> None:
    assert told("{}", lambda: returned) == content


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{", "error: the arguments must be a JSON object"),
        ('{"city": "Os', "error: the arguments must be a JSON object"),
        ("[]", "error: the arguments must be a JSON object"),
        ("5", "error: the arguments must be a JSON object"),
        ("null", "error: the arguments must be a JSON object"),
        ('{"city": NaN}', "error: the arguments must be a JSON object"),
        (5, "error: the arguments must be a JSON object"),
        ([], "error: the arguments must be a JSON object"),
        (False, "error: the arguments must be a JSON object"),
        ("", "error: the arguments do not fit: missing a required argument: 'city'"),
        (None, "error: the arguments do not fit: missing a required argument: 'city'"),
        (
            '{"city": "a", "town": 1}',
            "error: the arguments do not fit: got an unexpected keyword argument 'town'",
        ),
    ],
)
def test_the_model_is_told_of_arguments_that_are_wrong(arguments: Any, said: str) -> None:
    assert told(arguments) == said


@pytest.mark.parametrize("name", ["wether", "", None, 5, ["weather"], {"weather": 1}])
def test_the_model_is_told_of_a_tool_that_does_not_exist(name: Any) -> None:
    assert told("{}", name=name) == "error: there is no such tool; the tools are: weather"


def test_arguments_may_be_of_any_name_and_a_function_of_any_kind() -> None:
    assert told('{"self": 1, "args": 2}', lambda **given: given) == '{"self": 1, "args": 2}'
    assert told('{"a": 1}', dict) == '{"a": 1}'
    assert told("{}", operator.attrgetter("x").__class__.__name__.upper) == "ATTRGETTER"


def changed(model: Model, old: str, new: str) -> Callable[..., ChatResponse]:
    """Return the chat of a model whose answers have another text in their JSON."""

    def chat(messages: Any, **options: Any) -> ChatResponse:
        answer = model.chat(messages, **options)
        answer.response._content = answer.response.content.replace(old.encode(), new.encode())
        return answer

    return chat


@pytest.mark.parametrize("given", ["null", '""', "0", "5", '["c0"]', '{"a": 1}'])
def test_a_call_without_an_id_that_can_be_sent_gets_one(given: str) -> None:
    model = Model([("weather", '{"city": "a"}')], "ok")
    chat = changed(model, '"c0"', given)
    _, messages = run_tools(chat, "x", {"weather": weather}, tools=[tool("weather")])
    (made,) = messages[1]["tool_calls"]
    assert made["id"].startswith("call_")
    assert messages[2]["tool_call_id"] == made["id"]


def test_calls_with_the_same_id_get_results_that_can_be_told_apart() -> None:
    model = Model([("weather", '{"city": "a"}'), ("weather", '{"city": "b"}')], "ok")
    chat = changed(model, '"c1"', '"c0"')
    _, messages = run_tools(chat, "x", {"weather": weather}, tools=[tool("weather")])
    first, second = (made["id"] for made in messages[1]["tool_calls"])
    assert first == "c0"
    assert second.startswith("call_")
    assert [each["tool_call_id"] for each in messages[2:4]] == [first, second]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize("arguments", ["", '{"city": "b"}'])
def test_the_call_in_which_an_answer_ended_is_not_made(reason: str, arguments: str) -> None:
    made: List[Any] = []
    model = Model([("look", '{"city": "a"}'), ("look", arguments)], "ok")
    chat = changed(model, '{"message"', f'{{"finish_reason": "{reason}", "message"')
    run_tools(chat, "x", {"look": lambda **given: made.append(given)}, tools=[tool("look")])
    assert made == [{"city": "a"}]
    assert model.asked[1][-1] == result(
        "c1", f"error: this call is not whole ({reason}), and was not made"
    )


def test_arguments_that_a_server_has_decoded_are_taken() -> None:
    model = Model([("weather", {"city": "größer"})], "ok")
    _, messages = run(model)
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == '{"city": "größer"}'
    assert json.loads(messages[2]["content"])["city"] == "größer"


def test_what_a_function_raises_is_raised() -> None:
    def broken() -> None:
        raise KeyError("rain")

    model = Model([("weather", "{}")], "never")
    with pytest.raises(KeyError) as caught:
        run(model, {"weather": broken})
    note = "raised by the function of the tool 'weather', in round 1"
    assert getattr(caught.value, "__notes__", None) == [note]
    assert len(model.asked) == 1


def test_a_type_error_in_a_function_is_no_mistake_of_the_model() -> None:
    model = Model([("weather", "{}")], "never")
    with pytest.raises(TypeError, match="unsupported operand"):
        run(model, {"weather": lambda: 1 + "1"})  # type: ignore[operator]


def test_a_result_that_json_cannot_carry_is_the_programs_mistake() -> None:
    with pytest.raises(ArkorUsageError, match=r"^the result of the tool 'weather' cannot"):
        told("{}", lambda: {"at": object()})


def test_the_rounds_are_bounded_and_the_conversation_can_go_on() -> None:
    endless = [("weather", '{"city": "Oslo"}')]
    model = Model(*[endless] * 3)
    with pytest.raises(ToolRoundsExhausted, match="still called tools in round 3") as caught:
        run(model, max_rounds=3)
    error = caught.value
    assert error.rounds == len(model.asked) == 3
    assert [each["role"] for each in error.messages] == ["user", *["assistant", "tool"] * 3]
    again = pickle.loads(pickle.dumps(error))
    assert (again.rounds, again.messages, str(again)) == (3, error.messages, str(error))
    answer, messages = run_tools(
        Model("At last").chat, error.messages, {"weather": weather}, tools=[tool("weather")]
    )
    assert answer.content() == "At last"
    assert messages[:-1] == error.messages


NOT_CONFIGURED = BadRequestError(400, "tool_calling_not_configured: no", "x")
NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_forced_choice_holds_for_the_first_round(choice: Any) -> None:
    calls = [("weather", '{"city": "Oslo"}')]
    model = Model(calls, calls, "ok")
    run(model, tool_choice=choice)
    assert [each["tool_choice"] for each in model.options] == [choice, "auto", "auto"]


def test_where_only_a_forced_choice_works_the_model_then_answers() -> None:
    model = Model([("weather", '{"city": "Oslo"}')], NOT_CONFIGURED, "ok")
    answer, _ = run(model, tool_choice="required")
    assert answer.content() == "ok"
    assert [each["tool_choice"] for each in model.options] == ["required", "auto", "none"]
    assert model.asked[1] == model.asked[2]


@pytest.mark.parametrize("choice", [None, "auto", "required"])
def test_a_refusal_of_the_first_request_is_raised(choice: Any) -> None:
    with pytest.raises(BadRequestError):
        run(Model(NOT_CONFIGURED), tool_choice=choice)


def test_another_refusal_is_raised() -> None:
    model = Model([("weather", '{"city": "Oslo"}')], BadRequestError(400, "messages: too long"))
    with pytest.raises(BadRequestError, match="too long"):
        run(model, tool_choice="required")


async def later() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"functions": {}}, "^functions: got an empty dict; give one for the tool 'weather' too"),
        ({"functions": [weather]}, "^functions: got a list of 1; give the function of each tool"),
        ({"functions": {"weather": "x"}}, "^functions: got a dict with 'weather'; give the func"),
        (
            {"functions": {"weather": later}},
            r"^functions\['weather'\]: got an async function; give a function that returns",
        ),
        (
            {"functions": {"weather": weather, "Time": weather}},
            "^tools: got definitions of weather; give a definition for the function str 'Time'",
        ),
        ({"tools": []}, "^tools: got an empty list; give the definitions of the tools"),
        ({"tools": [{"name": "weather"}]}, r"^tools\[0\]: got a dict with 'name'"),
        ({"max_rounds": 0}, "^max_rounds: got int 0; give a whole number above 0"),
        ({"max_rounds": True}, "^max_rounds: got bool True"),
        ({"messages": 5}, "^messages: got int 5; give a text such as 'Hello', or a list"),
        ({"messages": [{"role": "user"}]}, r"^messages\[0\]\.content: got None"),
        ({"chat": None}, "^chat: got None; give a function that chats, such as client.chat"),
    ],
)
def test_arguments_that_cannot_work(arguments: Any, match: str) -> None:
    model = Model("never")
    usual = {
        "messages": "Hello",
        "chat": model.chat,
        "functions": {"weather": weather},
        "tools": [tool("weather")],
    }
    with pytest.raises(ArkorUsageError, match=match):
        run_tools(**{**usual, **arguments})
    assert model.asked == []
