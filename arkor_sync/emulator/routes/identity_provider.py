"""The identity provider of the sign-in with an account. Runs in the connection's thread.

Its routes are those of Auth0, beside the cloud API: `auth0Domain` leads to this emulator. Everybody
who signs in is the same account. It has the organisation of the emulator's own token, and one more.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any, Dict, List
from urllib.parse import urlencode

from arkor_sync.emulator.http.messages import ApiError, Response
from arkor_sync.emulator.http.routing import Call, Route
from arkor_sync.emulator.routes.resource import Resource

CLIENT_ID = "emulator-client"
AUDIENCE = "https://api.arkor.ai"

# RFC 8252, section 7.3: the port of a redirect to the loopback is not compared.
_REDIRECT = re.compile(r"http://127\.0\.0\.1:[0-9]{1,5}/callback")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")

_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self' http://127.0.0.1:*; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in - local Arkor</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 12vh auto;
  padding: 0 1rem }}
button {{ font: inherit; padding: .5rem 1.25rem; margin: 0 .5rem .5rem 0 }}
</style>
<h1>Sign in</h1>
<p>This is the local Arkor, for tests. No password is needed: whoever signs in is
<b>{email}</b>.</p>
<form action="/authorize">{fields}
<button name="answer" value="allow">Sign in</button>
<button name="answer" value="refuse">Refuse</button>
</form>
</html>
"""


class IdentityProvider(Resource):
    """Asks the user, and gives tokens for a code or a refresh token."""

    ROUTES = (
        Route("GET", "/authorize", "authorize", needs="nothing"),
        Route("POST", "/oauth/token", "token", needs="nothing"),
    )

    def authorize(self, call: Call) -> Response:
        """Ask on a page, or answer as the settings say, and send the browser back."""
        self._check_offered()
        query = dict(call.request.query)
        # RFC 6749, section 4.1.2.1: nothing is sent to an address that is not the application's.
        if query.get("client_id") != CLIENT_ID:
            raise ApiError(400, "client_id: not that of the sign-in config")
        if not _REDIRECT.fullmatch(query.get("redirect_uri", "")):
            raise ApiError(400, "redirect_uri: expected http://127.0.0.1:<port>/callback")
        if query.get("response_type") != "code":
            return _send_back(query, error="unsupported_response_type")
        challenge = query.get("code_challenge", "")
        if query.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge):
            text = "expected a code_challenge, with the code_challenge_method S256"
            return _send_back(query, error="invalid_request", error_description=text)
        answer = self._settings.sign_in_answer
        if answer == "ask":
            answer = query.pop("answer", "")
        if answer == "refuse":
            text = "The user refused the sign-in."
            return _send_back(query, error="access_denied", error_description=text)
        if answer != "allow":
            fields = "".join(
                f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
                for name, value in query.items()
            )
            email = self._store.account.email or ""
            return Response(200, _PAGE.format(fields=fields, email=email).encode(), _HEADERS)
        with self._store.condition:
            code = self._store.sign_ins.allow(
                CLIENT_ID,
                query["redirect_uri"],
                challenge,
                offline="offline_access" in query.get("scope", "").split(),
            )
        return _send_back(query, code=code)

    def token(self, call: Call) -> Response:
        """Give tokens."""
        self._check_offered()
        body = call.request.json_object()
        settings, kind = self._settings, body.get("grant_type")
        wanted = {
            "authorization_code": ("code", "code_verifier", "client_id", "redirect_uri"),
            "refresh_token": ("refresh_token", "client_id"),
        }.get(kind if isinstance(kind, str) else "")
        if wanted is None:
            raise _refused(400, "unsupported_grant_type", "authorization_code or refresh_token")
        fields: List[Any] = [body.get(name) for name in wanted]
        if not all(isinstance(each, str) for each in fields):
            raise _refused(400, "invalid_request", f"expected {', '.join(wanted)}")
        if body["client_id"] != CLIENT_ID:
            raise _refused(401, "invalid_client", "unknown client_id")
        lifetime, keeps = settings.token_lifetime, settings.refresh_tokens
        with self._store.condition:
            sign_ins = self._store.sign_ins
            if kind == "refresh_token":
                token = body["refresh_token"]
                answer = sign_ins.refresh(token, lifetime, rotate=keeps == "rotate")
            else:
                grant = sign_ins.exchange(*fields)
                answer = None
                if grant is not None:
                    refreshable = grant.offline and keeps != "none"
                    answer = sign_ins.begin(body["code"], lifetime, refreshable=refreshable)
            self._store.notify()
        if answer is None:
            raise _refused(403, "invalid_grant", "it is unknown, was used, or has ended")
        return Response(200, answer, {"Cache-Control": "no-store"})

    def _check_offered(self) -> None:
        if not self._settings.account_sign_in:
            raise ApiError(404, "no such route: the sign-in with an account is switched off")


def _send_back(query: Dict[str, str], **answer: str) -> Response:
    """Send the browser back to the application, with its `state`."""
    if "state" in query:
        answer["state"] = query["state"]
    headers = {"Location": f"{query['redirect_uri']}?{urlencode(answer)}"}
    return Response(302, b"", {**_HEADERS, **headers})


def _refused(status: int, code: str, text: str) -> ApiError:
    body: Dict[str, Any] = {"error": code, "error_description": text}
    return ApiError(status, code, body=body)
