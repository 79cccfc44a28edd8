"""Chats until the model has an answer, and makes its tool calls. Runs on the caller's thread."""

from __future__ import annotations

import inspect
import json
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, NamedTuple, Sequence, Set, Union

from arkor_sync._common.arguments import check, did_you_mean, refusal, show
from arkor_sync._common.json import json_copy, parse_json
from arkor_sync.cloud.chat import ChatResponse
from arkor_sync.cloud.chat_request import check_tools, checked_messages, name_of_tool
from arkor_sync.errors import BadRequestError, ToolRoundsExhausted, add_note

if TYPE_CHECKING:
    from arkor_sync.cloud.chat_types import ChatMessage, ToolCall, ToolDefinition
    from arkor_sync.cloud.training_data import Prompt

_NOT_CONFIGURED = "tool_calling_not_configured"
_CUT = ("length", "content_filter")  # why an answer ends in the middle of its last call


class ToolConversation(NamedTuple):
    """What `run_tools` returns.

    Attributes:
        answer: The answer that ended it, read whole.
        messages: The conversation: what was given, the model's calls, their results, the answer.
    """

    answer: ChatResponse
    messages: List[ChatMessage]


def run_tools(
    chat: Callable[..., ChatResponse],
    messages: Prompt,
    functions: Mapping[str, Callable[..., Any]],
    *,
    tools: Sequence[Union[ToolDefinition, Mapping[str, Any]]],
    tool_choice: Union[str, Mapping[str, Any], None] = None,
    max_rounds: int = 8,
    **options: Any,
) -> ToolConversation:
    """Chat until the model has an answer, and make the calls of tools that it asks for.

    A round is one request, and the calls that its answer asks for, one after the other on this
    thread. A function gets the arguments of the call as keyword arguments. The result goes to the
    model: a text as it is, anything else as JSON.

    Mistakes of the model are told to the model, which may do better in the next round: a tool that
    does not exist, arguments that are no JSON object, or that the function does not take, and a
    call that is not whole, because the answer ended at `max_tokens` or at a filter. What a function
    raises is raised here; a function that wants to tell the model of a failure returns a text.

    Args:
        chat: What sends a request: `client.chat`, `ctx.infer` of a checkpoint, `infer` of a run or
            a result, or `ChatEndpoint.chat`. To show an answer while it comes, give a function that
            calls one of them, iterates over the answer, and returns it.
        messages: As for `chat`. The list is not changed.
        functions: The function of each tool, by the tool's name.
        tools: The definitions of these tools, as for `chat`.
        tool_choice: As for `chat`. A choice that forces a call holds for the first round only.
        max_rounds: After so many rounds without an answer, `ToolRoundsExhausted` is raised.
        options: All other arguments of `chat`: `job=`, `temperature=` and so on.

    Raises:
        ArkorUsageError: An argument cannot work, or what a function returned cannot be JSON.
        ToolRoundsExhausted: There is no answer; its `messages` are the conversation so far.
        CloudApiError: As for `chat`.
        ArkorConnectionError: As for `chat`, also for an answer that was cut: no call of it is made.
    """
    check("chat", chat, callable(chat), "a function that chats, such as client.chat")
    _check_functions(functions, tools)
    fits = type(max_rounds) is int and max_rounds > 0
    check("max_rounds", max_rounds, fits, "a whole number above 0")
    ask = partial(chat, tools=tools, **options)
    forced = tool_choice == "required" or isinstance(tool_choice, Mapping)
    conversation: List[Any] = list(checked_messages(messages))
    for number in range(1, max_rounds + 1):
        try:
            answer = ask(list(conversation), tool_choice=tool_choice)
        except BadRequestError as error:
            # Where a server does not look for calls in a text, only a forced choice works.
            if number == 1 or not forced or _NOT_CONFIGURED not in f"{error.code} {error.message}":
                raise
            answer = ask(list(conversation), tool_choice="none")
        message = answer.message()
        conversation.append(message)
        if not message.get("tool_calls"):
            return ToolConversation(answer, conversation)
        calls = message["tool_calls"]
        _give_ids(calls)
        for call in calls:
            if call is calls[-1] and answer.finish_reason in _CUT:
                content = (
                    f"error: this call is not whole ({answer.finish_reason}), and was not made"
                )
            else:
                content = _result_of(call, functions, number)
            conversation.append({"role": "tool", "tool_call_id": call["id"], "content": content})
        if forced:
            tool_choice = "auto"
    raise ToolRoundsExhausted(max_rounds, conversation)


def _check_functions(functions: Any, tools: Any) -> None:
    fits = isinstance(functions, Mapping) and all(map(callable, functions.values()))
    check("functions", functions, fits, "the function of each tool: {'weather': weather}")
    check("tools", tools, bool(tools), "the definitions of the tools, at least one")
    check_tools(tools)
    names = [name_of_tool(tool) for tool in tools]
    for name in names:
        if name not in functions:
            raise refusal("functions", functions, f"one for the tool {name!r} too")
    for name, function in functions.items():
        if name not in names:
            meant = did_you_mean(name, names)
            wanted = f"a definition for the function {show(name)} too{meant}"
            raise refusal("tools", tools, wanted, got=f"definitions of {', '.join(names)}")
        if inspect.iscoroutinefunction(function):
            wanted = "a function that returns its result"
            raise refusal(f"functions[{name!r}]", function, wanted, got="an async function")


def _give_ids(calls: List[ToolCall]) -> None:
    """Give each call an id of its own: some servers give none, or a number, or one to them all."""
    given: Set[str] = set()
    for call in calls:
        if not isinstance(call.get("id"), str) or call["id"] in ("", *given):
            call["id"] = f"call_{uuid.uuid4().hex[:12]}"
        given.add(call["id"])


def _result_of(call: ToolCall, functions: Mapping[str, Callable[..., Any]], number: int) -> str:
    """Make a call, and return its result or the model's mistake, as a text for the model."""
    name, function_call = name_of_tool(call), call.get("function")
    function = functions.get(name) if isinstance(name, str) else None
    if function is None or not isinstance(function_call, Mapping):
        return f"error: there is no such tool; the tools are: {', '.join(functions)}"
    given = function_call.get("arguments")
    try:
        arguments = parse_json("{}" if given in (None, "") else given)
    except (ValueError, TypeError, AttributeError):
        arguments = None
    if not isinstance(arguments, dict):
        return "error: the arguments must be a JSON object"
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        return f"error: the arguments do not fit: {error}"
    except ValueError:
        pass  # a function written in C may not tell its arguments
    try:
        result = function(**arguments)
    except Exception as error:
        add_note(error, f"raised by the function of the tool {name!r}, in round {number}")
        raise
    if isinstance(result, str):
        return result
    return json.dumps(json_copy(result, f"the result of the tool {name!r}"), ensure_ascii=False)
