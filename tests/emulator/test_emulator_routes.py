from __future__ import annotations

import http.client
import socket
import threading
from typing import Any, Dict, Iterator, List

import pytest
import requests

from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.emulator.engine.base import Ticket
from arkor_sync.emulator.models import Item
from support.emulator_client import CONFIG, HUB, MODEL, Client
from support.waiting import PATIENCE

ANY = object()


# -- the version gate and the notices -------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "reason", "version"),
    [
        (None, "missing", "unknown"),
        ("arkor", "malformed", "unknown"),
        ("arkor/one", "malformed", "unknown"),
        ("curl/8.0.0", "malformed", "unknown"),
        ("arkor/1.9.0", None, "1.9.0"),
        ("arkor/2.0.0-beta.1", None, "2.0.0-beta.1"),
        ("arkor/" + "9" * 5000 + ".0.0", "malformed", "unknown"),
    ],
)
def test_a_client_outside_the_range_gets_426_on_every_route(
    emu: Emulator, client: Client, header: str, reason: str, version: str
) -> None:
    emu.settings.supported_range = "^1.4.0 <1.9 || >=2.1.0"
    client.headers["X-Arkor-Client"] = header
    for method, path in [("GET", "/v1/me"), ("POST", "/v1/auth/anonymous"), ("GET", "/v1/nope")]:
        response = client.call(method, path)
        body = response.json()
        assert response.status_code == 426
        assert body["error"] == "sdk_version_unsupported"
        assert body["currentVersion"] == version
        assert body["supportedRange"] == "^1.4.0 <1.9 || >=2.1.0"
        assert body.get("reason") == reason


@pytest.mark.parametrize("version", ["1.4.0", "1.8.9", "2.1.0", "3.0.0-rc.1+build"])
def test_a_client_inside_the_range_passes(emu: Emulator, client: Client, version: str) -> None:
    emu.settings.supported_range = "^1.4.0 <1.9 || >=2.1.0"
    assert client.get("/v1/me", headers={"X-Arkor-Client": f"arkor/{version}"}).ok


def test_the_deprecation_notice_is_on_answers_and_on_errors(emu: Emulator, client: Client) -> None:
    assert "Deprecation" not in client.get("/v1/me").headers
    emu.settings.deprecation = "upgrade soon"
    emu.settings.sunset = "Thu, 31 Dec 2026 00:00:00 GMT"
    job_id = emu.create_job()
    for path in ["/v1/me", "/v1/jobs/none", f"/v1/jobs/{job_id}/events/stream"]:
        headers = client.get(path).headers
        assert headers["Deprecation"] == "true"
        assert headers["Warning"] == '299 - "upgrade soon"'
        assert headers["Sunset"] == "Thu, 31 Dec 2026 00:00:00 GMT"


# -- who asks, and in which scope -----------------------------------------------------------------


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic x", "Bearer "])
def test_without_a_known_bearer_it_is_401(client: Client, authorization: str) -> None:
    response = client.get("/v1/jobs", headers={"Authorization": authorization})
    assert response.status_code == 401
    assert response.json()["error"]


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({}, 400),
        ({"orgSlug": "emulator-org"}, 400),
        ({"projectSlug": "emulator-project"}, 400),
        ({"orgSlug": "", "projectSlug": "emulator-project"}, 400),
        ({"orgSlug": "other", "projectSlug": "emulator-project"}, 403),
        ({"orgSlug": "emulator-org", "projectSlug": "other"}, 404),
    ],
)
def test_a_wrong_scope_is_refused(client: Client, scope: Dict[str, str], status: int) -> None:
    for method, path in [("GET", "/v1/jobs"), ("POST", "/v1/inference/chat")]:
        assert client.call(method, path, params=scope).status_code == status


