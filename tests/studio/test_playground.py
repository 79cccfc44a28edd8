"""The playground without a browser: what is asked, how the answer comes, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any, Dict, Iterator, List

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.studio import answers
from arkor_sync.studio.pages.playground import MOST_ANSWERS
from arkor_sync.studio.questions import as_python, question_of
from support.waiting import until

BASE = "unsloth/gemma-4-E4B-it"
HOSTILE = "<script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}\x1b[2J\"'&"
SCHEMA = {"type": "object", "properties": {"urgent": {"type": "boolean"}}}
TOOL = {"type": "function", "function": {"name": "stock", "parameters": {"type": "object"}}}


def ended(emulator: Emulator, name: str = "triage", **script: Any) -> str:
    """Return the id of a job that has ended, with checkpoints at the steps 10 and 20."""
    script = {"steps": 20, "checkpoints": (10, 20), **script}
    job_id = emulator.create_job(ScriptedEngine(**script), name=name)
    emulator.wait_for(lambda: emulator.jobs[job_id].terminal)
    return job_id


def asking(**more: Any) -> Dict[str, Any]:
    return {"model": {"base": BASE}, "messages": [{"role": "user", "content": "Hello"}], **more}


def post(web: Any, path: str, body: Any, **more: Any) -> Any:
    """Send a body as the page's script does."""
    web.get("/playground")
    token = web.get_cookie("arkor_studio_form").value
    return web.post(path, json=body, headers={"X-Arkor-Form": token}, **more)


def lines_of(response: Any) -> List[Dict[str, Any]]:
    assert response.status_code == 200
    return [json.loads(line) for line in response.data.splitlines() if line]


def text_of(lines: List[Dict[str, Any]]) -> str:
    return "".join(line.get("text", "") for line in lines)


def threads() -> List[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "arkor-studio-chat"]


def asked(emulator: Emulator) -> List[Dict[str, Any]]:
    return [dict(each.body) for each in emulator.requests if each.route == "chat"]


# The pages.


def test_the_page_offers_base_models_and_jobs_but_no_job_that_waits(
    web: Any, emulator: Emulator
) -> None:
    ended(emulator, "first one")
    waiting = emulator.create_job(ScriptedEngine(manual=True), name="waiting one")
    assert emulator.jobs[waiting].status == "queued"
    page = web.get("/playground").text
    assert f'value="base:{BASE}"' in page
    assert "first one · completed" in page
    assert "waiting one" not in page


def test_the_address_chooses_a_model(web: Any, emulator: Emulator) -> None:
    job_id = ended(emulator)
    page = web.get(f"/playground?job={job_id}&step=10").text
    assert f'data-chosen="job:{job_id}" data-step="10"' in page
    assert f'data-chosen="base:{BASE}"' in web.get(f"/playground?base={BASE}").text
    assert 'data-chosen=""' in web.get("/playground?base=other").text
    assert web.get("/playground?job=missing").status_code == 404


def test_without_the_list_of_jobs_base_models_are_left(web: Any, emulator: Emulator) -> None:
    emulator.faults.add(Fault("status", route="list_jobs", status=500, value=HOSTILE))
    page = web.get("/playground").text
    assert "The jobs cannot be listed, so only base models can be chosen" in page
    assert f'value="base:{BASE}"' in page
    assert "<script>alert" not in page


def test_a_name_is_no_markup(web: Any, emulator: Emulator) -> None:
    job_id = ended(emulator, name=HOSTILE)
    for path in ("/playground", "/prompts", f"/prompts?job={job_id}"):
        page = web.get(path).text
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page


def test_what_a_job_has_trained_is_listed(web: Any, emulator: Emulator) -> None:
    job_id = ended(emulator)
    found = web.get(f"/playground/models?job={job_id}").json
    assert found == {
        "id": job_id,
        "name": "triage",
        "base": BASE,
        "final": True,
        "steps": [10, 20],
    }
    failed = ended(emulator, fails_at=15)
    found = web.get(f"/playground/models?job={failed}").json
    assert (found["final"], found["steps"]) == (False, [10])
    missing = web.get("/playground/models?job=x", headers={"Accept": "application/json"})
    assert missing.status_code == 404
    assert "error" in missing.json


# An answer.


