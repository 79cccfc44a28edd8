"""The user's credentials, in the file `~/.arkor/credentials.json`. Runs on the caller's thread.

The file is shared with the TypeScript command line. Only `ensure_credentials` and
`request_anonymous_token` use the network. The cause of an error is a copy where the original was
raised in functions that have the content of the file: a report may show the variables.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Dict, Iterator, Literal, Optional, Tuple, TypeVar, Union

from arkor_sync._common.arguments import refusal, show
from arkor_sync._common.environment import home_directory, variable
from arkor_sync._common.files import keep_copy, locked, read_text, write_atomically
from arkor_sync._common.json import dump_json, parse_json
from arkor_sync._common.log import get_logger
from arkor_sync._common.paths import absolute, reason_of
from arkor_sync._common.secret import Secret, hide_secrets
from arkor_sync._common.text import safe_text
from arkor_sync.cloud.http import HttpClient, decode_json
from arkor_sync.cloud.models import AnonymousToken
from arkor_sync.cloud.record import Record
from arkor_sync.cloud.request_facts import FROM_VARIABLE, GIVEN, OF_CREDENTIALS, Origin, not_arkor
from arkor_sync.cloud.urls import build_url
from arkor_sync.errors import (
    AnonymousTokenRejectedError,
    CloudApiError,
    CredentialsError,
    ResponseError,
)

DEFAULT_BASE_URL = "https://api.arkor.ai"

_logger = get_logger("arkor_sync.credentials")


@dataclass(frozen=True)
class AnonymousCredentials(Record):
    """An anonymous identity. It owns one organisation, and its token cannot be refreshed.

    Attributes:
        token: The bearer; not shown by `repr`.
        anonymous_id: `anonymousId`.
        arkor_cloud_api_url: `arkorCloudApiUrl`, the base URL that issued the token.
        org_slug: `orgSlug`, the organisation that came with the token.
    """

    mode: ClassVar[Literal["anon"]] = "anon"
    source: ClassVar[str] = GIVEN  # no field, because it is not in the file

    token: str = field(repr=False)
    anonymous_id: str
    arkor_cloud_api_url: Optional[str]
    org_slug: str
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        _hide(self, "token")

    @property
    def bearer(self) -> str:
        """The token in the authorisation header."""
        return self.token


@dataclass(frozen=True)
class OAuthCredentials(Record):
    """A signed-in account. The client refreshes its access token before it expires.

    Without a refresh token it is used as it is, until the cloud answers 401.

    Tokens that were read from a file are written back to it, and so shared with all processes that
    read it. Other tokens are refreshed in memory, by each client for itself.

    Attributes:
        access_token: `accessToken`, the bearer; not shown by `repr`.
        refresh_token: `refreshToken`, or `None`; not shown by `repr`.
        expires_at: `expiresAt`, when the access token expires, in seconds since 1970.
        auth0_domain: `auth0Domain`, the host of the identity provider.
        audience: The API that the token is for.
        client_id: `clientId`, the identity provider's name for this application.
        arkor_cloud_api_url: `arkorCloudApiUrl`, or `None` in files of older versions.
        path: The file that `read_credentials` read this from, else `None`.
    """

    mode: ClassVar[Literal["oauth"]] = "oauth"
    path: ClassVar[Optional[Path]] = None  # no fields, because these are not in the file
    source: ClassVar[str] = GIVEN

    access_token: str = field(repr=False)
    refresh_token: Optional[str] = field(repr=False)
    expires_at: int
    auth0_domain: str
    audience: str
    client_id: str
    arkor_cloud_api_url: Optional[str] = None
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        _hide(self, "access_token", "refresh_token")

    @property
    def bearer(self) -> str:
        """The token in the authorisation header."""
        return self.access_token


@dataclass(frozen=True)
class TokenCredentials:
    """A token and nothing else, as in `ARKOR_TOKEN`. It is never written to a file.

    Attributes:
        token: The bearer; not shown by `repr`.
        arkor_cloud_api_url: The base URL to use it with, or `None` for the default.
    """

    source: ClassVar[str] = GIVEN

    token: str = field(repr=False)
    arkor_cloud_api_url: Optional[str] = None

    def __post_init__(self) -> None:
        _hide(self, "token")

    @property
    def bearer(self) -> str:
        """The token in the authorisation header."""
        return self.token


def _hide(credentials: object, *names: str) -> None:
    for name in names:
        value = getattr(credentials, name)
        if isinstance(value, str):
            object.__setattr__(credentials, name, Secret(value))


Credentials = Union[AnonymousCredentials, OAuthCredentials, TokenCredentials]
C = TypeVar("C", bound=Credentials)
CREDENTIALS_TYPES = (AnonymousCredentials, OAuthCredentials, TokenCredentials)


def _found(credentials: C, source: str) -> C:
    """Note where credentials were found: an error says it when their token is refused."""
    object.__setattr__(credentials, "source", source)
    return credentials


def read_from(credentials: C, path: Path) -> C:
    """Note the file that credentials are in."""
    if isinstance(credentials, OAuthCredentials):
        object.__setattr__(credentials, "path", path)
    return _found(credentials, f"from {path}")


def credentials_path() -> Path:
    """Return `~/.arkor/credentials.json`. `HOME` is looked up at each call.

    Raises:
        CredentialsError: There is no home directory.
    """
    home = home_directory()
    if not os.path.isabs(home):
        raise CredentialsError("there is no home directory; set HOME, or give ARKOR_TOKEN")
    return Path(home, ".arkor", "credentials.json")


def read_credentials(path: Union[str, Path, None] = None) -> Optional[Credentials]:
    """Read the credentials file.

    Args:
        path: The file, or `None` for `~/.arkor/credentials.json`.

    Returns:
        The credentials; `None` if there is no file, it is not JSON, or it is `null` or another
        value that JavaScript takes for nothing.

    Raises:
        CredentialsError: It cannot be read, or it is JSON but not credentials.
    """
    path = Path(absolute(path or credentials_path()))
    try:
        data = parse_json(read_text(path))
        data = hide_secrets(data, secret=not isinstance(data, dict))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {reason_of(error)}") from error
    if data in (None, False, 0, ""):
        return None  # as the TypeScript command line has it
    try:
        found = _decode(data)
    except ResponseError as error:
        raise CredentialsError(
            f"{path} is not usable: {error}; sign in again, or remove the file"
        ) from error
    return read_from(found, path)


def _decode(data: Any) -> Union[AnonymousCredentials, OAuthCredentials]:
    if not isinstance(data, dict):
        raise ResponseError(f"expected an object, got {show(data, secret=True)}")
    fields = dict(data)
    mode = fields.pop("mode", None)
    if not isinstance(fields.get("arkorCloudApiUrl"), str):
        fields["arkorCloudApiUrl"] = None
    if mode == "anon":
        return AnonymousCredentials.from_dict(fields)
    if mode in ("oauth", "auth0"):  # older versions wrote auth0
        if not fields.get("refreshToken"):  # the rest of a refresh is not needed then either
            unused = dict.fromkeys(("auth0Domain", "audience", "clientId"), "")
            fields = {"expiresAt": 0, **unused, **fields, "refreshToken": None}
        return OAuthCredentials.from_dict(fields)
    raise ResponseError(f"mode: expected 'anon' or 'oauth', got {show(mode)}")


def write_credentials(credentials: Credentials, path: Union[str, Path, None] = None) -> None:
    """Replace the credentials file, atomically; only its owner can read it (0600).

    Args:
        credentials: What to write.
        path: The file, or `None` for `~/.arkor/credentials.json`.

    Raises:
        CredentialsError: It cannot be written; the old file is not changed.
        ArkorUsageError: These credentials are not kept in a file.
    """
    if isinstance(credentials, TokenCredentials):
        wanted = "AnonymousCredentials or OAuthCredentials; other tokens are not written to a file"
        raise refusal("credentials", credentials, wanted)
    path = Path(absolute(path or credentials_path()))
    wire = {"mode": credentials.mode, **credentials.to_dict()}
    for name in ("arkorCloudApiUrl", "refreshToken"):
        if wire.get(name, "") is None:
            del wire[name]
    try:
        write_atomically(path, dump_json(wire), 0o600)
    except OSError as error:
        raise CredentialsError(f"{path} cannot be written: {reason_of(error)}") from copy(error)


def find_credentials() -> Optional[Credentials]:
    """Find credentials as `ensure_credentials` does; None if there are none. Nobody is signed in.

    Raises:
        CredentialsError: The file is not usable.
    """
    token = Secret(variable("ARKOR_TOKEN") or "")
    return _found(TokenCredentials(token), FROM_VARIABLE) if token else read_credentials()


def ensure_credentials(
    base_url: Optional[str] = None, *, http: Optional[HttpClient] = None
) -> Credentials:
    """Find credentials: `ARKOR_TOKEN`, else the file, else a new anonymous identity.

    A new identity is written to the file, and a warning in the log (`arkor_sync.credentials`) says
    so: perhaps a token was meant to be set. If several processes need an identity at the same time,
    one requests it and the others wait for it.

    Args:
        base_url: Where to request a new identity; `None` for `ARKOR_CLOUD_API_URL` or the default.
        http: Makes that request; `None` for the default settings.

    Raises:
        CredentialsError: The file is not usable, or cannot be written, or another program has
            locked its directory for longer than a request may take.
        AnonymousTokenRejectedError: The cloud issues no anonymous tokens. Nothing was written.
        ResponseError: The cloud's answer does not have the documented shape.
        ArkorConnectionError: The cloud cannot be reached.
    """
    found = find_credentials()
    if found:
        return found
    http = http or HttpClient()
    path = credentials_path()
    with locked_file(path, http.patience):
        found = read_credentials(path)
        if found:
            return found  # another process was first
        if path.exists():
            _logger.warning(
                "%s holds no credentials; replacing it with a new anonymous identity; the old "
                "content is in %s",
                path,
                keep_old(path).name,
            )
        created = make_anonymous_identity(base_url, http)
        write_credentials(created, path)
        _logger.warning(
            "ARKOR_TOKEN is not set and %s held no credentials: made a new anonymous account at "
            "%s, and kept it in that file; the jobs will belong to this account",
            path,
            created.arkor_cloud_api_url,
        )
        return read_from(created, path)


@contextmanager
def locked_file(path: Path, patience: float) -> Iterator[None]:
    """Lock the directory of the credentials file, for all programs that use this package.

    Raises:
        CredentialsError: It cannot be locked, or somebody else has it for longer than `patience`.
    """
    try:
        lock = locked(path.parent, patience)
    except OSError as error:
        raise CredentialsError(f"{path} cannot be written: {reason_of(error)}") from error
    with ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except TimeoutError as error:
            raise CredentialsError(f"{error}; end that program, or remove its lock") from None
        yield


def keep_old(path: Path) -> Path:
    """Copy the credentials file, as `keep_copy` does, and return the copy.

    Raises:
        CredentialsError: It cannot be copied.
    """
    try:
        return keep_copy(path)
    except OSError as error:
        problem = f"{path} cannot be copied to {path.name}.bak: {reason_of(error)}"
        raise CredentialsError(problem) from copy(error)


def make_anonymous_identity(base_url: Optional[str], http: HttpClient) -> AnonymousCredentials:
    """Request a new anonymous identity, of the cloud given or found; nothing is written."""
    base_url, address = find_base_url() if base_url is None else (base_url, GIVEN)
    base_url = base_url.rstrip("/")
    issued = _request_anonymous_token(base_url, http, address)
    return AnonymousCredentials(
        issued.token, issued.anonymous_id, base_url, issued.personal_org.slug
    )


def request_anonymous_token(base_url: str, *, http: Optional[HttpClient] = None) -> AnonymousToken:
    """Request a new anonymous identity (`POST /v1/auth/anonymous`).

    Args:
        base_url: The cloud.
        http: Makes the request; `None` for the default settings.

    Raises:
        AnonymousTokenRejectedError: The cloud refused; `__cause__` is the `CloudApiError`.
        ArkorConnectionError: The cloud cannot be reached.
        ResponseError: The answer does not have the documented shape.
    """
    return _request_anonymous_token(base_url, http or HttpClient(), GIVEN)


def _request_anonymous_token(base_url: str, http: HttpClient, address: str) -> AnonymousToken:
    url = build_url(base_url, "v1", "auth", "anonymous")
    try:
        body = http.fetch("POST", url, body={"kind": "cli"}, address=address)
    except CloudApiError as error:
        text = safe_text(error.body)
        raise AnonymousTokenRejectedError(error.status, text, error.hint) from error
    try:
        answer = decode_json(body, "the anonymous token", secret=True)
        return AnonymousToken.from_dict(hide_secrets(answer, secret=not isinstance(answer, dict)))
    except ResponseError as error:
        problem = f"POST {url}: {error}; {not_arkor(url, Origin('', address))}"
    finally:
        del body  # a report of the error shows the variables
    answer = None
    raise ResponseError(problem)


def resolve_base_url(credentials: Optional[Credentials] = None) -> str:
    """Find the cloud's base URL, without trailing slashes.

    Returns:
        `ARKOR_CLOUD_API_URL` if it is set, else the URL in the credentials, else the production
        cloud.
    """
    return find_base_url(credentials)[0]


def find_base_url(credentials: Optional[Credentials] = None) -> Tuple[str, str]:
    """Return what `resolve_base_url` returns, and where it was found, in words for an error."""
    url, source = variable("ARKOR_CLOUD_API_URL"), "from ARKOR_CLOUD_API_URL"
    if url is None and isinstance(credentials, CREDENTIALS_TYPES):
        url = credentials.arkor_cloud_api_url
        source = f"{OF_CREDENTIALS} {credentials.source}"
    if not isinstance(url, str):
        return DEFAULT_BASE_URL, "the default"
    return url.strip().rstrip("/"), source
