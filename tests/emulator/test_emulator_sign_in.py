"""The emulator as identity provider, by a bare client."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Dict, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.emulator.routes import BESIDE_THE_API, ROUTES
from support.emulator_client import Client
from support.servers import CERTIFICATE, KEY

VERIFIER = "a-verifier-of-the-length-that-rfc-7636-asks-for"
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
)
CALLBACK = "http://127.0.0.1:5252/callback"
QUERY = {
    "response_type": "code",
    "client_id": "emulator-client",
    "redirect_uri": CALLBACK,
    "scope": "openid profile email offline_access",
    "audience": "https://api.arkor.ai",
    "state": "a state & more",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


@pytest.fixture
def emu() -> Iterator[Emulator]:
    settings: Dict[str, Any] = {"account_sign_in": True, "sign_in_answer": "allow"}
    with Emulator(ScriptedEngine(steps=1), **settings) as emulator:
        yield emulator
        assert emulator.errors == []


def ask(client: Client, **change: Any) -> requests.Response:
    """Open the page; a parameter that is None is left out."""
    query = {name: each for name, each in {**QUERY, **change}.items() if each is not None}
    return client.get("/authorize", params=query, allow_redirects=False)


def sent_back(answer: requests.Response) -> Dict[str, str]:
    """Return what the browser brings back to the application."""
    assert answer.status_code == 302
    location = urlsplit(answer.headers["Location"])
    assert location._replace(query="").geturl() == CALLBACK
    return {name: each for name, (each,) in parse_qs(location.query).items()}


def token(client: Client, **body: Any) -> requests.Response:
    return client.post("/oauth/token", {"client_id": "emulator-client", **body})


def exchange(client: Client, code: str, **change: Any) -> requests.Response:
    fields = {"code": code, "code_verifier": VERIFIER, "redirect_uri": CALLBACK, **change}
    return token(client, grant_type="authorization_code", **fields)


def signed_in(client: Client) -> Any:
    answer = exchange(client, sent_back(ask(client))["code"])
    assert answer.status_code == 200, answer.text
    return answer.json()


def me(client: Client, access_token: str) -> requests.Response:
    return client.get("/v1/me", headers={"Authorization": f"Bearer {access_token}"})


def refused(answer: requests.Response) -> Any:
    return answer.status_code, answer.json()["error"]


def test_the_config_leads_to_the_emulator(emu: Emulator, client: Client) -> None:
    assert client.get("/v1/auth/cli/config").json() == {
        "auth0Domain": emu.url,
        "clientId": "emulator-client",
        "audience": "https://api.arkor.ai",
        "callbackPorts": [0],
    }
    with Emulator(tls=(CERTIFICATE, KEY), account_sign_in=True) as other:
        with requests.Session() as session:
            session.verify, session.trust_env = CERTIFICATE, False
            headers = {"X-Arkor-Client": "arkor/1.0.0"}
            config = session.get(f"{other.url}/v1/auth/cli/config", headers=headers).json()
        assert config["auth0Domain"] == f"127.0.0.1:{other.port}"


def test_its_routes_are_beside_those_of_the_api() -> None:
    beside = [each.path for resource in BESIDE_THE_API for each in resource.ROUTES]
    assert beside == ["/authorize", "/oauth/token", "/deployed/:slug/v1/chat/completions"]
    assert all(each.path.startswith("/v1/") for each in ROUTES)


def test_a_code_is_good_for_tokens_that_the_api_takes(emu: Emulator, client: Client) -> None:
    back = sent_back(ask(client))
    assert set(back) == {"code", "state"}
    assert back["state"] == "a state & more"
    answer = exchange(client, back["code"])
    tokens = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 3600)
    body = me(client, tokens["access_token"]).json()
    assert body["user"]["email"] == "somebody@example.com"
    assert [each["slug"] for each in body["orgs"]] == [emu.org_slug, "second-org"]


def test_the_account_works_in_both_organisations_and_in_no_other(
    emu: Emulator, client: Client
) -> None:
    headers = {"Authorization": f"Bearer {signed_in(client)['access_token']}"}
    listed = client.get("/v1/projects", headers=headers, params={"orgSlug": emu.org_slug}).json()
    assert [each["slug"] for each in listed["projects"]] == [emu.project_slug]
    second = {"orgSlug": "second-org"}
    made = client.post("/v1/projects", {"name": "n", "slug": "s"}, headers=headers, params=second)
    assert made.status_code == 201
    listed = client.get("/v1/projects", headers=headers, params=second).json()
    assert (listed["org"]["slug"], len(listed["projects"])) == ("second-org", 1)
    jobs = client.get("/v1/jobs", headers=headers, params={**second, "projectSlug": "s"})
    assert jobs.json() == {"jobs": []}
    foreign = client.get("/v1/projects", headers=headers, params={"orgSlug": "foreign"})
    assert foreign.status_code == 403
    own = client.get("/v1/projects", params=second)
    assert own.status_code == 403, "the emulator's own token is of the first organisation only"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"client_id": "other"}, 400),
        ({"client_id": None}, 400),
        ({"redirect_uri": "https://attacker.example/callback"}, 400),
        ({"redirect_uri": "http://127.0.0.1:1@attacker.example/callback"}, 400),
        ({"redirect_uri": "http://127.0.0.1:5252/other"}, 400),
        ({"redirect_uri": None}, 400),
    ],
)
def test_an_application_that_is_not_known_gets_nothing(
    client: Client, change: Dict[str, Any], status: int
) -> None:
    answer = ask(client, **change)
    assert answer.status_code == status
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
)
def test_a_wrong_request_is_answered_to_the_application(
    client: Client, change: Dict[str, Any], error: str
) -> None:
    back = sent_back(ask(client, **change))
    assert (back["error"], back["state"]) == (error, "a state & more")


def test_the_page_asks_and_its_buttons_answer(emu: Emulator, client: Client) -> None:
    emu.settings.sign_in_answer = "ask"
    answer = ask(client, state="\"><script>alert('x')</script>")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "<script" not in answer.text
    assert "&lt;script&gt;" in answer.text
    assert set(sent_back(ask(client, answer="allow"))) == {"code", "state"}
    back = sent_back(ask(client, answer="refuse"))
    assert (back["error"], back["state"]) == ("access_denied", "a state & more")
    assert ask(client, answer="other").status_code == 200


def test_it_can_refuse_at_once(emu: Emulator, client: Client) -> None:
    emu.settings.sign_in_answer = "refuse"
    assert sent_back(ask(client, answer="allow"))["error"] == "access_denied"


@pytest.mark.parametrize(
    "change",
    [
        {"code_verifier": "another" * 7},
        {"code_verifier": ""},
        {"code_verifier": "\ud800"},
        {"redirect_uri": "http://127.0.0.1:5253/callback"},
        {"code": "another"},
    ],
    ids=["verifier", "empty", "surrogate", "redirect", "code"],
)
def test_a_wrong_exchange_gives_nothing_and_ends_the_code(
    client: Client, change: Dict[str, Any]
) -> None:
    code = sent_back(ask(client))["code"]
    given = {"code": code, **change}
    assert refused(exchange(client, **given)) == (403, "invalid_grant")
    again = exchange(client, code)
    assert again.status_code == (200 if "code" in change else 403)


def test_a_code_that_comes_twice_ends_its_sign_in(client: Client) -> None:
    code = sent_back(ask(client))["code"]
    tokens = exchange(client, code).json()
    assert me(client, tokens["access_token"]).ok
    assert refused(exchange(client, code)) == (403, "invalid_grant")
    assert me(client, tokens["access_token"]).status_code == 401
    again = token(client, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert refused(again) == (403, "invalid_grant")


def test_a_code_ends_after_ten_minutes(emu: Emulator, client: Client) -> None:
    code = sent_back(ask(client))["code"]
    emu.advance(600)
    assert refused(exchange(client, code)) == (403, "invalid_grant")


def test_an_access_token_ends_and_a_refresh_brings_another(emu: Emulator, client: Client) -> None:
    emu.settings.token_lifetime = 50
    first = signed_in(client)
    assert first["expires_in"] == 50
    emu.advance(50)
    assert me(client, first["access_token"]).status_code == 401
    body = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = token(client, **body).json()
    assert me(client, second["access_token"]).ok
    assert second["refresh_token"] != first["refresh_token"]
    assert refused(token(client, **body)) == (403, "invalid_grant")
    assert me(client, second["access_token"]).status_code == 401, "it was stolen, or used twice"


def test_a_refresh_token_may_stay_or_be_left_out(emu: Emulator, client: Client) -> None:
    emu.settings.refresh_tokens = "keep"
    first = signed_in(client)
    body = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    for _ in range(2):
        assert "refresh_token" not in token(client, **body).json()
    emu.settings.refresh_tokens = "none"
    assert "refresh_token" not in signed_in(client)
    emu.settings.refresh_tokens = "rotate"
    code = sent_back(ask(client, scope="openid"))["code"]
    assert "refresh_token" not in exchange(client, code).json()


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "unsupported_grant_type"),
        ({"grant_type": ["refresh_token"]}, 400, "unsupported_grant_type"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": 5}, 400, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x"}, 400, "invalid_request"),
        (
            {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "other"},
            401,
            "invalid_client",
        ),
    ],
)
def test_a_wrong_request_for_tokens(
    client: Client, body: Dict[str, Any], status: int, error: str
) -> None:
    assert refused(token(client, **body)) == (status, error)


def test_what_is_recorded_has_no_secret_and_faults_know_the_routes(
    emu: Emulator, client: Client
) -> None:
    tokens = signed_in(client)
    emu.faults.add(Fault("status", route="token", status=403, value="invalid_grant"))
    body = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert refused(token(client, **body)) == (403, "invalid_grant")
    assert token(client, **body).ok
    routes = [each.route for each in emu.requests]
    assert routes == ["authorize", "token", "token", "token"]
    recorded = str([each.wire() for each in emu.requests])
    for secret in (VERIFIER, tokens["refresh_token"], tokens["access_token"]):
        assert secret not in recorded


def test_a_page_of_another_site_cannot_sign_in(emu: Emulator, client: Client) -> None:
    answer = client.get(
        "/authorize", params={**QUERY, "answer": "allow"}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 403
    assert emu.requests == []


def test_without_the_setting_there_is_none(emu: Emulator, client: Client) -> None:
    emu.settings.account_sign_in = False
    assert ask(client).status_code == 404
    assert token(client, grant_type="refresh_token", refresh_token="x").status_code == 404


def test_a_reset_forgets_who_signed_in(emu: Emulator, client: Client) -> None:
    tokens = signed_in(client)
    emu.reset()
    assert me(client, tokens["access_token"]).status_code == 401
    body = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert refused(token(client, **body)) == (403, "invalid_grant")


@pytest.mark.parametrize("settings", [{"sign_in_answer": "no"}, {"refresh_tokens": "some"}])
def test_a_setting_that_cannot_work(settings: Dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        Emulator(**settings)
