"""`CloudApiClient`: one method a route of the cloud API. Every method runs on the caller's thread.

A client may be shared by threads, and used after a fork: it holds no connection.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import ExitStack, closing
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Generic,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
    cast,
)
from urllib.parse import urlsplit

import requests

from arkor_sync._record import show
from arkor_sync.client_version import CLIENT_HEADER, DeprecationSink
from arkor_sync.credentials import (
    AnonymousCredentials,
    Credentials,
    OAuthCredentials,
    TokenCredentials,
    ensure_credentials,
    resolve_base_url,
)
from arkor_sync.errors import ArkorUsageError, ResponseError
from arkor_sync.exchange import (
    DEFAULT_TIMEOUT,
    EVENT_STREAM,
    UNBUFFERED,
    BearerAuth,
    Exchange,
    Timeout,
    build_url,
    check_base_url,
    check_timeout,
    decode_answer,
    media_type,
    read_body,
)
from arkor_sync.models import Me
from arkor_sync.oauth import Refresher
from arkor_sync.project import PathLike, ProjectState, ensure_project_state
from arkor_sync.routes import Jobs, Projects, is_sendable_id
from arkor_sync.stream.transport import Transport

if TYPE_CHECKING:
    from arkor_sync.chat import ChatResponse

__all__ = ["CloudApiClient", "is_sendable_id"]

T = TypeVar("T")

_KINDS = (AnonymousCredentials, OAuthCredentials, TokenCredentials)
_CHAT_TIMEOUT = 300.0  # seconds: a whole answer may be minutes in the making, without a byte


class CloudApiClient:
    """The cloud API, as one identity in one project.

    Nothing happens at construction. Credentials and scope that are not given are found at the
    first request that needs them, by one thread, and kept; a failure to find them is not.

    Args:
        base_url: The cloud. `None`: `ARKOR_CLOUD_API_URL`, else the credentials', else production.
        credentials: Who asks. `None`: `ARKOR_TOKEN`, else `~/.arkor/credentials.json`, else a new
            anonymous identity. An account's tokens are refreshed before they end, and on a 401. A
            function is called at each request, and once more on a 401; what it returns is used as
            it is.
        scope: The project. `None`: that of `.arkor/state.json` below `cwd`; an anonymous identity
            gets a new project there.
        cwd: The directory of the project; `None` for the working directory.
        timeout: Seconds to connect, and seconds of silence between two reads, for plain requests.
        session: A session whose proxies, certificates and headers are taken over. It makes no
            requests itself.
        on_deprecation: Takes the cloud's deprecation notices, on the thread of the request.
            `None`: they are logged.
        client_header: What is sent in `X-Arkor-Client`.

    Attributes:
        jobs: The routes below `/v1/jobs`.
        projects: The routes below `/v1/projects`.
    """

    def __init__(
        self,
        base_url: Optional[str] = None,
        credentials: Union[Credentials, Callable[[], Credentials], None] = None,
        *,
        scope: Optional[ProjectState] = None,
        cwd: Optional[PathLike] = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
        session: Optional[requests.Session] = None,
        on_deprecation: Optional[DeprecationSink] = None,
        client_header: str = CLIENT_HEADER,
    ) -> None:
        if credentials is not None and not (
            isinstance(credentials, _KINDS) or callable(credentials)
        ):
            raise ArkorUsageError(
                f"credentials: got a {type(credentials).__name__}; give TokenCredentials('...'), "
                "another credentials object, or a function that returns one"
            )
        if not re.fullmatch(r"[!-~]+", client_header):
            raise ArkorUsageError(f"client_header: got {show(client_header)}; give 'arkor/1.2.3'")
        self._arguments: Dict[str, Any] = {
            "base_url": base_url,
            "credentials": credentials,
            "scope": scope,
            "cwd": cwd,
            "timeout": timeout,
            "session": session,
            "on_deprecation": on_deprecation,
            "client_header": client_header,
        }
        self._base_url = None if base_url is None else check_base_url(base_url)
        self._exchange = Exchange(check_timeout(timeout), session, client_header, on_deprecation)
        self._credentials: Callable[[], Credentials]
        if isinstance(credentials, _KINDS):
            self._credentials = lambda: credentials
        else:
            self._credentials = credentials or _Once(self._find_credentials)
        self._refresher: Optional[_Once[Refresher]] = None
        if not callable(credentials):
            self._refresher = _Once(
                lambda: Refresher(cast(OAuthCredentials, self._credentials()), session)
            )
        self._scope = _Once(lambda: scope or ensure_project_state(self, self._credentials(), cwd))
        self.jobs = Jobs(self)
        self.projects = Projects(self)

    def __repr__(self) -> str:
        return f"CloudApiClient(base_url={self._base_url!r})"

    def __reduce__(self) -> Any:
        return partial(type(self), **self._arguments), ()

    def me(self) -> Me:
        """Ask who the token belongs to (`GET /v1/me`)."""
        me: Me = self._ask("GET", self._target("me", scoped=False), Me)
        return me

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        adapter: Optional[Mapping[str, Any]] = None,
        base_model: Optional[str] = None,
        stream: bool = True,
        temperature: Optional[float] = None,
        top_p: Optional[float] = None,
        max_tokens: Optional[int] = None,
        tools: Optional[Sequence[Mapping[str, Any]]] = None,
        tool_choice: Union[str, Mapping[str, Any], None] = None,
        response_format: Optional[Mapping[str, Any]] = None,
        structured_outputs: Optional[Mapping[str, Any]] = None,
        timeout: Optional[float] = None,
        extra: Optional[Mapping[str, Any]] = None,
    ) -> ChatResponse:
        """Chat with a trained adapter or a base model (`POST /v1/inference/chat`).

        It is sent once, and never again by itself. A streamed answer holds a connection until it is
        exhausted or closed.

        Args:
            messages: `{"role": ..., "content": ...}`, oldest first.
            adapter: `{"kind": "final", "jobId": ...}` or `{"kind": "checkpoint", "jobId": ...,
                "step": ...}`. Give either this or `base_model`.
            base_model: `baseModel`.
            stream: Whether the answer comes piece by piece.
            temperature: 0 to 2.
            top_p: 0 to 1 (`topP`).
            max_tokens: The longest answer (`maxTokens`).
            tools: Functions that the model may call.
            tool_choice: `"auto"`, `"none"`, `"required"` or a named function (`toolChoice`).
            response_format: Plain text, a JSON object or a JSON schema (`responseFormat`).
            structured_outputs: One constraint: `json`, `regex`, `choice`, `grammar` or
                `json_object` (`structuredOutputs`).
            timeout: Seconds of silence that are allowed; 300 by default.
            extra: More fields of the request, as the wire names them.

        Raises:
            ArkorUsageError: The request cannot work; nothing was sent.
            CloudApiError: The cloud refused it.
            ArkorConnectionError: The answer did not come.
        """
        from arkor_sync.chat import ChatResponse, StreamedChatResponse
        from arkor_sync.chat_request import build_chat_body

        body = build_chat_body(
            messages,
            adapter=adapter,
            base_model=base_model,
            stream=stream,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            tools=tools,
            tool_choice=tool_choice,
            response_format=response_format,
            structured_outputs=structured_outputs,
            extra=extra,
        )
        silence = _CHAT_TIMEOUT if timeout is None else timeout
        limits = check_timeout((self._exchange.timeout[0], silence))
        url, auth = self._target("inference", "chat")
        with ExitStack() as stack:
            transport = stack.enter_context(self.transport())
            response = self._exchange.open(
                transport,
                "POST",
                url,
                auth=auth,
                headers={"Accept": f"{EVENT_STREAM}, application/json", **UNBUFFERED},
                body=body,
                timeout=limits,
            )
            stack.enter_context(closing(response))
            kind = media_type(response)
            if kind == EVENT_STREAM or (stream and kind != "application/json"):
                return StreamedChatResponse(response, stack.pop_all().close)
            read_body(response)
            return ChatResponse(response)

    def transport(self) -> Transport:
        """Make a transport with this client's session settings, for `jobs.events`."""
        return Transport(self._exchange.session)

    def _find_credentials(self) -> Credentials:
        return ensure_credentials(self._base_url, exchange=self._exchange)

    def _identify(self, rejected: Optional[str], transport: Optional[Transport]) -> Credentials:
        """Say who asks, with another bearer than the rejected one if there is any."""
        credentials = self._credentials()
        if not isinstance(credentials, _KINDS):
            raise ArkorUsageError(
                f"credentials: the function returned a {type(credentials).__name__}; return "
                "TokenCredentials('...'), or another credentials object"
            )
        if self._refresher and isinstance(credentials, OAuthCredentials):
            return self._refresher().fresh(rejected, transport)
        return credentials

    def _target(
        self,
        *segments: str,
        scoped: bool = True,
        transport: Optional[Transport] = None,
        **query: str,
    ) -> Tuple[str, BearerAuth]:
        """Say where a request goes and who makes it.

        Args:
            segments: The path below `/v1`.
            scoped: Whether the query names the project.
            transport: The request's, where another thread may interrupt it.
            query: The query of a request without a scope.
        """
        if scoped:
            scope = self._scope()
            query = {"orgSlug": scope.org_slug, "projectSlug": scope.project_slug}
        credentials = self._identify(None, transport)
        base_url = resolve_base_url(credentials) if self._base_url is None else self._base_url
        auth = BearerAuth(credentials.bearer, lambda *last: self._identify(*last).bearer)
        return build_url(base_url, "v1", *segments, **query), auth

    def _ask(
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
            target: Where it goes and who makes it.
            shape: The type of what is returned.
            member: The key of the answer that holds it; empty if it is the answer itself.
            body: The JSON body.
            transport: Makes the request; `None` for one of its own.
        """
        url, auth = target
        content = self._exchange.fetch(method, url, auth=auth, body=body, transport=transport)
        try:
            return decode_answer(content, shape, member)
        except ResponseError as error:
            raise ResponseError(f"{method} {urlsplit(url).path}: {error}") from None


class _Once(Generic[T]):
    """A value that one thread makes at the first call, and all get. A failure is not kept."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: List[T] = []
        self._guard = (os.getpid(), threading.Lock())

    def __call__(self) -> T:
        if not self._made:
            if self._guard[0] != os.getpid():
                # The lock of a forked process may be held by a thread that is not there.
                self._guard = (os.getpid(), threading.Lock())
            with self._guard[1]:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]
