"""The client of the cloud API. Runs on the caller's thread.

A client may be shared by threads, and used after a fork: it holds no connection.
"""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Sequence, Union

import requests

from arkor_sync._common.arguments import check_client
from arkor_sync.cloud.bodies import MAX_ANSWER_BYTES, MAX_CHAT_BYTES, MAX_ERROR_BYTES
from arkor_sync.cloud.client_version import CLIENT_HEADER, DeprecationSink
from arkor_sync.cloud.credentials import Credentials
from arkor_sync.cloud.http import DEFAULT_TIMEOUT, HttpClient, Timeout
from arkor_sync.cloud.jobs import Jobs, is_sendable_id
from arkor_sync.cloud.models import Me
from arkor_sync.cloud.project import PathLike, ProjectState
from arkor_sync.cloud.projects import Projects, ensure_project_state
from arkor_sync.cloud.retries import Retry
from arkor_sync.cloud.session import CloudSession
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ArkorUsageError

if TYPE_CHECKING:
    from arkor_sync.cloud.chat import ChatResponse
    from arkor_sync.cloud.chat_types import ResponseFormat, StructuredOutputs, ToolDefinition
    from arkor_sync.cloud.deployments import Deployments
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.cloud.training_data import Prompt

__all__ = ["CloudApiClient", "is_sendable_id"]


