"""Signing in and out: with an account in a browser, or anonymously. Runs on the caller's thread.

With an account it is the authorization code flow with PKCE (RFC 7636), for a program of this
machine (RFC 8252): the user signs in at the identity provider, which sends the browser back to a
port of the loopback, with a code that only this process can exchange for tokens.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union
from urllib.parse import urlencode

from arkor_sync._common.arguments import MAX_SECONDS, check, is_number
from arkor_sync._common.browser import can_open, open_page
from arkor_sync._common.log import get_logger
from arkor_sync._common.paths import absolute, reason_of
from arkor_sync._common.secret import Secret
from arkor_sync._common.text import safe_line
from arkor_sync.cloud.callback_server import CallbackServer
from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    C,
    OAuthCredentials,
    credentials_path,
    find_base_url,
    keep_old,
    locked_file,
    make_anonymous_identity,
    read_credentials,
    read_from,
    write_credentials,
)
from arkor_sync.cloud.http import HttpClient, decode_answer
from arkor_sync.cloud.identity_provider import decode_tokens, provider_url, request_tokens
from arkor_sync.cloud.record import Record
from arkor_sync.cloud.request_facts import GIVEN, Origin, not_arkor
from arkor_sync.cloud.urls import build_url, check_base_url
from arkor_sync.errors import ArkorConnectionError, CredentialsError, ResponseError, SignInTimeout

SCOPES = "openid profile email offline_access"

_logger = get_logger("arkor_sync.credentials")

PathLike = Union[str, Path, None]


@dataclass(frozen=True)
class SignInConfig(Record):
    """The answer of `GET /v1/auth/cli/config`: how to sign in with an account.

    Attributes:
        auth0_domain: `auth0Domain`, the host of the identity provider.
        client_id: `clientId`, its name for this application.
        audience: The API that the token is for.
        callback_ports: `callbackPorts`, the ports that the browser may come back to.
    """

    auth0_domain: Optional[str] = None
    client_id: Optional[str] = None
    audience: Optional[str] = None
    callback_ports: Optional[List[int]] = field(default=None, hash=False)
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @property
    def offers_accounts(self) -> bool:
        """Whether one can sign in with an account; else there are only anonymous identities."""
        return bool(self.auth0_domain and self.client_id and self.audience)


def read_sign_in_config(
    base_url: Optional[str] = None, *, http: Optional[HttpClient] = None
) -> SignInConfig:
    """Ask the cloud how to sign in with an account (`GET /v1/auth/cli/config`).

    Args:
        base_url: The cloud; `None` for `ARKOR_CLOUD_API_URL` or the default.
        http: Makes the request; `None` for the default settings.

    Raises:
        CloudApiError: The cloud refused.
        ArkorConnectionError: The cloud cannot be reached.
        ResponseError: The answer does not have the documented shape.
    """
    return _read_config(*_address(base_url), http or HttpClient())


def _address(base_url: Optional[str]) -> Tuple[str, str]:
    """Return the base URL, and where it was found; that of old credentials does not count."""
    base_url, found = find_base_url() if base_url is None else (base_url, GIVEN)
    return check_base_url(base_url), found


def _read_config(base_url: str, address: str, http: HttpClient) -> SignInConfig:
    url = build_url(base_url, "v1", "auth", "cli", "config")
    body = http.fetch("GET", url, address=address)
    try:
        config: SignInConfig = decode_answer(body, SignInConfig)
    except ResponseError as error:
        raise ResponseError(f"GET {url}: {error}; {not_arkor(url, Origin('', address))}") from None
    return config


def sign_in(
    base_url: Optional[str] = None,
    *,
    open_browser: bool = True,
    on_url: Optional[Callable[[str], object]] = None,
    timeout: float = 300.0,
    path: PathLike = None,
    http: Optional[HttpClient] = None,
) -> OAuthCredentials:
    """Sign in with an account, in a browser, and write the credentials file.

    It waits until the user has answered in the browser. Ctrl-C ends that at once; then, and after
    every error, the file is as it was.

    Args:
        base_url: The cloud; `None` for `ARKOR_CLOUD_API_URL` or the default.
        open_browser: Whether to open the page of the identity provider, where there is a screen or
            `BROWSER` is set. That it cannot be opened is no error: the user may open it.
        on_url: Called with the address of the page. By default it is printed on standard error.
        timeout: Seconds to wait for the user.
        path: The file; `None` for `~/.arkor/credentials.json`.
        http: Makes the requests to the cloud; `None` for the default settings.

    Returns:
        The account, as it is in the file.

    Raises:
        ArkorUsageError: An argument cannot work.
        SignInTimeout: The user did not answer in time.
        CredentialsError: The cloud has no accounts; no port is free; the user or the identity
            provider refused; or the file cannot be written.
        CloudApiError: The cloud refused to say how to sign in.
        ArkorConnectionError: The cloud or the identity provider cannot be reached.
        ResponseError: An answer does not have the documented shape.
    """
    fits = is_number(timeout) and 0 < timeout <= MAX_SECONDS
    check("timeout", timeout, fits, f"seconds above 0, at most {MAX_SECONDS}")
    path = Path(absolute(path or credentials_path()))
    http = http or HttpClient()
    base_url, address = _address(base_url)
    config = _read_config(base_url, address, http)
    if not config.offers_accounts:
        raise CredentialsError(
            f"{base_url} has no sign-in with an account; sign in anonymously, or set ARKOR_TOKEN"
        )
    domain = str(config.auth0_domain)
    try:
        provider = provider_url(domain)
    except ValueError as error:
        raise ResponseError(f"{base_url}: {error}") from None
    verifier, state = Secret(secrets.token_urlsafe(32)), secrets.token_urlsafe(16)
    with CallbackServer(config.callback_ports or (), state) as server:
        query = {
            "response_type": "code",
            "client_id": config.client_id,
            "redirect_uri": server.redirect_uri,
            "scope": SCOPES,
            "audience": config.audience,
            "state": state,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        # What is no character cannot be in an address: the provider refuses what takes its place.
        url = f"{provider}/authorize?{urlencode(query, errors='replace')}"
        (on_url or _print_url)(url)
        if open_browser and can_open():
            open_page(url)
        callback = server.wait(timeout)
        if callback is None:
            raise SignInTimeout(_late(timeout, server.ignored))
    if callback.error:
        raise CredentialsError(f"{domain} did not sign you in: {callback.error}")
    tokens = _exchange(
        provider,
        {
            "grant_type": "authorization_code",
            "code": callback.code,
            "code_verifier": verifier,
            "client_id": config.client_id,
            "redirect_uri": server.redirect_uri,
        },
        http,
    )
    account = OAuthCredentials(
        **tokens,
        auth0_domain=domain,
        audience=str(config.audience),
        client_id=str(config.client_id),
        arkor_cloud_api_url=base_url,
    )
    return _replace(account, path, http)


def sign_in_anonymously(
    base_url: Optional[str] = None,
    *,
    path: PathLike = None,
    http: Optional[HttpClient] = None,
) -> AnonymousCredentials:
    """Make a new anonymous identity, and write the credentials file.

    Args:
        base_url: The cloud; `None` for `ARKOR_CLOUD_API_URL` or the default.
        path: The file; `None` for `~/.arkor/credentials.json`.
        http: Makes the request; `None` for the default settings.

    Returns:
        The identity, as it is in the file.

    Raises:
        AnonymousTokenRejectedError: The cloud issues no anonymous tokens. Nothing was written.
        CredentialsError: The file cannot be written.
        ArkorConnectionError: The cloud cannot be reached.
        ResponseError: The answer does not have the documented shape.
    """
    path = Path(absolute(path or credentials_path()))
    http = http or HttpClient()
    return _replace(make_anonymous_identity(base_url, http), path, http)


def sign_out(path: PathLike = None) -> bool:
    """Remove the credentials file, also one that is not usable.

    An anonymous identity cannot be had again: its jobs are out of reach then.

    Args:
        path: The file; `None` for `~/.arkor/credentials.json`.

    Returns:
        Whether there was one.

    Raises:
        CredentialsError: It cannot be removed.
    """
    path = Path(absolute(path or credentials_path()))
    if not is_there(path):
        return False
    with locked_file(path, HttpClient().patience):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CredentialsError(f"{path} cannot be removed: {reason_of(error)}") from error
    return True


def is_there(path: Path) -> bool:
    """Whether there is a credentials file, whatever it holds, or a link in its place.

    Raises:
        CredentialsError: That cannot be found out: its directory may not be looked into.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise CredentialsError(f"{path} cannot be removed: {reason_of(error)}") from error
    return True


