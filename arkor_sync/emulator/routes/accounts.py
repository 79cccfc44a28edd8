"""Sign-in and the caller's identity. Runs in the connection's thread."""

from __future__ import annotations

from typing import Any, Dict

from arkor_sync.emulator.http.messages import ApiError, Response
from arkor_sync.emulator.http.routing import Call, Route
from arkor_sync.emulator.routes.identity_provider import AUDIENCE, CLIENT_ID
from arkor_sync.emulator.routes.resource import Resource

NO_OAUTH: Dict[str, Any] = {
    "auth0Domain": None,
    "clientId": None,
    "audience": None,
    "callbackPorts": [],
}


class Accounts(Resource):
    """Anonymous sign-in, the settings of the OAuth sign-in, and the caller's identity."""

    ROUTES = (
        Route("POST", "/v1/auth/anonymous", "anonymous", needs="nothing"),
        Route("GET", "/v1/auth/cli/config", "cli_config", needs="nothing"),
        Route("GET", "/v1/me", "me", needs="bearer"),
    )

    def anonymous(self, call: Call) -> Response:
        """Create an identity with an org of its own."""
        kind = call.request.json_object().get("kind")
        if kind not in ("cli", "web"):
            raise ApiError(400, "kind: expected 'cli' or 'web'")
        if not self._settings.anonymous_sign_in:
            raise ApiError(403, "anonymous sign-in is switched off")
        identity = self._store.add_identity()
        return Response(
            200,
            {
                "token": self._store.token_of(identity),
                "anonymousId": identity.user_id,
                "kind": kind,
                "personalOrg": identity.org(),
            },
        )

    def cli_config(self, call: Call) -> Response:
        """Return what a client needs to know for the OAuth sign-in."""
        if self._backend.cli_config is not None:
            return Response(200, self._backend.cli_config)
        if not self._settings.account_sign_in:
            return Response(200, NO_OAUTH)
        scheme = "" if self._backend.tls else "http://"
        config = {
            "auth0Domain": f"{scheme}{call.request.headers['Host']}",
            "clientId": CLIENT_ID,
            "audience": AUDIENCE,
            "callbackPorts": [0],
        }
        return Response(200, config)

    def me(self, call: Call) -> Response:
        """Return the caller's user and orgs."""
        user = {"id": call.caller.user_id, "email": call.caller.email}
        return Response(200, {"user": user, "orgs": call.caller.orgs()})
