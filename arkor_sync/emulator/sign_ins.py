"""The sign-ins with an account: codes, refresh tokens, when access tokens end. Any thread.

Whoever calls a method holds the store's `condition`.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Set

CODE_SECONDS = 600.0


@dataclass(frozen=True)
class Grant:
    """What was allowed on the page of the identity provider.

    Attributes:
        client_id: The application that asked.
        redirect_uri: Where the code was sent.
        challenge: The SHA-256 of the verifier, in base64url without padding (RFC 7636).
        offline: Whether the scope has `offline_access`, and with it a refresh token.
        expires: When the code ends, in virtual seconds.
    """

    client_id: str
    redirect_uri: str
    challenge: str
    offline: bool
    expires: float


class SignIns:
    """Codes that are good for once, and refresh tokens of which the newest of a sign-in is good.

    Args:
        now: Returns the virtual time in seconds.
        accept: Called with a new access token: the API takes it from now on.
        revoke: Called with an access token that the API must not take any more.
    """

    def __init__(
        self,
        now: Callable[[], float],
        accept: Callable[[str], Any],
        revoke: Callable[[str], Any],
    ) -> None:
        self._now = now
        self._accept = accept
        self._revoke = revoke
        self._grants: Dict[str, Grant] = {}  # by code
        self._used: Dict[str, int] = {}  # the sign-in of a code that was used
        self._count = 0
        self._refresh: Dict[str, int] = {}  # the sign-in of each refresh token, replaced ones too
        self._newest: Dict[int, str] = {}  # the good refresh token of a sign-in
        self._access: Dict[int, Set[str]] = {}
        self._expiry: Dict[str, float] = {}

    def clear(self) -> None:
        """Forget all."""
        for each in (self._grants, self._used, self._refresh, self._newest, self._access):
            each.clear()
        self._expiry.clear()

    def has_expired(self, token: str) -> bool:
        """Tell whether a token is an access token whose time is over."""
        return self._now() >= self._expiry.get(token, float("inf"))

    def allow(self, client_id: str, redirect_uri: str, challenge: str, *, offline: bool) -> str:
        """Return a new code."""
        code = secrets.token_urlsafe(24)
        self._grants[code] = Grant(
            client_id, redirect_uri, challenge, offline, self._now() + CODE_SECONDS
        )
        return code

    def exchange(
        self, code: str, verifier: str, client_id: str, redirect_uri: str
    ) -> Optional[Grant]:
        """Use a code. Return what it stands for, or None if it is refused.

        A code that comes again ends the sign-in that it was used for (RFC 6749, section 4.1.2).
        """
        grant = self._grants.pop(code, None)
        if grant is None:
            self._end(self._used.get(code))
            return None
        digest = hashlib.sha256(verifier.encode("utf-8", "surrogatepass")).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        asked = (grant.client_id, grant.redirect_uri, grant.challenge)
        if asked != (client_id, redirect_uri, challenge) or self._now() >= grant.expires:
            return None
        self._count += 1
        self._used[code] = self._count
        self._access[self._count] = set()
        return grant

    def begin(self, code: str, lifetime: float, *, refreshable: bool) -> Dict[str, Any]:
        """Return the first tokens of the sign-in that a code was used for."""
        return self._issue(self._used[code], lifetime, rotate=refreshable)

    def refresh(self, token: str, lifetime: float, *, rotate: bool) -> Optional[Dict[str, Any]]:
        """Return new tokens, or None if the refresh token is refused.

        One that was replaced has been stolen, or was used twice: it ends the whole sign-in, as
        Auth0 does (RFC 9700, section 4.14.2).
        """
        sign_in = self._refresh.get(token)
        if sign_in is None:
            return None
        if self._newest.get(sign_in) != token:
            self._end(sign_in)
            return None
        return self._issue(sign_in, lifetime, rotate=rotate)

    def _issue(self, sign_in: int, lifetime: float, *, rotate: bool) -> Dict[str, Any]:
        access = f"emulator-access-{secrets.token_urlsafe(24)}"
        self._access[sign_in].add(access)
        self._expiry[access] = self._now() + lifetime
        self._accept(access)
        answer: Dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": int(lifetime),
        }
        if rotate:
            newest = answer["refresh_token"] = f"emulator-refresh-{secrets.token_urlsafe(24)}"
            self._refresh[newest] = sign_in
            self._newest[sign_in] = newest
        return answer

    def _end(self, sign_in: Optional[int]) -> None:
        if sign_in is not None:
            self._newest.pop(sign_in, None)
            for access in self._access[sign_in]:
                self._revoke(access)
