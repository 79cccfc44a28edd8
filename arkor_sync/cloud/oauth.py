"""Tokens that expire: an account's are refreshed before they do, and when the cloud refuses one.

Any thread may ask. The refresh runs on a thread of its own, one at a time, so that whoever waits
for it may leave at once while it is seen to its end: the answer may hold the only refresh token
that is still good.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import re
import threading
import time
from concurrent.futures import Future, wait
from contextlib import closing, nullcontext
from typing import Any, Callable, ContextManager, Dict, Optional, Tuple

import requests
from requests.structures import CaseInsensitiveDict

from arkor_sync._common.files import locked
from arkor_sync._common.json import parse_json
from arkor_sync.cloud.client_version import USER_AGENT
from arkor_sync.cloud.credentials import OAuthCredentials, read_credentials, write_credentials
from arkor_sync.cloud.http import read_body
from arkor_sync.cloud.record import checked
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorTimeoutError,
    CredentialsError,
    ResponseError,
)

MARGIN = 60.0  # seconds before its end at which a token is replaced
PATIENCE = 60.0  # seconds that a request waits for a refresh, whatever holds it up

_TIMEOUT = (10.0, 20.0)  # seconds to connect, and of silence
_TICK = 0.05  # seconds between two looks at whether the request was interrupted
_MAX_BYTES = 64 * 1024
_CODES = ("invalid_grant", "invalid_request", "invalid_client", "unauthorized_client")
_LIFETIME = 3600.0  # seconds, where the answer does not say; too long costs one refused request
_NOT_KEPT = "%s; the refreshed tokens last as long as this process, then sign in again"

_logger = logging.getLogger("arkor_sync.credentials")


class Refresher:
    """Keeps the tokens of one account fresh, in memory and in the file they were read from.

    Args:
        credentials: The account, as it was given or read.
        session: A session whose proxies and certificates are taken over. Its headers are not: they
            are meant for another server.
        clock: Epoch seconds.
    """

    def __init__(
        self,
        credentials: OAuthCredentials,
        session: Optional[requests.Session] = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._current = credentials
        self._path = credentials.path
        self._in_file = credentials.access_token  # as of the last look at the file
        self._refused: Optional[str] = None  # a refresh token
        self._session = session
        self._clock = clock
        self._reset()

    def _reset(self) -> None:
        self._refresh: Optional[Future[OAuthCredentials]] = None
        self._lock = threading.Lock()
        self._pid = os.getpid()  # last: whoever sees it uses the new lock

    def fresh(
        self, rejected: Optional[str] = None, transport: Optional[Transport] = None
    ) -> OAuthCredentials:
        """Return credentials whose token is good for a while, and is not the rejected one.

        Args:
            rejected: An access token that the cloud answered 401 to.
            transport: Interrupting it ends the wait for a refresh, within 100 ms.

        Raises:
            CredentialsError: The account has to sign in again.
            ArkorConnectionError: The identity provider did not answer, and there is no token that
                is still good.
        """
        refresh = self._begin(rejected)
        if refresh is None:
            return self._current
        failure: Optional[BaseException] = ArkorTimeoutError("refreshing the token: timed out")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if wait([refresh], _TICK).done:
                failure = refresh.exception()
                break
            if transport is not None and transport.interrupted:
                raise ArkorConnectionError("refreshing the token: interrupted")
        if failure is None:
            return refresh.result()
        current = self._current
        remaining = current.expires_at - self._clock()
        is_good = remaining > 0 and current.access_token != rejected
        if not is_good or not isinstance(failure, ArkorConnectionError):
            raise copy.copy(failure)  # others wait for the same, and its chain holds the request
        _logger.warning("%s; the token at hand is good for another %.0f s", failure, remaining)
        return current

    def _begin(self, rejected: Optional[str]) -> Optional[Future[OAuthCredentials]]:
        """Begin a refresh or join the one under way; None if none is needed."""
        if self._pid != os.getpid():
            self._reset()  # a forked child has neither the thread nor, for sure, the lock
        with self._lock:
            if self._current.access_token != rejected and not self._is_due(self._current):
                return None
            if self._refresh is None:
                refresh: Future[OAuthCredentials] = Future()
                threading.Thread(
                    target=self._main, args=(refresh, rejected), name="arkor-refresh", daemon=True
                ).start()
                self._refresh = refresh
            return self._refresh

    def _is_due(self, credentials: OAuthCredentials) -> bool:
        return self._clock() >= credentials.expires_at - MARGIN

    def _main(self, refresh: Future[OAuthCredentials], rejected: Optional[str]) -> None:
        try:
            renewed = self._renew(rejected)
        except BaseException as error:  # whatever it is, those who wait must hear of it
            with self._lock:
                self._refresh = None
            refresh.set_exception(error)
        else:
            with self._lock:
                self._current, self._refresh = renewed, None
            refresh.set_result(renewed)

    def _renew(self, rejected: Optional[str]) -> OAuthCredentials:
        """Take newer tokens from the file, or else from the identity provider."""
        with self._file_lock():
            current, stored = self._current, self._read()
            if stored is None:
                return dataclasses.replace(current, **self._request(current))
            if stored.access_token != self._in_file:  # another process was first
                self._in_file = stored.access_token
                self._current = current = stored
                if stored.access_token != rejected and not self._is_due(stored):
                    return stored
            renewed = dataclasses.replace(stored, **self._request(current))
            if self._read() == stored:  # other programs sign in and out without the lock
                self._write(renewed)
            return renewed

    def _file_lock(self) -> ContextManager[None]:
        try:
            return locked(self._path.parent) if self._path else nullcontext()
        except OSError:
            return nullcontext()

    def _read(self) -> Optional[OAuthCredentials]:
        """Read the file, unless it has gone or belongs to somebody else by now."""
        if self._path is None:
            return None
        try:
            stored = read_credentials(self._path)
        except CredentialsError as error:
            _logger.warning(_NOT_KEPT, str(error))
            return None
        if isinstance(stored, OAuthCredentials) and _account(stored) == _account(self._current):
            return stored
        return None

    def _write(self, renewed: OAuthCredentials) -> None:
        try:
            write_credentials(renewed, self._path)
        except CredentialsError as error:
            _logger.warning(_NOT_KEPT, str(error))

    def _request(self, account: OAuthCredentials) -> Dict[str, Any]:
        """Ask the identity provider for tokens (`POST https://<auth0Domain>/oauth/token`).

        Returns:
            The fields of the credentials that change.
        """
        host = account.auth0_domain
        if not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]+)?", host):
            raise CredentialsError(f"auth0Domain: {host!r:.80} is not a host; sign in again")
        if account.refresh_token == self._refused:
            raise CredentialsError(f"{host} has refused to refresh the access token; sign in again")
        try:
            status, body = self._post(f"https://{host}/oauth/token", account)
        except ArkorConnectionError as error:
            raise type(error)(f"refreshing the token: {error}") from None
        try:
            answer = checked(dict, parse_json(body), "")
        except (ValueError, ResponseError):
            answer = {}
        if status in (400, 401, 403):
            self._refused = account.refresh_token
            code = answer.get("error")
            said = f"{status} {code}" if code in _CODES else str(status)  # it may repeat the token
            raise CredentialsError(
                f"{host} refused to refresh the access token ({said}); sign in again"
            )
        if not 200 <= status < 300:
            raise ArkorConnectionError(f"refreshing the token: {host} answered with {status}")
        try:
            return _decode(answer, account.refresh_token, int(self._clock()))
        except ResponseError as error:
            raise ArkorConnectionError(f"refreshing the token: {error}") from None

    def _post(self, url: str, account: OAuthCredentials) -> Tuple[int, bytes]:
        template = copy.copy(self._session)
        if template is not None:
            template.headers = CaseInsensitiveDict()
        request = {
            "grant_type": "refresh_token",
            "client_id": account.client_id,
            "refresh_token": account.refresh_token,
        }
        with Transport(template) as transport:
            response = transport.request(
                "POST",
                url,
                timeout=_TIMEOUT,
                headers={"Accept": "application/json", "User-Agent": USER_AGENT},
                json=request,
                stream=True,
            )
            with closing(response):
                return response.status_code, read_body(response, _MAX_BYTES)


def _decode(answer: Dict[str, Any], refresh_token: str, now: int) -> Dict[str, Any]:
    access_token = checked(str, answer.get("access_token"), "access_token", secret=True)
    if not re.fullmatch(r"[!-~]+", access_token):
        raise ResponseError("access_token: expected what a header can carry")
    lifetime, rotated = answer.get("expires_in"), answer.get("refresh_token")
    if not isinstance(lifetime, (int, float)) or not 0 < lifetime < 1e12:
        lifetime = _LIFETIME
    return {
        "access_token": access_token,
        "refresh_token": rotated if rotated and isinstance(rotated, str) else refresh_token,
        "expires_at": now + int(lifetime),
    }


def _account(credentials: OAuthCredentials) -> Tuple[Optional[str], ...]:
    return (
        credentials.auth0_domain,
        credentials.client_id,
        credentials.audience,
        credentials.arkor_cloud_api_url,
    )
