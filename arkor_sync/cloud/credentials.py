"""Who the client is: `~/.arkor/credentials.json`, shared with the TypeScript command line.

Everything runs on the caller's thread. Only `ensure_credentials` and `request_anonymous_token` use
the network.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Dict, Optional, Union

from arkor_sync._common.arguments import show
from arkor_sync._common.files import locked, write_atomically
from arkor_sync._common.json import dump_json, parse_json
from arkor_sync.cloud.http import HttpClient, build_url, decode_json
from arkor_sync.cloud.models import AnonymousToken
from arkor_sync.cloud.record import Record
from arkor_sync.errors import (
    AnonymousTokenRejectedError,
    ArkorUsageError,
    CloudApiError,
    CredentialsError,
    ResponseError,
)

DEFAULT_BASE_URL = "https://api.arkor.ai"

_logger = logging.getLogger("arkor_sync.credentials")


@dataclass(frozen=True)
class AnonymousCredentials(Record):
    """An anonymous identity. It owns one organisation and cannot be refreshed.

    Attributes:
        token: The bearer; not shown by `repr`.
        anonymous_id: `anonymousId`.
        arkor_cloud_api_url: `arkorCloudApiUrl`, the base URL that issued the token.
        org_slug: `orgSlug`, the organisation that came with the token.
    """

    mode: ClassVar[str] = "anon"

    token: str = field(repr=False)
    anonymous_id: str
    arkor_cloud_api_url: Optional[str]
    org_slug: str
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @property
    def bearer(self) -> str:
        """What the authorisation header carries."""
        return self.token


@dataclass(frozen=True)
class OAuthCredentials(Record):
    """A signed-in account. The client refreshes its access token before it ends.

    What was read from a file is written back there, and shared with every process that reads it.
    Other credentials are refreshed in memory, by each client for itself.

    Attributes:
        access_token: The bearer; not shown by `repr`.
        refresh_token: Not shown either.
        expires_at: Epoch seconds at which the access token ends.
        auth0_domain: The identity provider's host.
        audience: What the token is for.
        client_id: The identity provider's name for this application.
        arkor_cloud_api_url: `arkorCloudApiUrl`, or `None` in files of older versions.
        path: The file that `read_credentials` read this from, else `None`.
    """

    mode: ClassVar[str] = "oauth"
    path: ClassVar[Optional[Path]] = None  # of the class, because it is not part of the file

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: int
    auth0_domain: str
    audience: str
    client_id: str
    arkor_cloud_api_url: Optional[str] = None
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @property
    def bearer(self) -> str:
        """What the authorisation header carries."""
        return self.access_token


@dataclass(frozen=True)
class TokenCredentials:
    """A bare token, as `ARKOR_TOKEN` gives it. It is never written to a file.

    Attributes:
        token: The bearer; not shown by `repr`.
        arkor_cloud_api_url: The base URL to use it with, or `None` for the default.
    """

    token: str = field(repr=False)
    arkor_cloud_api_url: Optional[str] = None

    @property
    def bearer(self) -> str:
        """What the authorisation header carries."""
        return self.token


Credentials = Union[AnonymousCredentials, OAuthCredentials, TokenCredentials]


def credentials_path() -> Path:
    """Return `~/.arkor/credentials.json`, with the home directory of this moment."""
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise CredentialsError("there is no home directory; set HOME, or give ARKOR_TOKEN")
    return Path(home, ".arkor", "credentials.json")


def read_credentials(path: Union[str, Path, None] = None) -> Optional[Credentials]:
    """Read the credentials file.

    Args:
        path: The file, or `None` for `~/.arkor/credentials.json`.

    Returns:
        The credentials; `None` if there is no file or it is not JSON.

    Raises:
        CredentialsError: It cannot be read, or it is JSON without usable credentials.
    """
    path = Path(path or credentials_path())
    try:
        data = parse_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {_reason(error)}") from error
    try:
        found = _decode(data)
    except ResponseError as error:
        raise CredentialsError(
            f"{path} is not usable: {error}; sign in again, or remove the file"
        ) from error
    if isinstance(found, OAuthCredentials):
        object.__setattr__(found, "path", Path(os.path.abspath(path)))
    return found


def _decode(data: Any) -> Union[AnonymousCredentials, OAuthCredentials]:
    if not isinstance(data, dict):
        raise ResponseError(f"expected an object, got {show(data)}")
    fields = dict(data)
    mode = fields.pop("mode", None)
    if not isinstance(fields.get("arkorCloudApiUrl"), str):
        fields["arkorCloudApiUrl"] = None
    if mode == "anon":
        return AnonymousCredentials.from_dict(fields)
    if mode in ("oauth", "auth0"):  # the second is what older versions wrote
        return OAuthCredentials.from_dict(fields)
    raise ResponseError(f"mode: expected 'anon' or 'oauth', got {show(mode)}")


def write_credentials(credentials: Credentials, path: Union[str, Path, None] = None) -> None:
    """Replace the credentials file as a whole; it is readable by its owner only (0600).

    Raises:
        CredentialsError: It cannot be written; what was there is left as it was.
        ArkorUsageError: These credentials are not kept in a file.
    """
    if isinstance(credentials, TokenCredentials):
        raise ArkorUsageError("a bare token is not kept in the credentials file")
    path = Path(path or credentials_path())
    wire = {"mode": credentials.mode, **credentials.to_dict()}
    if credentials.arkor_cloud_api_url is None:
        del wire["arkorCloudApiUrl"]
    try:
        write_atomically(path, dump_json(wire), 0o600)
    except OSError as error:
        raise CredentialsError(f"{path} cannot be written: {_reason(error)}") from error


def ensure_credentials(
    base_url: Optional[str] = None, *, http: Optional[HttpClient] = None
) -> Credentials:
    """Find credentials: `ARKOR_TOKEN`, else the file, else a new anonymous identity.

    A new identity is written to the file. Processes that need one at the same time wait for each
    other and share it.

    Args:
        base_url: Where to ask for a new identity; `None` for `ARKOR_CLOUD_API_URL` or the default.
        http: How to make that request.

    Raises:
        CredentialsError: The file is not usable, or cannot be written.
        AnonymousTokenRejectedError: The cloud issues no anonymous tokens. Nothing was written.
        ArkorConnectionError: The cloud cannot be reached.
    """
    token = os.environ.get("ARKOR_TOKEN", "").strip()
    if token:
        return TokenCredentials(token)
    path = credentials_path()
    found = read_credentials(path)
    if found:
        return found
    try:
        lock = locked(path.parent)
    except OSError as error:
        raise CredentialsError(f"{path} cannot be written: {_reason(error)}") from error
    with lock:
        found = read_credentials(path)
        if found:
            return found  # another process was first
        if path.exists():
            _logger.warning("%s is not JSON; replacing it with a new anonymous identity", path)
        base_url = (resolve_base_url() if base_url is None else base_url).rstrip("/")
        issued = request_anonymous_token(base_url, http=http)
        minted = AnonymousCredentials(
            issued.token, issued.anonymous_id, base_url, issued.personal_org.slug
        )
        write_credentials(minted, path)
        return minted


def request_anonymous_token(base_url: str, *, http: Optional[HttpClient] = None) -> AnonymousToken:
    """Ask for a new anonymous identity (`POST /v1/auth/anonymous`).

    Raises:
        AnonymousTokenRejectedError: The cloud refused; `__cause__` is the `CloudApiError`.
        ArkorConnectionError: The cloud cannot be reached.
        ResponseError: The answer does not have the documented shape.
    """
    url = build_url(base_url, "v1", "auth", "anonymous")
    try:
        body = (http or HttpClient()).fetch("POST", url, body={"kind": "cli"})
    except CloudApiError as error:
        raise AnonymousTokenRejectedError(error.status, error.body) from error
    return AnonymousToken.from_dict(decode_json(body, "the anonymous token", secret=True))


def resolve_base_url(credentials: Optional[Credentials] = None) -> str:
    """Find the cloud's base URL, without trailing slashes.

    Returns:
        `ARKOR_CLOUD_API_URL` if it is set (even empty, so that the first request fails), else the
        URL in the credentials, else the production cloud.
    """
    url = os.environ.get("ARKOR_CLOUD_API_URL")
    if url is None:
        url = getattr(credentials, "arkor_cloud_api_url", None)
    return url.rstrip("/") if isinstance(url, str) else DEFAULT_BASE_URL


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
