"""An identity provider on the loopback that hands out tokens, each refresh token good for once."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List

import requests

from arkor_sync.cloud.credentials import OAuthCredentials
from support.scripted_cloud import Received, Reply, ScriptedCloud
from support.servers import CERTIFICATE

LATER = 4_000_000_000  # epoch seconds


class IdentityProvider:
    """Answers `POST /oauth/token`.

    Attributes:
        answers: Used up first, one a request; a function may also return None for the usual answer.
        on_issue: Called with each access token before it is sent.
        rotates: Whether a refresh brings a new refresh token.
        session: A session that trusts the certificate.
    """

    def __init__(self) -> None:
        self._server = ScriptedCloud(tls=True)
        self._server.replies = [self._answer]
        self._lock = threading.Lock()
        self._count = 0
        self._good = "secret-refresh-0"
        self.host = self._server.host
        self.answers: List[Any] = []
        self.on_issue: Callable[[str], Any] = lambda token: None
        self.rotates = True
        self.expires_in: Any = 3600
        self.session = requests.Session()
        self.session.verify = CERTIFICATE
        self.session.trust_env = False  # a bundle in the environment would be preferred

    @property
    def received(self) -> List[Received]:
        return self._server.received

    @property
    def spent(self) -> List[str]:
        """The refresh tokens that came, in order."""
        return [each.json["refresh_token"] for each in self.received]

    def account(self, expires_at: int = LATER, **more: Any) -> OAuthCredentials:
        """Return the credentials of somebody who has just signed in."""
        fields: Dict[str, Any] = {
            "access_token": "secret-access-no-0",
            "refresh_token": "secret-refresh-0",
            "expires_at": expires_at,
            "auth0_domain": self.host,
            "audience": "https://api.arkor.ai",
            "client_id": "client-1",
            **more,
        }
        return OAuthCredentials(**fields)

    def stop(self) -> None:
        self._server.stop()
        self.session.close()

    def _answer(self, received: Received) -> Reply:
        with self._lock:
            special = self.answers.pop(0) if self.answers else None
        reply = special(received) if callable(special) else special
        if reply is not None:
            return reply  # type: ignore[no-any-return]
        with self._lock:
            if received.json["refresh_token"] != self._good:
                return Reply(403, {"error": "invalid_grant"})
            self._count += 1
            answer = {
                "access_token": f"secret-access-no-{self._count}",
                "id_token": "secret-id",
                "token_type": "Bearer",
                "expires_in": self.expires_in,
            }
            if self.rotates:
                self._good = answer["refresh_token"] = f"secret-refresh-{self._count}"
        self.on_issue(answer["access_token"])
        return Reply(content=answer)
