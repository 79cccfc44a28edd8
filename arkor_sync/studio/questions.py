"""What a page asks of a model, as arguments of `client.chat` and as a program. Pure."""

from __future__ import annotations

import math
from pprint import pformat
from typing import Any, Dict, Mapping

from arkor_sync._common.arguments import check
from arkor_sync.cloud.chat_request import build_chat_body

_KEYS = ("model", "messages", "temperature", "top_p", "max_tokens", "schema", "tools")
_WIDTH = 88


def question_of(body: Any) -> Dict[str, Any]:
    """Return the arguments of `client.chat` for what a page has sent.

    Args:
        body: A decoded JSON object: `model` is `{"base": NAME}` or `{"job": ID, "step": NUMBER}`,
            `messages` the conversation; the others may be left out.

    Raises:
        ArkorUsageError: The question cannot be asked.
    """
    check("the question", body, isinstance(body, dict), "a JSON object")
    unknown = sorted(set(body) - set(_KEYS))
    check("the question", unknown, not unknown, f"no other keys than {', '.join(_KEYS)}")
    given = {key: value for key, value in body.items() if value is not None}
    question: Dict[str, Any] = {"messages": given.get("messages"), **_model(given.get("model"))}
    for name, most in (("temperature", 2), ("top_p", 1)):
        if name in given:
            fits = _is_number(given[name]) and 0 <= given[name] <= most
            check(name, given[name], fits, f"a number from 0 to {most}")
            question[name] = given[name]
    if "max_tokens" in given:
        tokens = given["max_tokens"]
        check("max_tokens", tokens, type(tokens) is int and tokens > 0, "a whole number from 1")
        question["max_tokens"] = tokens
    if "tools" in given:
        question["tools"] = given["tools"]
    if "schema" in given:
        schema = given["schema"]
        check("schema", schema, isinstance(schema, dict), "a JSON schema as an object")
        named = {"name": "answer", "schema": schema}
        question["response_format"] = {"type": "json_schema", "json_schema": named}
    build_chat_body(**question)
    return question


def as_python(question: Mapping[str, Any]) -> str:
    """Return a program that asks the same and prints the answer as it comes.

    Args:
        question: Arguments of `client.chat`.
    """
    arguments = "".join(
        f"    {name}={_literal(value)},\n" for name, value in question.items() if value is not None
    )
    calls = "\nfor call in answer.tool_calls():\n    print(call)\n" if "tools" in question else ""
    return (
        "from arkor_sync import CloudApiClient\n\n"
        "answer = CloudApiClient().chat(\n"
        f"{arguments})\n"
        "for piece in answer:\n"
        '    print(piece, end="", flush=True)\n'
        f"print()\n{calls}"
    )


def _model(model: Any) -> Dict[str, Any]:
    model = model if isinstance(model, dict) else {}
    if isinstance(model.get("base"), str) and model["base"]:
        return {"base_model": model["base"]}
    job, step = model.get("job"), model.get("step")
    wanted = "{'base': the name of a model} or {'job': the id of a job, 'step': a number or null}"
    check("model", model, isinstance(job, str) and bool(job), wanted)
    return {"job": job, "step": step}


def _literal(value: Any) -> str:
    text = pformat(value, width=_WIDTH, sort_dicts=False)
    return text.replace("\n", "\n    ")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