class CloudApiClient:
    """The cloud API, as one identity in one project.

    The constructor makes no requests and reads no files. Credentials and a scope that are not given
    are found at the first request that needs them, by one thread, and kept. If they cannot be
    found, the next request tries again.

    Args:
        base_url: The cloud. `None`: `ARKOR_CLOUD_API_URL`, else the credentials', else production.
        credentials: The identity. `None`: `ARKOR_TOKEN`, else `~/.arkor/credentials.json`, else a
            new anonymous identity. The tokens of an account are refreshed before they expire, and
            after a 401. A function is called at each request, and once more after a 401; what it
            returns is used without a refresh.
        scope: The project. `None`: that of `ARKOR_ORG` and `ARKOR_PROJECT`, else that of
            `.arkor/state.json` below `cwd`; an anonymous identity gets a new project there.
        cwd: The directory of the project; `None` for the working directory.
        timeout: Seconds to connect, and seconds for the whole answer once the request is sent:
            headers and body. Streams have timeouts of their own.
        session: A `requests` session whose proxies, certificates and headers are copied; they win
            over the environment's. It makes no requests itself.
        on_deprecation: Called with the cloud's deprecation notices, on the thread of the request.
            `None`: they are logged.
        client_header: What is sent in `X-Arkor-Client`.
        max_answer_bytes: The largest JSON answer, after decoding. A larger one raises
            `ResponseError`.
        max_error_bytes: How much is read of the body of an error; the rest is dropped.
        max_chat_bytes: The largest answer of a chat, streamed or not, as `max_answer_bytes`; of
            one that is streamed also the memory that it may take.
        retry: What is sent again when the connection fails, or the cloud answers with 408, 429,
            502, 503 or 504: at most twice, within 30 seconds, and not before the time that the
            cloud asks for (`Retry-After`). `"safe"`: requests that read, change or delete; they
            have the same effect if they are carried out twice. `"all"`: also those that create
            something, and chats; then a job may be created twice. `"none"`: nothing.

    Attributes:
        retry: As given.
        jobs: The routes below `/v1/jobs`.
        projects: The routes below `/v1/projects`.

    Raises:
        ArkorUsageError: An argument cannot work.
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
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        max_error_bytes: int = MAX_ERROR_BYTES,
        max_chat_bytes: int = MAX_CHAT_BYTES,
        retry: Retry = "safe",
    ) -> None:
        self._arguments: Dict[str, Any] = {
            "base_url": base_url,
            "credentials": credentials,
            "scope": scope,
            "cwd": cwd,
            "timeout": timeout,
            "session": session,
            "on_deprecation": on_deprecation,
            "client_header": client_header,
            "max_answer_bytes": max_answer_bytes,
            "max_error_bytes": max_error_bytes,
            "max_chat_bytes": max_chat_bytes,
            "retry": retry,
        }
        self._session = CloudSession(
            base_url,
            credentials,
            scope or (lambda found: ensure_project_state(self, found, cwd)),
            HttpClient(
                timeout,
                session,
                client_header,
                on_deprecation,
                max_answer_bytes,
                max_error_bytes,
                max_chat_bytes,
                retry=retry,
            ),
        )
        self.retry = retry
        self.jobs = Jobs(self._session)
        self.projects = Projects(self._session)

    def __repr__(self) -> str:
        return f"CloudApiClient(base_url={self._session.base_url!r})"

    def __reduce__(self) -> Any:
        return partial(type(self), **self._arguments), ()

    @cached_property
    def deployments(self) -> Deployments:
        """The routes below `/v1/endpoints`."""
        from arkor_sync.cloud.deployments import Deployments  # large, and seldom needed

        return Deployments(self._session)

    def me(self) -> Me:
        """Read who the token belongs to, and the organisations (`GET /v1/me`)."""
        me: Me = self._session.request("GET", self._session.target("me", scoped=False), Me)
        return me

    def chat(
        self,
        messages: Prompt,
        *,
        job: Union[TrainingJob, str, None] = None,
        step: Optional[int] = None,
        adapter: Optional[Mapping[str, Any]] = None,
        base_model: Optional[str] = None,
        stream: bool = True,
        temperature: Optional[float] = None,
        top_p: Optional[float] = None,
        max_tokens: Optional[int] = None,
        tools: Optional[Sequence[Union[ToolDefinition, Mapping[str, Any]]]] = None,
        tool_choice: Union[str, Mapping[str, Any], None] = None,
        response_format: Union[ResponseFormat, Mapping[str, Any], None] = None,
        structured_outputs: Union[StructuredOutputs, Mapping[str, Any], None] = None,
        timeout: Optional[float] = None,
        transport: Optional[Transport] = None,
        extra: Optional[Mapping[str, Any]] = None,
    ) -> ChatResponse:
        """Chat with what a job trained, or with a base model (`POST /v1/inference/chat`).

        The request is sent once, but for a client with `retry="all"`. A streamed answer holds a
        connection until it is read to its end or closed. `client.chat(...).content()` is the text
        of the answer. Give exactly one of `job`, `adapter` and `base_model`.

        Args:
            messages: `{"role": ..., "content": ...}`, oldest first; or a text of the user.
            job: A job, or its id.
            step: The step of one of the job's checkpoints; None for the final model of a job that
                has completed.
            adapter: The same as the cloud names it (`adapter`): `{"kind": "final", "jobId": ...}`
                or `{"kind": "checkpoint", "jobId": ..., "step": ...}`.
            base_model: The name of a model (`baseModel`).
            stream: Whether the answer is sent in pieces, as the model writes it.
            temperature: 0 to 2.
            top_p: 0 to 1 (`topP`).
            max_tokens: The longest answer, in tokens (`maxTokens`).
            tools: Functions that the model may call: see `ToolDefinition`, and `run_tools`.
            tool_choice: `"auto"`, `"none"`, `"required"` or a named function (`toolChoice`).
            response_format: Plain text, a JSON object or a JSON schema (`responseFormat`).
            structured_outputs: One constraint: `json`, `regex`, `choice`, `grammar` or
                `json_object` (`structuredOutputs`).
            timeout: Seconds for the whole answer; of a streamed one, seconds for its headers and
                then for each next piece, where pings are none. 300 by default.
            transport: Sends the request, so that another thread can interrupt it. It is left open.
            extra: More fields of the request, with their names on the wire.

        Raises:
            ArkorUsageError: The request cannot work; nothing was sent.
            CloudApiError: The cloud refused it. `NotFoundError`: the job has no such model; the
                message names the job and the step.
            ArkorConnectionError: The request got no answer.
        """
        # Imported here, so that the package is imported faster.
        from arkor_sync.cloud.chat_request import build_chat_body
        from arkor_sync.cloud.chat_sending import send_chat

        body = build_chat_body(
            messages,
            job=job,
            step=step,
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
        find_target = partial(self._session.target, "inference", "chat", transport=transport)
        return send_chat(self._session.http, find_target, body, timeout, transport)

    def transport(self) -> Transport:
        """Make a transport with the settings of this client, for `jobs.events` and `chat`."""
        return self._session.transport()


def choose_client(
    client: Optional[CloudApiClient],
    credentials: Optional[Credentials],
    base_url: Optional[str],
    cwd: Optional[PathLike],
) -> CloudApiClient:
    """Return the program's client, or one that is made of the other arguments.

    Raises:
        ArkorUsageError: Both are given, or it is no client.
    """
    if client is None:
        return CloudApiClient(base_url, credentials, cwd=Path(cwd or Path.cwd()))
    if credentials is not None or base_url is not None or cwd is not None:
        raise ArkorUsageError("give either a client, or credentials, base_url and cwd")
    check_client(client)
    return client
