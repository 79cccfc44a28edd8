"""The identity, the address and the project that all requests of a client share. Any thread.

A session may be shared by threads, and used after a fork: it holds no connection. Each request runs
on the thread that makes it.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Union, cast

from arkor_sync._common.arguments import refusal
from arkor_sync._common.environment import variable
from arkor_sync._common.once import Once
from arkor_sync._common.secret import redact_known
from arkor_sync.cloud.credentials import (
    CREDENTIALS_TYPES,
    Credentials,
    OAuthCredentials,
    ensure_credentials,
    find_base_url,
    read_credentials,
)
from arkor_sync.cloud.http import BearerAuth, HttpClient, decode_answer
from arkor_sync.cloud.oauth import Refresher
from arkor_sync.cloud.project import ProjectState
from arkor_sync.cloud.request_facts import GIVEN, Origin, not_arkor
from arkor_sync.cloud.transport import Transport
from arkor_sync.cloud.urls import build_url, check_base_url, without_query
from arkor_sync.errors import ArkorConnectionError, AuthenticationError, ResponseError

_CREDENTIALS_WANTED = (
    "TokenCredentials('...'), another credentials object, or a function that returns one"
)


class Target(NamedTuple):
    """Where a request goes, and with which bearer.

    Attributes:
        url: The whole URL.
        auth: Sets the authorisation header.
    """

    url: str
    auth: BearerAuth


class CloudSession:
    """One identity in one project, and how it makes requests. Every route is built on it.

    The name is not `Session`, because a `requests.Session` is something else.

    Args:
        base_url: The cloud. None: `ARKOR_CLOUD_API_URL`, else the credentials', else production.
        credentials: The identity; a function that returns it at each request; or None to find it
            at the first request.
        scope: The project; or a function that finds that of an identity, which is called at the
            first request that needs a project.
        http: Makes the requests.

    Attributes:
        base_url: As given, without trailing slashes.
        http: Makes the requests.
        scope: Returns the project.

    Raises:
        ArkorUsageError: `base_url` or `credentials` cannot work.
    """

    def __init__(
        self,
        base_url: Optional[str],
        credentials: Union[Credentials, Callable[[], Credentials], None],
        scope: Union[ProjectState, Callable[[Credentials], ProjectState]],
        http: HttpClient,
    ) -> None:
        self.base_url = base_url = None if base_url is None else check_base_url(base_url)
        self.http = http
        self.scope = Once(lambda: scope(self._credentials()) if callable(scope) else scope)
        self._credentials: Callable[[], Credentials]
        self._known: Callable[[], Optional[Credentials]] = _find_credentials
        self._refresher: Optional[Once[Refresher]] = None
        if callable(credentials):
            self._credentials = self._known = credentials  # it refreshes what it returns itself
            return
        if credentials is None:
            self._credentials = Once(lambda: ensure_credentials(base_url, http=http))
        elif isinstance(credentials, CREDENTIALS_TYPES):
            self._credentials = self._known = lambda: credentials
        else:
            raise refusal("credentials", credentials, _CREDENTIALS_WANTED, secret=True)
        self._refresher = Once(
            lambda: Refresher(
                cast(OAuthCredentials, self._credentials()), http.template, patience=http.patience
            )
        )

    def transport(self) -> Transport:
        """Make a transport with the settings of this session."""
        return Transport(self.http.template)

    def find_address(self) -> str:
        """Find the base URL of the cloud. Nobody is signed in for it.

        Where neither `base_url` nor `ARKOR_CLOUD_API_URL` is given, it is that of the credentials.
        If these are a function of the program, it is called, and may itself make requests.
        """
        if self.base_url is not None:
            return self.base_url
        return find_base_url(None if variable("ARKOR_CLOUD_API_URL") else self._known())[0]

    def target(
        self,
        *segments: str,
        scoped: bool = True,
        transport: Optional[Transport] = None,
        **query: str,
    ) -> Target:
        """Find the URL and the bearer of a request. This may itself make requests.

        Args:
            segments: The path below `/v1`, not encoded.
            scoped: Whether the query names the project (`orgSlug`, `projectSlug`).
            transport: Interrupting it ends the wait for a refresh of the bearer.
            query: The query of a request that is not scoped, not encoded.

        Raises:
            CredentialsError: There are no credentials that can be used.
            ProjectStateError: There is no project.
            CloudApiError: The project cannot be created.
            ArkorConnectionError: The project cannot be created, or the bearer not refreshed.
            ArkorUsageError: A segment or a value of the query cannot be in a URL.
        """
        if scoped:
            scope = self.scope()
            query = {"orgSlug": scope.org_slug, "projectSlug": scope.project_slug}
        credentials = self._current_credentials(None, transport)
        base_url, address = self.base_url, GIVEN
        if base_url is None:
            base_url, address = find_base_url(credentials)
        auth = BearerAuth(
            credentials.bearer,
            lambda *last: self._current_credentials(*last).bearer,
            Origin(self._token_source(), address),
        )
        return Target(build_url(base_url, "v1", *segments, **query), auth)

    def request(
        self,
        method: str,
        target: Target,
        shape: Any,
        member: str = "",
        *,
        body: Any = None,
        transport: Optional[Transport] = None,
        lost: str = "",
        secret: bool = False,
    ) -> Any:
        """Make a request and decode its JSON answer.

        Args:
            method: The HTTP method.
            target: What `target` returned.
            shape: The type of what is returned: a record, or a list of records.
            member: The key of the answer that holds it; empty if it is the answer itself.
            body: The JSON body; None for no body.
            transport: Makes the request once, and is left open. None for one of its own; then a
                request that is safe to repeat is sent again after a failure that may pass.
            lost: Said in the error if the cloud may have carried the request out although it could
                not say so.
            secret: Whether no error may show the answer.

        Raises:
            CloudApiError: The status is not 2xx.
            ArkorConnectionError: The request got no answer, or not all of it.
            ResponseError: The answer is not JSON, or not of this shape.
        """
        url, auth = target
        content = b""
        try:
            content = self.http.fetch(method, url, auth=auth, body=body, transport=transport)
            return decode_answer(content, shape, member, secret)
        except ArkorConnectionError as error:
            if not lost or _cannot_have_acted(error):
                raise
            raise type(error)(f"{error}; {lost}") from error.__cause__
        except ResponseError as error:
            problem = auth.redact(redact_known(str(error), body))
        if content[:100].lstrip().startswith(b"<"):  # the page of a proxy, or of another server
            problem = f"{problem}; {not_arkor(url, auth.origin)}"
        # The answer may hold a key. No variable here, and no context of the error, may show it.
        del content
        raise ResponseError(f"{method} {without_query(url)}: {problem}{lost and f'; {lost}'}")

    def delete(self, target: Target) -> None:
        """Make a DELETE request, whose answer has no body.

        Raises:
            CloudApiError: The status is not 2xx.
            ArkorConnectionError: The request got no answer.
        """
        self.http.fetch("DELETE", target.url, auth=target.auth)

    def _token_source(self) -> str:
        """Say where the token was found; a function that returns it is not called again."""
        if self._refresher is None:
            return "that the program's function returned"
        return self._credentials().source

    def _current_credentials(
        self, rejected: Optional[str], transport: Optional[Transport]
    ) -> Credentials:
        """Return credentials with another bearer than the rejected one, if there is another."""
        credentials = self._credentials()
        if not isinstance(credentials, CREDENTIALS_TYPES):
            raise refusal(
                "credentials",
                None,
                "a function that returns TokenCredentials('...')",
                got=f"a function that returned a {type(credentials).__name__}",
            )
        if self._refresher and isinstance(credentials, OAuthCredentials):
            return self._refresher().valid_credentials(rejected, transport)
        return credentials


def _cannot_have_acted(error: ArkorConnectionError) -> bool:
    """Whether the connection failed before the request was sent, or the cloud answered 401."""
    return not error.sent or isinstance(error.__context__, AuthenticationError)


def _find_credentials() -> Optional[Credentials]:
    """Read the file's credentials, unless `ARKOR_TOKEN` is set. Nobody is signed in."""
    return None if variable("ARKOR_TOKEN") else read_credentials()