def _replace(credentials: C, path: Path, http: HttpClient) -> C:
    """Write the file, and keep what cannot be had again: an anonymous identity, or unusable text.

    It is locked, so that a refresh of the tokens before does not write over the new ones.
    """
    with locked_file(path, http.patience):
        try:
            lost = path.exists() and not isinstance(read_credentials(path), OAuthCredentials)
        except CredentialsError:
            lost = not path.is_dir()
        if lost:
            _logger.warning("what %s held before is in %s", path, keep_old(path).name)
        write_credentials(credentials, path)
    return read_from(credentials, path)


def _exchange(url: str, fields: Dict[str, Any], http: HttpClient) -> Dict[str, Any]:
    """Exchange the code for tokens. It is good for once, so this is not tried again."""
    again = "sign in again"
    try:
        status, answer = request_tokens(
            url, fields, http.template, "the auth0Domain of the cloud's sign-in config"
        )
    except ArkorConnectionError as error:
        raise type(error)(f"exchanging the code for tokens: {error}; {again}") from None
    if not 200 <= status < 300:
        said = (answer.get(name) for name in ("error", "error_description"))
        text = ": ".join(safe_line(each) for each in said if isinstance(each, str))
        problem = f"{url} gave no tokens for the code: {status}{text and f' {text}'}; {again}"
        raise (ArkorConnectionError if status >= 500 else CredentialsError)(problem)
    try:
        tokens = decode_tokens(answer, int(time.time()))
    except ResponseError as error:
        raise ResponseError(f"{url}/oauth/token: {error}; {again}") from None
    if tokens["refresh_token"] is None:
        raise CredentialsError(
            f"{url} gave no refresh_token, so the sign-in would end with its first access token: "
            "the identity provider has to allow the scope offline_access for this API and client"
        )
    return tokens


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _print_url(url: str) -> None:
    sys.stderr.write(f"Open this page to sign in:\n{url}\n")
    sys.stderr.flush()


def _late(timeout: float, ignored: int) -> str:
    text = f"nobody signed in within {timeout:g} s; nothing was changed"
    if ignored:
        text += (
            f"; {ignored} answers came from the browser that belong to another sign-in, and were "
            "ignored: perhaps an old page was open"
        )
    return text
