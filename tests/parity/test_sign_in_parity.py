"""The parts of a sign-in with an account (behaviours 220 to 234), as the TypeScript SDK has them.

What differs is in the README: only a request that knows the state ends the waiting.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import time
from typing import Any, Callable, Dict, List
from urllib.parse import urlsplit

import pytest

from arkor_sync import CloudApiError, CredentialsError, OAuthCredentials, read_credentials
from arkor_sync.cloud.callback_server import Callback, CallbackServer
from arkor_sync.cloud.sign_in import read_sign_in_config
from arkor_sync.credentials import sign_in
from arkor_sync.emulator import Emulator, Fault
from support.visitors import Visitor, browse
from support.waiting import PATIENCE, Background

Make = Callable[..., Emulator]


@pytest.fixture
def emulator(make_emulator: Make) -> Emulator:
    return make_emulator(account_sign_in=True, sign_in_answer="allow")


def signed_in(emulator: Emulator, visitor: Visitor, **more: Any) -> OAuthCredentials:
    return sign_in(
        emulator.url, open_browser=False, on_url=visitor, **{"timeout": PATIENCE, **more}
    )


def test_220_verifier_and_challenge_are_base64url_and_new_each_time(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifiers: List[str] = []
    from arkor_sync.cloud import sign_in as module

    made = module._challenge

    def challenge(verifier: str) -> str:
        verifiers.append(str(verifier))
        return made(verifier)

    monkeypatch.setattr(module, "_challenge", challenge)
    visitors = [Visitor(browse), Visitor(browse)]
    for visitor in visitors:
        signed_in(emulator, visitor)
    for visitor, verifier in zip(visitors, verifiers):
        digest = hashlib.sha256(verifier.encode()).digest()
        expected = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        assert re.fullmatch(r"[A-Za-z0-9_-]{43,}", verifier)
        assert visitor.query["code_challenge"] == expected
        assert len(expected) == 43
    assert len({*verifiers, *(each.query["state"] for each in visitors)}) == 4


def test_221_the_address_has_all_eight_parameters(emulator: Emulator) -> None:
    visitor = Visitor(browse)
    account = signed_in(emulator, visitor)
    assert urlsplit(visitor.url).path == "/authorize"
    assert visitor.url.startswith(f"{account.auth0_domain}/authorize?")
    query = visitor.query
    assert {name: query.pop(name) for name in ("state", "code_challenge", "redirect_uri")}
    assert query == {
        "response_type": "code",
        "client_id": "emulator-client",
        "scope": "openid profile email offline_access",
        "audience": "https://api.arkor.ai",
        "code_challenge_method": "S256",
    }
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", visitor.callback)


def test_222_the_config_of_the_cloud(make_emulator: Make) -> None:
    config = {
        "auth0Domain": "arkor.auth0.com",
        "clientId": "c",
        "audience": "a",
        "callbackPorts": [52521, 52522],
    }
    emulator = make_emulator(cli_config=config)
    assert read_sign_in_config(emulator.url + "/").to_dict() == config
    (request,) = emulator.requests
    assert request.path == "/v1/auth/cli/config"
    assert request.headers["X-Arkor-Client"].startswith("arkor/")
    emulator.faults.add(Fault("status", route="cli_config", status=500))
    with pytest.raises(CloudApiError, match=f"500.*{emulator.url}"):
        read_sign_in_config(emulator.url)


@pytest.mark.parametrize("missing", ["auth0Domain", "clientId", "audience"])
@pytest.mark.parametrize("value", [None, ""], ids=repr)
def test_a_config_with_a_part_missing_offers_no_accounts(
    make_emulator: Make, missing: str, value: Any
) -> None:
    config = {"auth0Domain": "d", "clientId": "c", "audience": "a", "callbackPorts": [0]}
    emulator = make_emulator(cli_config={**config, missing: value})
    assert not read_sign_in_config(emulator.url).offers_accounts


def test_223_and_226_the_exchange_is_json_and_its_answer_is_kept(emulator: Emulator) -> None:
    emulator.settings.token_lifetime = 1234
    account = signed_in(emulator, Visitor(browse))
    (request,) = [each for each in emulator.requests if each.route == "token"]
    assert request.headers["Content-Type"] == "application/json"
    assert set(request.body) == {
        "grant_type",
        "code",
        "code_verifier",
        "client_id",
        "redirect_uri",
    }
    assert account.access_token.startswith("emulator-access-")
    assert str(account.refresh_token).startswith("emulator-refresh-")
    assert time.time() + 1234 - PATIENCE < account.expires_at <= time.time() + 1234


def test_224_a_refused_exchange_names_status_and_text(emulator: Emulator) -> None:
    emulator.faults.add(Fault("status", route="token", status=403, value="invalid_grant"))
    with pytest.raises(CredentialsError, match="403 invalid_grant"):
        signed_in(emulator, Visitor(browse))


def test_225_without_a_refresh_token_the_scope_is_named(emulator: Emulator) -> None:
    emulator.settings.refresh_tokens = "none"
    with pytest.raises(CredentialsError, match="offline_access"):
        signed_in(emulator, Visitor(browse))


def test_227_the_address_of_the_cloud_is_stored(emulator: Emulator) -> None:
    assert signed_in(emulator, Visitor(browse)).arkor_cloud_api_url == emulator.url
    stored = read_credentials()
    assert stored is not None
    assert stored.arkor_cloud_api_url == emulator.url


def waiting(server: CallbackServer) -> Background:
    return Background(server.wait, PATIENCE)


def test_228_a_good_callback_is_delivered() -> None:
    with CallbackServer([0], "s") as server:
        found, visitor = waiting(server), Visitor()
        answer = visitor.get(f"{server.redirect_uri}?code=c&state=s")
        assert found.result() == Callback("c", "")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("error=access_denied&error_description=no%20%3Cb%3E", "access_denied: no <b>"),
        ("error=access_denied", "access_denied"),
    ],
)
def test_229_to_231_an_error_is_plain_text_and_fails(query: str, text: str) -> None:
    with CallbackServer([0], "s") as server:
        found, visitor = waiting(server), Visitor()
        answer = visitor.get(f"{server.redirect_uri}?{query}&state=s")
        assert found.result() == Callback("", text)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.text.endswith(text)


QUERIES: Dict[str, str] = {
    "232 no state": "code=c",
    "245 another state": "code=c&state=other",
    "an error without a state": "error=access_denied",
    "nothing": "",
    "twice": "code=c&state=s&state=s",
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_callback_that_is_not_ours_gets_400_and_the_waiting_goes_on(name: str) -> None:
    with CallbackServer([0], "s") as server:
        found, visitor = waiting(server), Visitor()
        assert visitor.get(f"{server.redirect_uri}?{QUERIES[name]}").status_code == 400
        assert found.running()
        visitor.get(f"{server.redirect_uri}?code=c&state=s")
        assert found.result() == Callback("c", "")
        assert server.ignored == 1


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/callback/", "/Callback?code=c&state=s"])
def test_233_another_path_gets_404_and_the_waiting_goes_on(path: str) -> None:
    with CallbackServer([0], "s") as server:
        found, visitor = waiting(server), Visitor()
        answer = visitor.get(f"http://127.0.0.1:{server.port}{path}")
        assert (answer.status_code, answer.headers["Content-Type"][:10]) == (404, "text/plain")
        visitor.get(f"{server.redirect_uri}?code=c&state=s")
        assert found.result() == Callback("c", "")


def test_234_the_first_port_that_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = busy.getsockname()[1]
        with CallbackServer([taken, 0], "s") as server:
            assert server.port not in (0, taken)
        with pytest.raises(CredentialsError, match=str(taken)):
            CallbackServer([taken, taken], "s")
    with pytest.raises(CredentialsError, match="no callbackPorts"):
        CallbackServer([], "s")
