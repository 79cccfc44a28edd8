"""`chat` with one question: what it prints, which model it asks, and how it ends."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Dict

import pytest

from arkor_sync.cli.chat_target import find_checkpoints, split_step
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.command_line import CommandLine

MODEL = "unsloth/gemma-4-E4B-it"
SCHEMA = {
    "type": "object",
    "properties": {"urgent": {"type": "boolean"}},
    "required": ["urgent"],
    "additionalProperties": False,
}


def ended(emulator: Emulator, name: str = "triage", **script: Any) -> str:
    """Return the id of a job that has ended."""
    script = {"steps": 20, "checkpoints": (10, 20), **script}
    job_id = emulator.create_job(ScriptedEngine(**script), name=name)
    emulator.wait_for(lambda: emulator.jobs[job_id].terminal)
    return job_id


def asked(emulator: Emulator) -> Dict[str, Any]:
    """Return the body of the one chat request."""
    (request,) = [each for each in emulator.requests if each.route == "chat"]
    return dict(request.body)


# Which model.


@pytest.mark.parametrize(
    ("text", "job", "step"),
    [
        ("triage", "triage", None),
        ("triage@50", "triage", 50),
        ("triage@v2", "triage@v2", None),
        ("triage@v2@50", "triage@v2", 50),
        ("triage@50@", "triage@50@", None),
        ("@50", "@50", None),
        ("a/job@7", "a/job", 7),
        ("triage@٣", "triage@٣", None),
        ("triage@-1", "triage@-1", None),
        ("two\nlines@3", "two\nlines", 3),
    ],
)
def test_only_digits_behind_the_last_at_sign_are_a_step(text: str, job: str, step: Any) -> None:
    assert split_step(text) == (job, step)


def test_a_job_is_named_by_its_name_or_its_id(cli: CommandLine, emulator: Emulator) -> None:
    job_id = ended(emulator)
    for name in ("triage", job_id):
        assert cli("chat", name, "Hello").stdout == "[triage @ final] Hello\n"


def test_a_checkpoint_is_named_by_its_step(cli: CommandLine, emulator: Emulator) -> None:
    ended(emulator, "triage@v2")
    assert cli("chat", "triage@v2@10", "Hello").stdout == "[triage@v2 @ 10] Hello\n"


def test_a_base_model_is_named_by_its_name(cli: CommandLine, emulator: Emulator) -> None:
    done = cli("chat", MODEL, "Hello", "--json", "--temperature", "0")
    assert asked(emulator)["baseModel"] == MODEL
    assert done.json["target"] == {"baseModel": MODEL}


def test_a_base_model_has_no_checkpoints(cli: CommandLine) -> None:
    refused = cli("chat", f"{MODEL}@5", "Hello", code=2)
    assert "is a base model, which has no checkpoints" in refused.stderr


def test_a_name_that_nothing_has_is_refused_with_what_there_is(cli: CommandLine) -> None:
    refused = cli("chat", "unsloth/gemma-4-e4b-it", "Hello", code=2)
    assert refused.stdout == ""
    assert "no job of this project has the id or the name" in refused.stderr
    assert MODEL in refused.stderr


def test_a_job_that_failed_is_refused_with_its_checkpoints(
    cli: CommandLine, emulator: Emulator
) -> None:
    ended(emulator, fails_at=15)
    refused = cli("chat", "triage", "Hello", code=2)
    assert "the job 'triage' (failed) has no final model" in refused.stderr
    assert "its checkpoints: triage@10" in refused.stderr
    assert emulator.jobs  # nothing was asked of a model
    assert [each for each in emulator.requests if each.route == "chat"] == []


def test_of_several_jobs_the_newest_with_a_final_model_is_taken(
    cli: CommandLine, emulator: Emulator
) -> None:
    ended(emulator)
    taken = ended(emulator)
    ended(emulator, fails_at=15)
    newest = ended(emulator, fails_at=5)
    done = cli("chat", "triage", "Hello")
    assert done.stdout == "[triage @ final] Hello\n"
    assert asked(emulator)["adapter"] == {"kind": "final", "jobId": taken}
    assert f"the newest first: {newest} (failed), " in done.stderr
    assert f"; taking {taken}, the newest that has a final model\n" in done.stderr
    with_step = cli("chat", "triage@10", "Hello", code=2)
    assert "; taking the newest\n" in with_step.stderr


def test_the_checkpoints_of_a_running_job_are_known(cli: CommandLine, emulator: Emulator) -> None:
    engine = ScriptedEngine(steps=20, checkpoints=(2, 4), silent_at=5)
    job_id = emulator.create_job(engine, name="triage")
    emulator.wait_for(lambda: emulator.jobs[job_id].step == 5)
    refused = cli("chat", "triage", "Hello", code=2)
    assert "(running) has no final model; its checkpoints: triage@2, triage@4" in refused.stderr
    assert cli("chat", "triage@4", "Hello").stdout == "[triage @ 4] Hello\n"


def test_checkpoints_that_cannot_be_read_are_not_taken_for_none(emulator: Emulator) -> None:
    job_id = ended(emulator)
    emulator.faults.add(Fault("status", route="stream", status=403, count=1))
    client = emulator.client()
    assert find_checkpoints(client, job_id) is None
    assert find_checkpoints(client, job_id) == [10, 20]
    assert find_checkpoints(client, ended(emulator, checkpoints=())) == []


def test_a_checkpoint_that_does_not_exist_is_refused_with_those_that_do(
    cli: CommandLine, emulator: Emulator
) -> None:
    ended(emulator)
    refused = cli("chat", "triage@15", "Hello", code=2)
    assert "the job 'triage' has no checkpoint at step 15" in refused.stderr
    assert "its checkpoints: triage@10, triage@20" in refused.stderr
    assert cli("chat", "triage@15", "Hello", "--json", code=2).stdout == ""


# What is asked, and what is printed.


def test_the_prompt_may_come_on_standard_input(cli: CommandLine, emulator: Emulator) -> None:
    ended(emulator, reply=lambda chat, job, step: chat.prompt)
    done = cli("chat", "triage", stdin="  two\nlines of it\n\n")
    assert done.stdout == "  two\nlines of it\n"


def test_the_options_are_sent(cli: CommandLine, emulator: Emulator) -> None:
    ended(emulator)
    options = ("--temperature", "0.5", "--top-p", "0.9", "--max-tokens", "7", "--system", "Be kind")
    done = cli("chat", "triage", "Hello", *options)
    assert done.stdout == "[triage\n"  # so many characters are the emulator's tokens
    assert "the answer was cut at the limit of tokens" in done.stderr
    sent = asked(emulator)
    assert (sent["temperature"], sent["topP"], sent["maxTokens"]) == (0.5, 0.9, 7)
    assert sent["messages"] == [
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": "Hello"},
    ]


def test_an_answer_as_json(cli: CommandLine, emulator: Emulator) -> None:
    job_id = ended(emulator, reply="\x1b]0;owned\x07é")
    done = cli("chat", "triage@10", "Hello", "--json")
    assert done.json == {
        "target": {"adapter": {"kind": "checkpoint", "jobId": job_id, "step": 10}},
        "answer": "\x1b]0;owned\x07é",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 5, "completion_tokens": 11, "total_tokens": 16},
    }
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout


def test_a_schema_is_sent(cli: CommandLine, tmp_path: Path, emulator: Emulator) -> None:
    ended(emulator)
    path = tmp_path / "ticket.json"
    path.write_text(json.dumps(SCHEMA))
    cli("chat", "triage", "Is it urgent?", "--schema", str(path))
    assert asked(emulator)["responseFormat"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA},
    }


def test_what_was_really_trained_answers(cli: CommandLine, emulator: Emulator) -> None:
    job_id = emulator.create_job(config={"maxSteps": 10, "saveSteps": {"steps": 5}}, name="triage")
    emulator.wait_for(lambda: emulator.jobs[job_id].terminal)
    assert cli("chat", "triage@5", "My invoice is wrong").stdout.strip()
    (cli.cwd / "ticket.json").write_text(json.dumps(SCHEMA))
    done = cli("chat", "triage", "My invoice is wrong", "--schema", "ticket.json")
    assert list(done.json) == ["urgent"]


def test_an_answer_never_acts_on_its_reader_however_it_is_cut(
    cli: CommandLine, emulator: Emulator
) -> None:
    pieces = [
        "safe \x1b",
        "]0;ow",
        "ned\x07",
        "te",
        "xt\x1b",
        "[2",
        "J\x9b",
        "31",
        "m \u202e!",
        "\x1b",
    ]
    ended(emulator, reply=lambda chat, job, step: iter(pieces))
    assert cli("chat", "triage", "Hello").stdout == "safe text !\n"


def test_the_pieces_of_an_answer_are_printed_as_they_come(
    cli: CommandLine, emulator: Emulator
) -> None:
    ended(emulator)
    emulator.faults.add(Fault("blackhole", route="chat", index=3))
    running = cli.start("chat", "triage", "Hello to you")
    assert running.stdout is not None
    assert running.stdout.read(len("[triage @ ")) == "[triage @ "
    running.send_signal(signal.SIGINT)
    rest, stderr = running.communicate()
    assert running.returncode == 130
    assert rest == "\n"
    assert "Traceback" not in stderr


def test_an_empty_answer_is_told(cli: CommandLine, emulator: Emulator) -> None:
    ended(emulator, reply="")
    done = cli("chat", "triage", "Hello")
    assert (done.stdout, done.stderr) == ("", "the answer is empty\n")


# Errors.


def test_what_came_before_an_error_is_kept(cli: CommandLine, emulator: Emulator) -> None:
    ended(emulator)
    emulator.faults.add(Fault("cut_clean", route="chat", index=3))
    done = cli("chat", "triage", "Hello", code=6)
    assert done.stdout == "[triage @ \n"
    assert "the answer above is not complete" in done.stderr
    assert "the streamed answer was cut before its end" in done.stderr


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
def test_a_cloud_that_refuses_is_told(cli: CommandLine, emulator: Emulator, as_json: Any) -> None:
    ended(emulator)
    emulator.faults.add(Fault("status", route="chat", status=503, value="no\x1b[31m room"))
    done = cli("chat", "triage", "Hello", *as_json, code=6)
    assert done.stdout == ""
    assert "no room" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "nan"], "--temperature: got float nan; give a number from 0 to 2"),
        (["--top-p", "-1"], "--top-p: got float -1.0; give a number from 0 to 1"),
        (["--max-tokens", "0"], "--max-tokens: got int 0; give a whole number from 1"),
        (["--schema", "missing.json"], "--schema: missing.json cannot be read: No such file"),
        (["--schema", "bad.json"], "--schema: bad.json holds no JSON:"),
        (["--schema", "list.json"], "--schema: list.json holds no JSON object"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_cannot_work_is_refused_before_anything_is_sent(
    cli: CommandLine, emulator: Emulator, arguments: Any, words: str
) -> None:
    (cli.cwd / "bad.json").write_text("{")
    (cli.cwd / "list.json").write_text("[]")
    refused = cli("chat", "triage", "Hello", *arguments, code=2)
    assert refused.stdout == ""
    assert words in refused.stderr
    assert emulator.requests == []


@pytest.mark.parametrize("prompt", ["", " \n"], ids=["nothing", "blanks"])
def test_a_prompt_that_is_empty_is_refused(
    cli: CommandLine, emulator: Emulator, prompt: str
) -> None:
    for refused in (cli("chat", "x", stdin=prompt, code=2), cli("chat", "x", prompt, code=2)):
        assert "give a text, or write it to standard input" in refused.stderr
    assert emulator.requests == []


def test_a_prompt_without_quotes_is_told_them(cli: CommandLine, emulator: Emulator) -> None:
    refused = cli("chat", "triage", "Where", "is", "my parcel", "--json", code=2)
    said = "put the question in quotes: `arkor-sync chat triage 'Where is my parcel'`"
    assert said in refused.stderr
    assert emulator.requests == []


def test_who_is_not_signed_in_is_told(nobody: CommandLine, emulator: Emulator) -> None:
    nobody.variables.update(emulator.environment(), ARKOR_TOKEN="wrong")
    assert nobody("chat", "triage", "Hello", code=4).stdout == ""
