"""Who asks, where, and for which project: what all routes share. Runs on the caller's thread.

A session may be shared by threads, and used after a fork: it holds no connection.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Generic, List, Optional, Tuple, TypeVar, Union, cast
from urllib.parse import urlsplit

from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    Credentials,
    OAuthCredentials,
    TokenCredentials,
    ensure_credentials,
    resolve_base_url,
)
from arkor_sync.cloud.http import BearerAuth, HttpClient, build_url, decode_answer
from arkor_sync.cloud.oauth import Refresher
from arkor_sync.cloud.project import ProjectState
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorUsageError, ResponseError

T = TypeVar("T")

CREDENTIALS_TYPES = (AnonymousCredentials, OAuthCredentials, TokenCredentials)


class Session:
    """One identity in one project, and how it makes requests.

    Args:
        base_url: The cloud; None for that of the environment, the credentials, or production.
        credentials: Who asks, a function that returns it, or None to find it at the first request.
        find_scope: Finds the project, given who asks. It is called once, at the first request that
            needs a project.
        http: Makes the requests.

    Attributes:
        http: Makes the requests.
        scope: Returns the project.
    """

    def __init__(
        self,
        base_url: Optional[str],
        credentials: Union[Credentials, Callable[[], Credentials], None],
        find_scope: Callable[[Credentials], ProjectState],
        http: HttpClient,
    ) -> None:
        self.http = http
        self.scope = Once(lambda: find_scope(self._credentials()))
        self._base_url = base_url
        self._credentials: Callable[[], Credentials]
        if isinstance(credentials, CREDENTIALS_TYPES):
            self._credentials = lambda: credentials
        else:
            self._credentials = credentials or Once(lambda: ensure_credentials(base_url, http=http))
        self._refresher: Optional[Once[Refresher]] = None
        if not callable(credentials):
            self._refresher = Once(
                lambda: Refresher(cast(OAuthCredentials, self._credentials()), http.session)
            )

    def transport(self) -> Transport:
        """Make a transport with this session's settings."""
        return Transport(self.http.session)

    def target(
        self,
        *segments: str,
        scoped: bool = True,
        transport: Optional[Transport] = None,
        **query: str,
    ) -> Tuple[str, BearerAuth]:
        """Return the URL of a request, and who makes it.

        Args:
            segments: The path below `/v1`.
            scoped: Whether the query names the project.
            transport: The request's, where another thread may interrupt it.
            query: The query of a request without a scope.
        """
        if scoped:
            scope = self.scope()
            query = {"orgSlug": scope.org_slug, "projectSlug": scope.project_slug}
        credentials = self._identify(None, transport)
        base_url = resolve_base_url(credentials) if self._base_url is None else self._base_url
        auth = BearerAuth(credentials.bearer, lambda *last: self._identify(*last).bearer)
        return build_url(base_url, "v1", *segments, **query), auth

    def request(
        self,
        method: str,
        target: Tuple[str, BearerAuth],
        shape: Any,
        member: str = "",
        *,
        body: Any = None,
        transport: Optional[Transport] = None,
    ) -> Any:
        """Make a plain request and decode its answer.

        Args:
            method: The HTTP method.
            target: What `target` returned.
            shape: The type of what is returned.
            member: The key of the answer that holds it; empty if it is the answer itself.
            body: The JSON body.
            transport: Makes the request; None for one of its own.
        """
        url, auth = target
        content = self.http.fetch(method, url, auth=auth, body=body, transport=transport)
        try:
            return decode_answer(content, shape, member)
        except ResponseError as error:
            raise ResponseError(f"{method} {urlsplit(url).path}: {error}") from None

    def _identify(self, rejected: Optional[str], transport: Optional[Transport]) -> Credentials:
        """Return who asks, with another bearer than the rejected one if there is any."""
        credentials = self._credentials()
        if not isinstance(credentials, CREDENTIALS_TYPES):
            raise ArkorUsageError(
                f"credentials: the function returned a {type(credentials).__name__}; return "
                "TokenCredentials('...'), or another credentials object"
            )
        if self._refresher and isinstance(credentials, OAuthCredentials):
            return self._refresher().fresh(rejected, transport)
        return credentials


class Once(Generic[T]):
    """A value that one thread makes at the first call, and all get. A failure is not kept."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: List[T] = []
        self._guard = (os.getpid(), threading.Lock())

    def __call__(self) -> T:
        """Return the value; the first caller makes it."""
        if not self._made:
            if self._guard[0] != os.getpid():
                # The lock of a forked process may be held by a thread that is not there.
                self._guard = (os.getpid(), threading.Lock())
            with self._guard[1]:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]