def test_an_anonymous_identity_has_an_org_of_its_own(emu: Emulator, client: Client) -> None:
    minted = client.post("/v1/auth/anonymous", {"kind": "cli"}, headers={"Authorization": None})
    assert minted.status_code == 200
    body = minted.json()
    assert body["kind"] == "cli"
    org = body["personalOrg"]
    assert set(org) == {"id", "slug", "name"}
    scope = {"orgSlug": org["slug"]}
    with Client(emu, body["token"], **scope) as other:
        assert other.get("/v1/me").json()["orgs"] == [org]
        assert other.get("/v1/projects").json()["projects"] == []
        created = other.post("/v1/projects", {"name": "Mine", "slug": "mine"})
        assert created.status_code == 201
        project = created.json()["project"]
        assert (project["slug"], project["name"], project["orgId"]) == ("mine", "Mine", org["id"])
        again = other.post("/v1/projects", {"name": "Mine", "slug": "mine"})
        assert again.status_code == 409
        assert other.get("/v1/projects").json()["projects"] == [project]
        assert other.get("/v1/projects").json()["org"]["slug"] == org["slug"]
    assert client.get("/v1/projects", params=scope).status_code == 403


def test_anonymous_sign_in_can_be_refused(emu: Emulator, client: Client) -> None:
    assert client.post("/v1/auth/anonymous", {"kind": "robot"}).status_code == 400
    emu.settings.anonymous_sign_in = False
    assert client.post("/v1/auth/anonymous", {"kind": "cli"}).status_code == 403


def test_the_sign_in_config_offers_no_oauth_unless_told(client: Client) -> None:
    assert client.get("/v1/auth/cli/config", headers={"Authorization": None}).json() == {
        "auth0Domain": None,
        "clientId": None,
        "audience": None,
        "callbackPorts": [],
    }
    config = {"auth0Domain": "d", "clientId": "c", "audience": "a", "callbackPorts": [52521]}
    with Emulator(cli_config=config) as emu, Client(emu) as other:
        assert other.get("/v1/auth/cli/config").json() == config


def test_projects_need_a_name_and_a_slug(client: Client) -> None:
    for body in [{"name": "x"}, {"slug": "x"}, {"name": 1, "slug": "x"}, []]:
        assert client.post("/v1/projects", body).status_code == 400


# -- jobs -----------------------------------------------------------------------------------------


def test_the_list_of_jobs_can_be_cut(emu: Emulator, client: Client) -> None:
    jobs = [client.submit() for _ in range(5)]
    emu.settings.listed_jobs = 2
    assert [j["id"] for j in client.get("/v1/jobs").json()["jobs"]] == [jobs[4], jobs[3]]
    emu.settings.listed_jobs = None
    assert len(client.get("/v1/jobs").json()["jobs"]) == 5


def test_a_job_is_accepted_listed_and_read_back(emu: Emulator, client: Client) -> None:
    config = {**CONFIG, "somethingNew": {"kept": True}}
    response = client.post("/v1/jobs", {"name": "first", "config": config})
    assert response.status_code == 201
    job = response.json()["job"]
    assert job["status"] == "queued"
    assert job["startedAt"] is None
    assert job["config"] == config
    assert job["projectId"] == emu.project_id
    second = client.submit()
    assert [j["id"] for j in client.get("/v1/jobs").json()["jobs"]] == [second, job["id"]]
    emu.wait_for(lambda: emu.jobs[job["id"]].terminal)
    read = client.get(f"/v1/jobs/{job['id']}").json()
    assert read["job"]["status"] == "completed"
    assert read["job"]["completedAt"] >= read["job"]["startedAt"]
    assert [event["type"] for event in read["events"]] == [
        "training.started",
        "training.log",
        "training.log",
        "checkpoint.saved",
        "training.log",
        "training.completed",
    ]


def test_a_job_is_not_seen_before_it_can_be_stepped(emu: Emulator, client: Client) -> None:
    seen: List[int] = []
    looking = threading.Thread(
        target=lambda: seen.extend(emu.step(job_id) for job_id in emu.jobs), daemon=True
    )

    class Engine(ScriptedEngine):
        def events(self, ticket: Ticket) -> Iterator[Item]:
            looking.start()
            looking.join(0.1)  # it has to wait until the job is launched
            return super().events(ticket)

    emu.engine = Engine(manual=True)
    client.submit()
    looking.join(PATIENCE)
    assert seen == [1]


