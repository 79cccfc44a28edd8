"""Refreshes the tokens of an account, before they expire and after a 401. Any thread.

Any thread may ask for credentials. The refresh itself runs on a thread of its own (`arkor-refresh`)
and is never given up: its answer may hold the only refresh token that still works. So a thread that
waits for a refresh can be interrupted at once, while the refresh continues.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import threading
import time
from concurrent.futures import Future, wait
from contextlib import nullcontext
from functools import partial
from typing import Any, Callable, ContextManager, Dict, Optional, Tuple

import requests

from arkor_sync._common.clock import Clock
from arkor_sync._common.files import locked
from arkor_sync._common.locks import SLICE
from arkor_sync._common.log import get_logger
from arkor_sync._common.threads import OwnThread
from arkor_sync.cloud.credentials import OAuthCredentials, read_credentials, write_credentials
from arkor_sync.cloud.identity_provider import decode_tokens, provider_url, request_tokens
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorTimeoutError,
    CredentialsError,
    ResponseError,
)

REFRESH_MARGIN = 60.0  # seconds; a token that expires within them is refreshed first
MAX_WAIT = 60.0  # seconds that a request waits for a refresh

# The error codes that no later attempt can change: of RFC 6749 (section 5.2 and access_denied),
# OpenID Connect and Auth0. All else may be the page of a proxy, or passes by itself, as
# temporarily_unavailable and server_error do: that counts as a lost connection.
_FINAL_STATUSES = (400, 401, 403)
_FINAL_ERRORS = (
    *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"),
    *("unsupported_grant_type", "invalid_scope", "access_denied"),
    *("interaction_required", "login_required", "consent_required", "mfa_required"),
)
_NOT_SAVED = "%s; the refreshed tokens are lost when this process ends; sign in again after that"

_logger = get_logger("arkor_sync.credentials")


class Refresher:
    """Refreshes the tokens of one account, in memory and in the file they were read from.

    Args:
        credentials: The account, as it was given or read.
        template: A `requests` session whose proxies and certificates are copied. Its headers are
            not: they are meant for another server.
        patience: Seconds that a request waits for a refresh, `MAX_WAIT` at most.
        clock: Returns the time in seconds since 1970.
    """

    def __init__(
        self,
        credentials: OAuthCredentials,
        template: Optional[requests.Session] = None,
        *,
        patience: float = MAX_WAIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._current = credentials
        self._path = credentials.path
        self._in_file = credentials.access_token  # the one in the file when it was last read
        self._refused: Optional[str] = None  # the refresh token that was refused
        self._template = template
        self._patience = patience
        self._clock = clock
        self._reset_locks()

    def _reset_locks(self) -> None:
        self._refresh: Optional[Future[OAuthCredentials]] = None
        self._lock = threading.Lock()
        self._pid = os.getpid()  # last: a thread that sees this process's id uses the new lock

    def valid_credentials(
        self, rejected: Optional[str] = None, transport: Optional[Transport] = None
    ) -> OAuthCredentials:
        """Return credentials whose token does not expire soon and is not the rejected one.

        Args:
            rejected: An access token that the cloud answered 401 to.
            transport: Interrupting it ends the wait for a refresh, within 100 ms.

        Raises:
            CredentialsError: The account must sign in again.
            ArkorConnectionError: The identity provider did not answer, and the current token has
                expired or was rejected.
        """
        refresh = self._start_refresh(rejected)
        if refresh is None:
            return self._current
        failure: Optional[BaseException] = ArkorTimeoutError("refreshing the token: timed out")
        deadline = Clock.now() + min(MAX_WAIT, self._patience)
        while Clock.now() < deadline:
            if wait([refresh], SLICE).done:
                failure = refresh.exception()
                break
            if transport is not None and transport.interrupted:
                raise ArkorConnectionError("refreshing the token: interrupted")
        if failure is None:
            return refresh.result()
        current = self._current
        remaining = current.expires_at - self._clock()
        is_usable = remaining > 0 and current.access_token != rejected
        if not is_usable or not isinstance(failure, ArkorConnectionError):
            # A copy: other threads raise the same error, and its context holds the request.
            raise copy.copy(failure)
        _logger.warning(
            "%s; the current token is valid for another %.0f s", str(failure), remaining
        )
        return current

    def _start_refresh(self, rejected: Optional[str]) -> Optional[Future[OAuthCredentials]]:
        """Start a refresh, or return the one that runs; None if none is needed."""
        if self._pid != os.getpid():
            self._reset_locks()  # a forked child has no such thread, and the lock may be held
        with self._lock:
            current = self._current
            is_good = current.access_token != rejected and not self._expires_soon(current)
            if is_good or not current.refresh_token:
                return None
            if self._refresh is None:
                refresh: Future[OAuthCredentials] = Future()
                try:
                    OwnThread(
                        partial(self._run_refresh, refresh, rejected), "arkor-refresh"
                    ).start()
                except (RuntimeError, MemoryError) as error:
                    text = f"refreshing the token: this process cannot start a thread ({error})"
                    refresh.set_exception(ArkorConnectionError(text))
                    return refresh  # and the next caller tries again
                self._refresh = refresh
            return self._refresh

    def _expires_soon(self, credentials: OAuthCredentials) -> bool:
        return self._clock() >= credentials.expires_at - REFRESH_MARGIN

    def _run_refresh(self, refresh: Future[OAuthCredentials], rejected: Optional[str]) -> None:
        try:
            renewed = self._renew(rejected)
        except BaseException as error:  # of any kind: threads wait for it
            if isinstance(error, TimeoutError):  # of the lock
                error = ArkorTimeoutError(f"refreshing the token: {error}")
            with self._lock:
                self._refresh = None
            refresh.set_exception(error)
        else:
            with self._lock:
                self._current, self._refresh = renewed, None
            refresh.set_result(renewed)

    def _renew(self, rejected: Optional[str]) -> OAuthCredentials:
        """Return newer tokens, from the file if another process has written some, or requested."""
        with self._file_lock():
            current, stored = self._current, self._read()
            if stored is None:
                return dataclasses.replace(current, **self._request_tokens(current))
            if stored.access_token != self._in_file:  # another process has refreshed them
                self._in_file = stored.access_token
                self._current = current = stored
                if stored.access_token != rejected and not self._expires_soon(stored):
                    return stored
            renewed = dataclasses.replace(stored, **self._request_tokens(current))
            if self._read() == stored:  # other programs write it without the lock
                self._write(renewed)
            return renewed

    def _file_lock(self) -> ContextManager[None]:
        try:
            return locked(self._path.parent, MAX_WAIT / 2) if self._path else nullcontext()
        except OSError:
            return nullcontext()

    def _read(self) -> Optional[OAuthCredentials]:
        """Read the file; None if there is none, or it holds another account by now."""
        if self._path is None:
            return None
        try:
            stored = read_credentials(self._path)
        except CredentialsError as error:
            _logger.warning(_NOT_SAVED, str(error))
            return None
        if isinstance(stored, OAuthCredentials) and _account_key(stored) == _account_key(
            self._current
        ):
            return stored
        return None

    def _write(self, renewed: OAuthCredentials) -> None:
        try:
            write_credentials(renewed, self._path)
        except CredentialsError as error:
            _logger.warning(_NOT_SAVED, str(error))

    def _request_tokens(self, account: OAuthCredentials) -> Dict[str, Any]:
        """Request tokens of the identity provider (`POST https://<auth0Domain>/oauth/token`).

        Returns:
            The fields of the credentials that change.
        """
        host = account.auth0_domain
        file = f" of {self._path}" if self._path else ""
        try:
            url = provider_url(host)
        except ValueError as error:
            raise CredentialsError(f"{error}{file}; sign in again") from None
        if account.refresh_token in (None, self._refused):
            raise CredentialsError(
                f"{host} does not refresh the access token{file} any more; sign in again"
            )
        fields = {
            "grant_type": "refresh_token",
            "client_id": account.client_id,
            "refresh_token": account.refresh_token,
        }
        try:
            status, answer = request_tokens(
                url, fields, self._template, "the auth0Domain of the credentials"
            )
        except ArkorConnectionError as error:
            raise type(error)(f"refreshing the token: {error}") from None
        code = answer.get("error")
        if status in _FINAL_STATUSES and code in _FINAL_ERRORS:
            self._refused = account.refresh_token
            raise CredentialsError(
                f"{host} refused to refresh the access token{file} ({status} {code}); sign in again"
            )
        if not 200 <= status < 300:
            raise ArkorConnectionError(f"refreshing the token: {host} answered with {status}")
        try:
            tokens = decode_tokens(answer, int(self._clock()))
        except ResponseError as error:
            raise ArkorConnectionError(f"refreshing the token: {error}") from None
        tokens["refresh_token"] = tokens["refresh_token"] or account.refresh_token
        return tokens


def _account_key(credentials: OAuthCredentials) -> Tuple[Optional[str], ...]:
    return (
        credentials.auth0_domain,
        credentials.client_id,
        credentials.audience,
        credentials.arkor_cloud_api_url,
    )
