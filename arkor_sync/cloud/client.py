"""`CloudApiClient`: one method a route of the cloud API. Every method runs on the caller's thread.

A client may be shared by threads, and used after a fork: it holds no connection.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, closing
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Mapping,
    Optional,
    Sequence,
    TypeVar,
    Union,
)

import requests

from arkor_sync._common.arguments import show
from arkor_sync.cloud.client_version import CLIENT_HEADER, DeprecationSink
from arkor_sync.cloud.credentials import (
    Credentials,
)
from arkor_sync.cloud.http import (
    DEFAULT_TIMEOUT,
    EVENT_STREAM,
    UNBUFFERED,
    HttpClient,
    Timeout,
    check_base_url,
    check_timeout,
    media_type,
    read_body,
)
from arkor_sync.cloud.jobs import Jobs, is_sendable_id
from arkor_sync.cloud.models import Me
from arkor_sync.cloud.project import PathLike, ProjectState, ensure_project_state
from arkor_sync.cloud.projects import Projects
from arkor_sync.cloud.session import CREDENTIALS_TYPES, Session
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorUsageError

if TYPE_CHECKING:
    from arkor_sync.cloud.chat import ChatResponse

__all__ = ["CloudApiClient", "is_sendable_id"]

T = TypeVar("T")

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
            isinstance(credentials, CREDENTIALS_TYPES) or callable(credentials)
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
        self._session = Session(
            self._base_url,
            credentials,
            lambda found: scope or ensure_project_state(self, found, cwd),
            HttpClient(check_timeout(timeout), session, client_header, on_deprecation),
        )
        self.jobs = Jobs(self._session)
        self.projects = Projects(self._session)

    def __repr__(self) -> str:
        return f"CloudApiClient(base_url={self._base_url!r})"

    def __reduce__(self) -> Any:
        return partial(type(self), **self._arguments), ()

    def me(self) -> Me:
        """Ask who the token belongs to (`GET /v1/me`)."""
        me: Me = self._session.request("GET", self._session.target("me", scoped=False), Me)
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
        from arkor_sync.cloud.chat import ChatResponse, StreamedChatResponse
        from arkor_sync.cloud.chat_request import build_chat_body

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
        limits = check_timeout((self._session.http.timeout[0], silence))
        url, auth = self._session.target("inference", "chat")
        with ExitStack() as stack:
            transport = stack.enter_context(self.transport())
            response = self._session.http.open(
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
        return self._session.transport()