def test_a_job_of_another_project_does_not_exist(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job()
    client.post("/v1/projects", {"name": "Other", "slug": "other"})
    scope = {"orgSlug": emu.org_slug, "projectSlug": "other"}
    for method, path in [
        ("GET", f"/v1/jobs/{job_id}"),
        ("POST", f"/v1/jobs/{job_id}/cancel"),
        ("GET", f"/v1/jobs/{job_id}/events/stream"),
    ]:
        assert client.call(method, path, params=scope).status_code == 404
    assert client.get("/v1/jobs", params=scope).json() == {"jobs": []}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"model": ANY}, "config.model"),
        ({"model": 4}, "config.model"),
        ({"datasetSource": ANY}, "config.datasetSource"),
        ({"datasetSource": {"type": "local", "path": "x"}}, "config.datasetSource.type"),
        ({"datasetSource": {"type": "blob"}}, "config.datasetSource.url"),
        ({"datasetSource": {**HUB, "split": 1}}, "config.datasetSource.split"),
        ({"evalSteps": 25}, "config.evalSteps"),
        ({"saveSteps": None}, "config.saveSteps"),
        ({"saveSteps": {}}, "config.saveSteps"),
        ({"saveSteps": {"steps": 1, "ratio": 0.5}}, "config.saveSteps"),
        ({"loggingSteps": {"steps": 1.5}}, "config.loggingSteps.steps"),
        ({"loggingSteps": {"steps": True}}, "config.loggingSteps.steps"),
        ({"loggingSteps": {"steps": -1}}, "config.loggingSteps.steps"),
        ({"saveSteps": {"ratio": 1}}, "config.saveSteps.ratio"),
        ({"saveSteps": {"ratio": 0}}, "config.saveSteps.ratio"),
        ({"maxSteps": "10"}, "config.maxSteps"),
        ({"learningRate": True}, "config.learningRate"),
        ({"maxSteps": 10**400}, "config.maxSteps"),
        ({"optim": 8}, "config.optim"),
        ({"loadIn4bit": "yes"}, "config.loadIn4bit"),
        ({"datasetSplit": {"enabled": "yes"}}, "config.datasetSplit"),
        ({"datasetSplit": {"enabled": True, "testSize": 0}}, "config.datasetSplit.testSize"),
        ({"datasetSplit": {"enabled": True, "seed": 0.5}}, "config.datasetSplit.seed"),
        ({"gpuTypes": []}, "config.gpuTypes"),
    ],
)
def test_a_config_that_the_cloud_rejects_is_rejected(
    client: Client, change: Dict[str, Any], where: str
) -> None:
    config = {k: v for k, v in {**CONFIG, **change}.items() if v is not ANY}
    response = client.post("/v1/jobs", {"name": "run", "config": config})
    assert response.status_code == 400
    assert response.json()["error"].startswith(where + ":")


@pytest.mark.parametrize(
    "change",
    [
        {"warmupSteps": {"ratio": 0}},
        {"warmupSteps": {"steps": 0}},
        {"saveSteps": {"ratio": 0.25}, "evalSteps": {"steps": 25}},
        {"datasetSplit": {"enabled": True, "testSize": 1}},
        {"gpuTypes": ["a100", "h100"]},
        {"trainOnResponsesOnly": True, "datasetFormat": "chatml", "dryRun": True},
        {"model": "any/model"},
        {"maxSteps": 10, "learningRate": 2e-4, "loraR": 16, "optim": "adamw_8bit"},
    ],
)
def test_a_config_that_the_cloud_takes_is_taken(client: Client, change: Dict[str, Any]) -> None:
    assert client.submit(**change)


def test_bare_step_numbers_pass_when_strictness_is_off() -> None:
    with Emulator(ScriptedEngine(), strict_steps=False) as emu, Client(emu) as client:
        assert client.submit(evalSteps=25, saveSteps=None)