def test_an_answer_comes_in_pieces_with_its_facts_at_the_end(web: Any, emulator: Emulator) -> None:
    job_id = ended(emulator)
    body = asking(
        model={"job": job_id, "step": 10},
        temperature=0.5,
        top_p=1,
        max_tokens=200,
        messages=[
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello to you"},
        ],
    )
    response = post(web, "/chat", body)
    assert response.mimetype == "application/jsonl"
    *pieces, last = lines_of(response)
    assert len(pieces) > 3
    assert all(list(piece) == ["text"] and piece["text"] for piece in pieces)
    assert text_of(pieces) == "[triage @ 10] Hello to you"
    end = last["end"]
    assert (end["reason"], end["calls"], end["pieces"]) == ("stop", [], len(pieces))
    assert end["tokens"] == len("[triage @ 10] Hello to you")
    assert end["seconds"] >= 0
    (sent,) = asked(emulator)
    assert sent["adapter"] == {"kind": "checkpoint", "jobId": job_id, "step": 10}
    assert sent["messages"] == body["messages"]
    assert [sent[key] for key in ("temperature", "topP", "maxTokens")] == [0.5, 1, 200]


def test_a_piece_is_sent_on_before_the_next_has_come(web: Any, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(reply="one two three")
    emulator.faults.add(Fault("blackhole", route="chat", index=2))
    response = post(web, "/chat", asking(), buffered=False)
    lines = response.iter_encoded()
    assert json.loads(next(line for line in lines if line.strip())) == {"text": "one "}
    response.close()
    until(lambda: not threads())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_characters_of_several_bytes_stay_whole(web: Any, emulator: Emulator, size: int) -> None:
    emulator.engine = ScriptedEngine(reply="naïve 日本語 😀 ок")
    emulator.faults.add(Fault("slice", route="chat", size=size))
    assert text_of(lines_of(post(web, "/chat", asking()))) == "naïve 日本語 😀 ок"


def test_half_of_a_surrogate_pair_breaks_no_line(web: Any, emulator: Emulator) -> None:
    chunk = r'{"choices": [{"index": 0, "delta": {"content": "\ud83d"}}]}'
    emulator.engine = ScriptedEngine(reply="one two")
    emulator.faults.add(Fault("garbage", route="chat", index=2, value=chunk, replace=True))
    assert text_of(lines_of(post(web, "/chat", asking()))) == "\ud83dtwo"


def test_an_answer_is_no_page(web: Any, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(reply=HOSTILE)
    response = post(web, "/chat", asking())
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert text_of(lines_of(response)) == HOSTILE


def test_calls_of_tools_come_at_the_end(web: Any, emulator: Emulator) -> None:
    function = {"name": "stock", "arguments": '{"item": "tea"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    emulator.settings.tool_calling = True
    emulator.engine = ScriptedEngine(reply=call)
    (last,) = lines_of(post(web, "/chat", asking(tools=[TOOL])))
    assert last["end"]["calls"] == [call]
    assert last["end"]["reason"] == "tool_calls"
    assert asked(emulator)[0]["tools"] == [TOOL]


def test_a_schema_is_asked_for(web: Any, emulator: Emulator) -> None:
    assert "urgent" in json.loads(text_of(lines_of(post(web, "/chat", asking(schema=SCHEMA)))))
    (sent,) = asked(emulator)
    assert sent["responseFormat"]["json_schema"]["schema"] == SCHEMA


# Errors.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {}}, "model: got"),
        ({"model": {"job": 3}}, "model: got"),
        ({"model": {"job": "x", "step": "3"}}, "step: got str '3'"),
        ({"messages": []}, "messages: got"),
        ({"messages": [{"role": "villain", "content": "x"}]}, "messages[0].role"),
        ({"temperature": 2.5}, "temperature: got float 2.5; give a number from 0 to 2"),
        ({"temperature": True}, "temperature: got bool True"),
        ({"top_p": "1"}, "top_p: got str '1'"),
        ({"max_tokens": 0}, "max_tokens: got int 0; give a whole number from 1"),
        ({"max_tokens": 1.5}, "max_tokens: got float 1.5"),
        ({"schema": []}, "schema: got an empty list; give a JSON schema as an object"),
        ({"tools": {}}, "tools: got an empty dict"),
        ({"tools": [{"type": "function"}]}, "tools[0]: got"),
        ({"stream": False}, "no other keys than"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_question_that_cannot_work_is_refused_before_it_is_sent(
    web: Any, emulator: Emulator, change: Dict[str, Any], words: str
) -> None:
    for path in ("/chat", "/playground/python"):
        refused = post(web, path, asking(**change))
        assert refused.status_code == 400
        assert words in refused.json["error"]
    assert asked(emulator) == []


def test_a_body_that_is_no_question_is_refused(web: Any, emulator: Emulator) -> None:
    assert post(web, "/chat", [1]).status_code == 400
    assert post(web, "/chat", {"messages": "x" * (1 << 20)}).status_code == 413
    assert web.post("/chat", json=asking()).status_code == 403
    assert asked(emulator) == []


def test_what_came_before_an_error_is_there(web: Any, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(reply="one two three")
    emulator.faults.add(Fault("cut_clean", route="chat", index=3))
    *pieces, last = lines_of(post(web, "/chat", asking()))
    assert text_of(pieces) == "one two "
    assert last == {"error": "the streamed answer was cut before its end"}


def test_an_error_of_the_cloud_is_a_line(web: Any, emulator: Emulator) -> None:
    emulator.faults.add(Fault("status", route="chat", status=503, value="no room"))
    (line,) = lines_of(post(web, "/chat", asking()))
    assert "no room" in line["error"]
    job_id = ended(emulator)
    (line,) = lines_of(post(web, "/chat", asking(model={"job": job_id, "step": 11})))
    assert "no checkpoint at step 11" in line["error"]


def test_a_fault_of_our_own_is_told_without_its_text(
    web: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(answers.LiveAnswer, "_ask", fail)
    assert lines_of(post(web, "/chat", asking())) == [
        {"error": "the server has failed; its log says why"}
    ]
    assert "could not be read" in caplog.text


# Stopping, and bounds.


def test_a_browser_that_goes_away_ends_the_request_to_the_cloud(
    web: Any, emulator: Emulator
) -> None:
    gone = threading.Event()

    def endless() -> Iterator[str]:
        try:
            while not gone.wait(0.01):
                yield "word "  # up to the limit of tokens, which is minutes away
        finally:
            gone.set()

    emulator.engine = ScriptedEngine(reply=lambda chat, job, step: endless())
    response = post(web, "/chat", asking(max_tokens=131_072), buffered=False)
    lines = response.iter_encoded()
    assert any(line.strip() for line in lines)
    response.close()
    until(gone.is_set)
    until(lambda: not threads())


@pytest.mark.parametrize(
    "fault",
    [Fault("stall_before_headers", route="chat"), Fault("blackhole", route="chat", index=1)],
    ids=lambda fault: fault.kind,
)
def test_a_silent_cloud_holds_nothing_of_a_browser_that_has_gone(
    web: Any, emulator: Emulator, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "BEAT", 0.01)
    emulator.faults.add(fault)
    response = post(web, "/chat", asking(), buffered=False)
    assert next(response.iter_encoded()) == b"\n"  # by which a server sees who has gone
    until(lambda: asked(emulator))
    response.close()
    until(lambda: not threads())


def test_no_more_answers_are_written_at_once_than_the_server_can_bear(
    web: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "BEAT", 0.01)
    emulator.faults.add(Fault("stall_before_headers", route="chat", count=MOST_ANSWERS))
    open_ones = [post(web, "/chat", asking(), buffered=False) for _ in range(MOST_ANSWERS)]
    assert [next(each.iter_encoded()) for each in open_ones] == [b"\n"] * MOST_ANSWERS
    until(lambda: len(asked(emulator)) == MOST_ANSWERS)
    refused = post(web, "/chat", asking())
    assert refused.status_code == 429
    assert refused.json["error"] == (
        "4 answers are being written at the moment; wait for one, or stop it"
    )
    open_ones.pop().close()
    assert lines_of(post(web, "/chat", asking()))[-1].keys() == {"end"}
    for response in open_ones:
        response.close()
    until(lambda: not threads())


# The same as a program.


@pytest.mark.parametrize("more", [{}, {"schema": SCHEMA}, {"tools": [TOOL]}], ids=str)
def test_the_program_does_the_same(web: Any, emulator: Emulator, more: Dict[str, Any]) -> None:
    emulator.settings.tool_calling = True
    job_id = ended(emulator)
    body = asking(
        model={"job": job_id, "step": 20},
        messages=[
            {"role": "system", "content": "long " * 60},
            {"role": "user", "content": HOSTILE + "\n'''\"\"\"\\"},
        ],
        temperature=0.5,
        **more,
    )
    code = post(web, "/playground/python", body).json["code"]
    environment = {**os.environ, **emulator.environment(), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert done.stderr.decode() == ""
    assert done.stdout.decode().startswith("[triage @ 20] <script>alert(1)")
    by_page = lines_of(post(web, "/chat", body))
    assert text_of(by_page) in done.stdout.decode()
    first, second = asked(emulator)
    del second["streamOptions"]
    assert first == second


def test_a_program_is_short_and_names_what_was_set() -> None:
    assert as_python(question_of(asking(temperature=0))) == (
        "from arkor_sync import CloudApiClient\n"
        "\n"
        "answer = CloudApiClient().chat(\n"
        "    messages=[{'role': 'user', 'content': 'Hello'}],\n"
        f"    base_model='{BASE}',\n"
        "    temperature=0,\n"
        ")\n"
        "for piece in answer:\n"
        '    print(piece, end="", flush=True)\n'
        "print()\n"
    )
