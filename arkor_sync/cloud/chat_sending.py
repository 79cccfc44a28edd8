"""Sends chat requests. Runs on the caller's thread."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any, Callable, Dict, Optional, Tuple

from arkor_sync._common.text import safe_line
from arkor_sync.cloud.bodies import read_body
from arkor_sync.cloud.chat import ChatResponse, StreamedChatResponse
from arkor_sync.cloud.http import (
    EVENT_STREAM,
    UNBUFFERED,
    BearerAuth,
    HttpClient,
    check_timeout,
    media_type,
)
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import CloudApiError, NotFoundError, UnprocessableEntityError

_WHOLE = ("application/json", "text/html")  # never a stream, although one was asked for
_TIMEOUT = 300.0  # seconds: a model may take minutes to write an answer that is sent whole


def send_chat(
    http: HttpClient,
    find_target: Callable[[], Tuple[str, Optional[BearerAuth]]],
    body: Dict[str, Any],
    timeout: Optional[float],
    transport: Optional[Transport] = None,
) -> ChatResponse:
    """Send a chat request, once.

    Args:
        http: Makes the request.
        find_target: Returns the whole URL and the bearer, or None for no bearer. It is called once
            all arguments are known to be right.
        body: What `chat_request.py` built.
        timeout: Seconds for a whole answer, or for the next piece of a streamed one; None for
            300.
        transport: Sends the request, and is left open; None for one of its own.

    Returns:
        The answer. A streamed one holds a connection until it is read to its end or closed.
    """
    seconds = _TIMEOUT if timeout is None else timeout
    limits = check_timeout((http.timeout[0], seconds))
    url, auth = find_target()
    with ExitStack() as stack:
        if transport is None:
            transport = stack.enter_context(Transport(http.template))
        try:
            response = http.open(
                transport,
                "POST",
                url,
                auth=auth,
                headers={"Accept": f"{EVENT_STREAM}, application/json", **UNBUFFERED},
                body=body,
                timeout=limits,
            )
        except (NotFoundError, UnprocessableEntityError) as error:
            raise _named(error, body.get("adapter")) from None
        stack.enter_context(closing(response))
        kind = media_type(response)
        if kind == EVENT_STREAM or (body.get("stream") and kind not in _WHOLE):
            limit = http.max_chat_bytes
            return StreamedChatResponse(response, stack.pop_all().close, seconds, limit)
        # Kept where requests keeps it, so that `response.content` and `response.json()` work.
        response._content = read_body(response, http.max_chat_bytes)
        response._content_consumed = True  # type: ignore[attr-defined]
        response.raw.close()
        return ChatResponse(response)


def _named(error: CloudApiError, adapter: Optional[Dict[str, Any]]) -> CloudApiError:
    """Return the error with the job and the step that were asked for."""
    if adapter is None:
        return error
    job_id, step = safe_line(adapter["jobId"]), adapter.get("step")
    model = "the final model" if step is None else f"the checkpoint at step {step}"
    message = f"{error.message} (asked for {model} of job {job_id})"
    return type(error)(error.status, message, error.code, error.body, error.retry_after, error.hint)
