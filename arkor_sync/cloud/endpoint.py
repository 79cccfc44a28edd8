"""Chatting with a deployment, or with any OpenAI-compatible server. Runs on the caller's thread."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import requests

from arkor_sync._common.arguments import check, refusal
from arkor_sync._common.secret import Secret
from arkor_sync.cloud.bodies import MAX_CHAT_BYTES
from arkor_sync.cloud.chat_request import build_completion_body
from arkor_sync.cloud.chat_sending import send_chat
from arkor_sync.cloud.http import BearerAuth, HttpClient
from arkor_sync.cloud.request_facts import OPENAI_SERVER, Origin
from arkor_sync.cloud.urls import check_base_url

if TYPE_CHECKING:
    from arkor_sync.cloud.chat import ChatResponse
    from arkor_sync.cloud.chat_types import ResponseFormat, StructuredOutputs, ToolDefinition
    from arkor_sync.cloud.training_data import Prompt

_BASE_URL_WANTED = "the base URL of the server, such as https://support-bot.arkor.app/v1"


class ChatEndpoint:
    """A deployment, or any other server that has OpenAI's route for chats.

    Its answers and its errors are those of `CloudApiClient`. It needs no account, and makes no
    requests but those of `chat`. It may be shared by threads, and used after a fork. A copy that
    pickle makes has the key too.

    Args:
        base_url: The address below which the server has `/chat/completions`. For a deployment it is
            `https://<slug>.arkor.app/v1`.
        api_key: The key, sent as `Authorization: Bearer`. None for a server that wants none.
        model: The name of the model, for a server that has several (`model`). A deployment of an
            adapter or of a base model ignores it.
        timeout: Seconds to connect, and seconds for a whole answer. Of a streamed one, seconds for
            its headers and then for each next piece, where pings are none.
        session: A `requests` session whose proxies, certificates and headers are copied; they win
            over the environment's. It makes no requests itself.
        max_chat_bytes: The largest answer, as for `CloudApiClient`.

    Raises:
        ArkorUsageError: An argument cannot work. The message does not show the key.
    """

    base_url = ""  # for the repr, which a report of an error may show before it is set

    def __init__(
        self,
        base_url: str,
        api_key: Optional[str] = None,
        *,
        model: Optional[str] = None,
        timeout: Tuple[float, float] = (10.0, 300.0),
        session: Optional[requests.Session] = None,
        max_chat_bytes: int = MAX_CHAT_BYTES,
    ) -> None:
        if isinstance(api_key, str):
            api_key = Secret(api_key)  # first: a report of an error may show the variables here
        self.base_url = check_base_url(base_url, _BASE_URL_WANTED)
        fits = not self.base_url.endswith("/chat/completions")
        check("base_url", base_url, fits, f"it without /chat/completions: {_BASE_URL_WANTED}")
        self.model = model
        self._auth: Optional[BearerAuth] = None
        if api_key is not None:
            if not isinstance(api_key, str) or not re.fullmatch(r"[!-~]+", api_key.strip()):
                wanted = "the text of a key, without white space in it, or None for no key"
                raise refusal("api_key", api_key, wanted, secret=True)
            self._auth = BearerAuth(api_key, origin=Origin("given as api_key", "", OPENAI_SERVER))
        fits = isinstance(timeout, tuple) and None not in timeout
        check("timeout", timeout, fits, "two numbers of seconds above 0, such as (10, 300)")
        self._http = HttpClient(timeout, session, max_chat_bytes=max_chat_bytes, is_arkor=False)
        self._arguments: Dict[str, Any] = {
            "base_url": base_url,
            "api_key": api_key,
            "model": model,
            "timeout": timeout,
            "session": session,
            "max_chat_bytes": max_chat_bytes,
        }

    def __repr__(self) -> str:
        return f"ChatEndpoint(base_url={self.base_url!r})"

    def __reduce__(self) -> Any:
        return partial(type(self), **self._arguments), ()

    def chat(
        self,
        messages: Prompt,
        *,
        model: Optional[str] = None,
        stream: bool = True,
        temperature: Optional[float] = None,
        top_p: Optional[float] = None,
        max_tokens: Optional[int] = None,
        tools: Optional[Sequence[Union[ToolDefinition, Mapping[str, Any]]]] = None,
        tool_choice: Union[str, Mapping[str, Any], None] = None,
        response_format: Union[ResponseFormat, Mapping[str, Any], None] = None,
        structured_outputs: Union[StructuredOutputs, Mapping[str, Any], None] = None,
        timeout: Optional[float] = None,
        extra: Optional[Mapping[str, Any]] = None,
    ) -> ChatResponse:
        """Chat with the model of the server (`POST <base_url>/chat/completions`).

        The request is sent once, and never repeated automatically. A streamed answer holds a
        connection until it is read to its end or closed. The fields of the request have the names
        of the arguments.

        Args:
            messages: `{"role": ..., "content": ...}`, oldest first; or a text of the user.
            model: The name of the model; None for that of this object.
            stream: Whether the answer is sent in pieces, as the model writes it.
            temperature: 0 to 2.
            top_p: 0 to 1.
            max_tokens: The longest answer, in tokens.
            tools: Functions that the model may call: see `ToolDefinition`, and `run_tools`.
            tool_choice: `"auto"`, `"none"`, `"required"` or a named function.
            response_format: Plain text, a JSON object or a JSON schema.
            structured_outputs: One constraint: `json`, `regex`, `choice`, `grammar` or
                `json_object`. Deployments and vLLM (0.12 or later) know it; another server may
                refuse or ignore it, and has `response_format` for JSON.
            timeout: Seconds for the whole answer, or the next piece of it; None for that of this
                object.
            extra: More fields of the request, with their names on the wire.

        Raises:
            ArkorUsageError: The request cannot work; nothing was sent.
            CloudApiError: The server refused it; there is a subclass for each common status.
            ArkorConnectionError: The request got no answer.
        """
        body = build_completion_body(
            messages,
            model=self.model if model is None else model,
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
        seconds = self._http.timeout[1] if timeout is None else timeout
        return send_chat(self._http, self._target, body, seconds)

    def _target(self) -> Tuple[str, Optional[BearerAuth]]:
        return f"{self.base_url}/chat/completions", self._auth
