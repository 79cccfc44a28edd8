"""Sign-in and the caller's identity. Runs in the connection's thread."""

from __future__ import annotations

from arkor_sync.emulator.http.messages import ApiError, Response
from arkor_sync.emulator.http.routing import Call, Route
from arkor_sync.emulator.routes.resource import Resource


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

    def cli_config(self, _call: Call) -> Response:
        """Return what a client needs to know for the OAuth sign-in."""
        return Response(200, self._backend.cli_config)

    def me(self, call: Call) -> Response:
        """Return the caller's user and orgs."""
        user = {"id": call.caller.user_id, "email": None}
        return Response(200, {"user": user, "orgs": [call.caller.org()]})