@pytest.mark.parametrize(
    "body", [{"config": CONFIG}, {"name": "", "config": CONFIG}, {"name": "x"}, [], "x"]
)
def test_a_job_needs_a_name_and_a_config(client: Client, body: Any) -> None:
    assert client.post("/v1/jobs", body).status_code == 400


@pytest.mark.parametrize("body", [b"{nope", b"", b"\xff", b'{"name": NaN}', b"[Infinity]"])
def test_a_body_that_is_not_json_is_400(client: Client, body: bytes) -> None:
    as_json = {"Content-Type": "application/json"}
    response = client.call("POST", "/v1/jobs", data=body, headers=as_json)
    assert response.status_code == 400
    assert "JSON" in response.json()["error"]


# -- cancel ---------------------------------------------------------------------------------------


def test_a_cancel_settles_the_job_and_a_second_one_is_409(emu: Emulator, client: Client) -> None:
    job_id = emu.create_job(ScriptedEngine(steps=9, manual=True))
    emu.step(job_id, 3)
    response = client.post(f"/v1/jobs/{job_id}/cancel")
    assert response.status_code == 200
    assert response.json()["job"]["status"] == "cancelled"
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 409
    emu.settings.cancel_idempotent = True
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    assert emu.step(job_id) == 0
    assert emu.jobs[job_id].status == "cancelled"


@pytest.mark.parametrize(
    ("emits", "names"),
    [("failed", ["training.failed", "end"]), ("end", ["end"])],
)
def test_what_a_stream_tells_of_a_cancel(emits: str, names: Any) -> None:
    with Emulator(cancel_emits=emits) as emu, Client(emu) as client:
        job_id = emu.create_job(ScriptedEngine(manual=True))
        emu.step(job_id, 3)
        client.post(f"/v1/jobs/{job_id}/cancel")
        events = client.read(job_id)
        assert [event.name for event in events[3:]] == names
        if emits == "failed":
            assert events[3].json["error"] == "Job cancelled"
            assert events[3].json["step"] == 2


def test_a_cancel_may_be_followed_by_silence() -> None:
    with Emulator(cancel_emits="nothing", ping_interval=5, speed=0) as emu, Client(emu) as client:
        job_id = emu.create_job(ScriptedEngine(manual=True))
        with client.open(job_id) as response:
            emu.wait_for(lambda: emu.open_streams)
            client.post(f"/v1/jobs/{job_id}/cancel")
            emu.advance(6)
            assert response.raw.read(13) == b"event: ping\nd"
        assert client.get(f"/v1/jobs/{job_id}").json()["job"]["status"] == "cancelled"


def test_a_cancel_stops_the_engines_thread() -> None:
    with Emulator(ScriptedEngine(steps=10, step_delay=3600)) as emu, Client(emu) as client:
        job_id = client.submit()
        name = f"arkor-emulator-job-{job_id[:8]}"
        assert client.post(f"/v1/jobs/{job_id}/cancel").ok
        emu.wait_for(lambda: name not in [thread.name for thread in threading.enumerate()])


# -- the server -----------------------------------------------------------------------------------


def test_unknown_paths_and_methods(client: Client) -> None:
    assert client.get("/v1/nope").status_code == 404
    assert client.get("/").status_code == 404
    assert client.call("PUT", "/v1/jobs").status_code == 405


