"""`chat`: talk to what a job trained, or to a base model. Runs on the caller's thread."""

from __future__ import annotations

import sys
from typing import Any, Dict, Mapping, Optional, Tuple

import click

from arkor_sync.cli.client import make_client
from arkor_sync.cli.command import command
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import root


@command(
    root,
    "chat",
    examples="""
    arkor-sync chat triage-v1
    arkor-sync chat triage-v1@50 "The app crashes when I log in"
    arkor-sync chat unsloth/gemma-4-E4B-it < question.txt
    arkor-sync chat triage-v1 --schema ticket.json --json "My invoice is wrong"
    """,
)
@click.argument("model", metavar="JOB[@STEP]|MODEL")
@click.argument("words", metavar="[PROMPT]", nargs=-1)
@click.option("--system", metavar="TEXT", help="The system message.")
@click.option("--temperature", type=float, help="From 0, the most likely words, to 2.")
@click.option("--top-p", type=float, help="From 0 to 1.")
@click.option("--max-tokens", type=int, help="The longest answer, in tokens.")
@click.option(
    "--schema", metavar="FILE", type=click.Path(), help="A JSON schema; the answer is JSON for it."
)
def chat(
    output: Output,
    model: str,
    words: Tuple[str, ...],
    system: Optional[str],
    schema: Optional[str],
    **options: Any,
) -> None:
    """Talk to what a job trained, or to a base model.

    JOB is the id or the name of a job, for its final model; JOB@STEP is one of its checkpoints, and
    MODEL the name of a base model. Only digits behind the last @ are a step.

    With a PROMPT, or with one on standard input, the answer is printed. In a terminal without a
    PROMPT a conversation begins, where /help shows the commands: /system, /compare, /retry, /undo,
    /reset and /quit. Ctrl-C stops an answer. Ctrl-D ends the conversation with 0, and Ctrl-C
    instead of two questions with 130. What was said is not stored.

    With --json it prints one object: target, answer, finish_reason and usage.
    """
    from arkor_sync.cli.chat_answer import Answer, write_answer
    from arkor_sync.cli.chat_target import find_target
    from arkor_sync.cli.conversation import Conversation

    _check(options)
    if len(words) > 1:
        import shlex

        whole = shlex.quote(" ".join(words))
        raise click.UsageError(f"put the question in quotes: `arkor-sync chat {model} {whole}`")
    prompt = words[0] if words else None
    if schema is not None:
        options["response_format"] = _read_schema(schema)
    talks = prompt is None and sys.stdin.isatty()
    if talks and not output.is_terminal:
        raise click.UsageError(
            "no PROMPT: give one, or write it to standard input; a conversation needs a terminal, "
            "and no --json"
        )
    question = "" if talks else _checked_prompt(prompt)
    client = make_client()
    target = find_target(client, model, output)
    if talks:
        from arkor_sync.cli.chat_screen import ChatScreen

        ChatScreen(output, client, target, system, options).run()
        return
    answer = Answer(client, target, Conversation(system).messages(question), options)
    if output.as_json:
        output.json({"target": target.body, **answer.whole()})
        return
    write_answer(output, answer)
    for note in answer.notes():
        output.note(note)
    if answer.error is not None:
        raise answer.error


def _check(options: Mapping[str, Any]) -> None:
    from arkor_sync._common.arguments import check, is_number

    for name, most in (("temperature", 2), ("top_p", 1)):
        value = options[name]
        fits = value is None or (is_number(value) and 0 <= value <= most)
        check(f"--{name.replace('_', '-')}", value, fits, f"a number from 0 to {most}")
    tokens = options["max_tokens"]
    check("--max-tokens", tokens, tokens is None or tokens > 0, "a whole number from 1")


def _checked_prompt(prompt: Optional[str]) -> str:
    from arkor_sync._common.arguments import check

    if prompt is None:
        try:
            prompt = sys.stdin.read().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise click.UsageError(f"standard input is no text in {error.encoding}") from None
    check("PROMPT", prompt, bool(prompt.strip()), "a text, or write it to standard input")
    return prompt


def _read_schema(path: str) -> Dict[str, Any]:
    from pathlib import Path

    from arkor_sync._common.files import read_text
    from arkor_sync._common.json import parse_json
    from arkor_sync._common.paths import reason_of

    try:
        schema = parse_json(read_text(Path(path)))
    except OSError as error:
        raise click.UsageError(f"--schema: {path} cannot be read: {reason_of(error)}") from None
    except ValueError as error:
        raise click.UsageError(f"--schema: {path} holds no JSON: {error}") from None
    if not isinstance(schema, dict):
        raise click.UsageError(f"--schema: {path} holds no JSON object; give a JSON schema")
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
