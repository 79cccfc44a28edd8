"""What is deployed answers as OpenAI's servers do."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

import pytest
import requests

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.emulator.routes import ROUTES
from support.emulator_client import MODEL, Client, parse_sse
from support.waiting import PATIENCE

BASE = {"kind": "base_model", "baseModel": "m"}
HELLO = [{"role": "user", "content": "hello"}]


def deploy(client: Client, target: Any = BASE, auth: str = "none", slug: str = "bot") -> str:
    """Create a deployment and return the path of its route."""
    body = {"slug": slug, "target": target, "authMode": auth}
    deployment_id: str = client.post("/v1/endpoints", body).json()["deployment"]["id"]
    return f"/v1/endpoints/{deployment_id}"


def ask(
    emu: Emulator, body: Any = None, *, slug: str = "bot", headers: Any = None, **more: Any
) -> requests.Response:
    url = f"{emu.endpoint_url(slug)}/chat/completions"
    given = {"messages": HELLO, **more} if body is None else body
    return requests.post(url, json=given, headers=headers, timeout=PATIENCE)


def answered(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


def finished(emu: Emulator) -> str:
    job_id = emu.create_job()
    emu.wait_for(lambda: emu.jobs[job_id].terminal)
    return job_id


def test_each_target_answers(emu: Emulator, client: Client) -> None:
    job_id = finished(emu)
    final = {"kind": "adapter", "adapter": {"kind": "final", "jobId": job_id}}
    step = {"kind": "adapter", "adapter": {"kind": "checkpoint", "jobId": job_id, "step": 2}}
    path = deploy(client, final)
    assert answered(ask(emu, model="ignored")) == "[job @ final] hello"
    assert client.call("PATCH", path, json={"target": step}).status_code == 200
    assert answered(ask(emu)) == "[job @ 2] hello"
    deploy(client, BASE, slug="base")
    assert answered(ask(emu, slug="base", model="ignored")) == "[m @ final] hello"
    deploy(client, {"kind": "model_menu"}, slug="menu")
    assert answered(ask(emu, slug="menu", model="chosen")) == "[chosen @ final] hello"
    assert answered(ask(emu, slug="menu")) == f"[{MODEL} @ final] hello"


def test_a_streamed_answer(emu: Emulator, client: Client) -> None:
    deploy(client)
    response = ask(emu, stream=True, stream_options={"include_usage": True})
    events = parse_sse(response.content)
    assert events[-1].data == "[DONE]"
    chunks = [event.json for event in events[:-1]]
    texts = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
    assert "".join(texts) == "[m @ final] hello"
    assert chunks[-1]["usage"]["completion_tokens"] == 17


@pytest.mark.parametrize(
    ("field", "seen"),
    [
        ({"top_p": 0.5}, {"topP": 0.5}),
        ({"max_completion_tokens": 5}, {"maxTokens": 5}),
        ({"tool_choice": "none"}, {"toolChoice": "none"}),
        ({"response_format": {"type": "text"}}, {"responseFormat": {"type": "text"}}),
        ({"structured_outputs": {"regex": "a"}}, {"structuredOutputs": {"regex": "a"}}),
        ({"topP": 7, "maxTokens": "x", "n": 1, "user": "u", "max_tokens": None}, {}),
    ],
)
def test_fields_have_their_names_in_openais_form(field: Any, seen: Any) -> None:
    bodies: List[Dict[str, Any]] = []

    def reply(chat: Any, *_: Any) -> str:
        bodies.append(chat.body)
        return "ok"

    with Emulator(ScriptedEngine(reply=reply)) as emu, Client(emu) as client:
        deploy(client)
        assert answered(ask(emu, **field)) == "ok"
    (body,) = bodies
    assert body == {"messages": HELLO, "baseModel": "m", **seen}


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"top_p": 7}, "top_p: expected a number from 0 to 1"),
        ({"max_tokens": 0}, "max_tokens: expected a whole number above 0"),
        ({"response_format": {"type": "x"}}, "response_format.type: expected 'text', 'json_object"),
        ({"structured_outputs": {}}, "structured_outputs: needs exactly one of"),
        ({"tool_choice": "required"}, "tool_choice: names no tool of this request"),
        ({"messages": []}, "messages: expected a non-empty list"),
        ({"messages": ["x"]}, "messages[0]: expected an object"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options: expected an object"),
    ],
)
def test_an_error_has_openais_form(emu: Emulator, client: Client, field: Any, message: str) -> None:
    deploy(client)
    response = ask(emu, **field)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["message"].startswith(message)
    assert error["type"] == "invalid_request_error"
    assert ask(emu, [1]).json()["error"]["message"] == "the request body must be a JSON object"


def test_tools_have_to_be_configured(emu: Emulator, client: Client) -> None:
    deploy(client)
    tool = {"type": "function", "function": {"name": "f"}}
    response = ask(emu, tools=[tool])
    assert response.json()["error"]["code"] == "tool_calling_not_configured"
    emu.settings.tool_calling = True
    assert answered(ask(emu, tools=[tool])) == "[m @ final] hello"


def last_used(client: Client, path: str) -> List[Optional[str]]:
    return [key["lastUsedAt"] for key in client.get(f"{path}/keys").json()["keys"]]


def test_a_key_opens_what_is_deployed_until_it_is_revoked(emu: Emulator, client: Client) -> None:
    path = deploy(client, auth="fixed_api_key")
    first, second = (
        client.post(f"{path}/keys", {"label": label}).json()["key"] for label in ("a", "b")
    )
    for headers in (
        {},
        {"Authorization": "Bearer nobody"},
        {"Authorization": f"Bearer {emu.token}"},
        {"x-api-key": first["prefix"]},
    ):
        response = ask(emu, headers=headers)
        assert response.status_code == 401
        assert response.json()["error"]["type"] == "authentication_error"
    assert last_used(client, path) == [None, None]
    assert ask(emu, headers={"Authorization": f"Bearer {first['plaintext']}"}).status_code == 200
    assert [each is None for each in last_used(client, path)] == [False, True]
    assert ask(emu, headers={"x-api-key": second["plaintext"]}).status_code == 200
    assert None not in last_used(client, path)
    client.call("DELETE", f"{path}/keys/{first['id']}")
    assert ask(emu, headers={"x-api-key": first["plaintext"]}).status_code == 401
    assert ask(emu, headers={"x-api-key": second["plaintext"]}).status_code == 200
    assert second["plaintext"] not in json.dumps([each.wire() for each in emu.requests])
    assert client.call("PATCH", path, json={"authMode": "none"}).status_code == 200
    assert ask(emu).status_code == 200


def test_a_key_of_another_deployment_opens_nothing(emu: Emulator, client: Client) -> None:
    path = deploy(client, auth="fixed_api_key", slug="other")
    deploy(client, auth="fixed_api_key")
    key = client.post(f"{path}/keys", {"label": "a"}).json()["key"]["plaintext"]
    assert ask(emu, headers={"x-api-key": key}).status_code == 401
    assert ask(emu, slug="other", headers={"x-api-key": key}).status_code == 200


def test_what_is_disabled_or_deleted_does_not_exist(emu: Emulator, client: Client) -> None:
    path = deploy(client, auth="fixed_api_key")
    assert ask(emu).status_code == 401
    client.call("PATCH", path, json={"enabled": False})
    assert ask(emu).status_code == 404
    client.call("PATCH", path, json={"enabled": True})
    assert ask(emu).status_code == 401
    client.call("DELETE", path)
    assert ask(emu).status_code == 404
    assert ask(emu, slug="none").status_code == 404
    assert (
        requests.get(emu.endpoint_url("bot") + "/chat/completions", timeout=PATIENCE).status_code
        == 405
    )


def test_a_model_that_does_not_exist_yet(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(manual=True))
    deploy(client, {"kind": "adapter", "adapter": {"kind": "final", "jobId": job_id}})
    response = ask(emu)
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "the job has no final adapter"


def test_the_route_has_faults_and_is_none_of_the_clouds_api(emu: Emulator, client: Client) -> None:
    deploy(client)
    emu.faults.add(Fault("status", route="chat_completions", status=503))
    assert [ask(emu).status_code for _ in range(2)] == [503, 200]
    assert [each.route for each in emu.requests[-2:]] == ["chat_completions"] * 2
    assert all(route.path.startswith("/v1/") for route in ROUTES)