def test_plain_routes_keep_the_connection_alive(emu: Emulator) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", emu.port, timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {emu.token}", "X-Arkor-Client": "arkor/1.0.0"}
    sockets = set()
    for _ in range(3):
        connection.request("GET", "/v1/me", headers=headers)
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        sockets.add(connection.sock)
    assert len(sockets) == 1
    connection.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nX-Arkor-Client: arkor/1.0.0\r\n\r\n",
            b"404",
        ),
    ],
)
def test_what_is_not_a_request_is_refused(emu: Emulator, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", emu.port), timeout=PATIENCE) as sock:
        sock.sendall(sent)
        assert sock.recv(100).split()[1] == status


def test_percent_encoded_and_form_encoded_queries_are_both_read(emu: Emulator) -> None:
    with Client(emu) as client:
        client.post("/v1/projects", {"name": "x", "slug": "a b&c"})
        for query in ("a%20b%26c", "a+b%26c"):
            path = f"/v1/jobs?orgSlug={emu.org_slug}&projectSlug={query}"
            assert client.get(path, params={}).status_code == 200


def test_requests_are_recorded_without_their_secrets(emu: Emulator, client: Client) -> None:
    source = {"type": "blob", "url": "http://127.0.0.1:9/x", "token": "dataset-secret"}
    job_id = client.submit(datasetSource=source)
    client.get(f"/v1/jobs/{job_id}")
    first, second = emu.requests[-2:]
    assert (first.method, first.path, first.route) == ("POST", "/v1/jobs", "create_job")
    assert first.query == client.scope
    assert first.status == 201
    assert first.body["config"]["datasetSource"]["token"] == "[redacted]"
    assert first.headers["Authorization"] == "[redacted]"
    assert second.job_id == job_id
    assert first.token_digest == second.token_digest
    assert emu.token not in repr(emu.requests) + repr(first.wire())
    assert "dataset-secret" not in repr(emu.jobs) + repr(emu.requests) + repr(first.wire())
    assert emu.jobs[job_id].config["datasetSource"] == source


def test_a_bug_in_an_engine_is_recorded_and_not_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: Any) -> str:
        raise ZeroDivisionError("in the reply")

    with Emulator(ScriptedEngine(steps=1, reply=broken)) as emu, Client(emu) as client:
        response = client.chat(baseModel=MODEL, stream=False)
        assert response.status_code == 500
        assert [type(error) for error in emu.errors] == [ZeroDivisionError]
        job_id = emu.create_job(ScriptedEngine(loss=broken))
        emu.wait_for(lambda: emu.jobs[job_id].status == "failed")
        assert [type(error) for error in emu.errors] == [ZeroDivisionError] * 2
    assert capfd.readouterr() == ("", "")


def test_it_can_be_started_again_and_is_empty_then() -> None:
    emu = Emulator(ScriptedEngine())
    with emu:
        emu.create_job()
        with pytest.raises(RuntimeError, match="already running"):
            emu.start()
    with emu:
        assert emu.jobs == {}
    emu.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = emu.url


def test_a_taken_port_is_an_error(emu: Emulator) -> None:
    with pytest.raises(OSError, match=f"port {emu.port} of 127.0.0.1: .* in use; give another"):
        Emulator(port=emu.port).start()


def test_the_environment_points_here(emu: Emulator) -> None:
    env = emu.environment()
    assert env == {
        "ARKOR_CLOUD_API_URL": emu.url,
        "ARKOR_TOKEN": emu.token,
        "ARKOR_ORG": emu.org_slug,
        "ARKOR_PROJECT": emu.project_slug,
        "ARKOR_PROJECT_ID": emu.project_id,
    }
    assert requests.get(env["ARKOR_CLOUD_API_URL"] + "/v1/me", timeout=PATIENCE).status_code == 426


@pytest.mark.parametrize(
    "options",
    [
        *({"framing": "http2"}, {"cancel_emits": "x"}, {"chat_end": "x"}, {"speed": -1}),
        *({"listed_jobs": 0}, {"listed_jobs": "9"}, {"listed_jobs": True}),
        *({"nope": 1}, {"port": -1}, {"port": 65536}, {"port": "80"}),
    ],
)
def test_a_wrong_option_is_an_error(options: Dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Emulator(**options)


def test_an_npm_range_that_makes_no_sense_is_an_error(emu: Emulator, client: Client) -> None:
    emu.settings.supported_range = "banana"
    assert client.get("/v1/me").status_code == 500
    assert "not a version range" in str(emu.errors.pop())
