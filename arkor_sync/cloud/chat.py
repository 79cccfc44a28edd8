"""The answers of chat requests, whole or streamed. Runs on the caller's thread."""

from __future__ import annotations

from sys import getsizeof
from typing import Any, Callable, Dict, Iterator, List, Optional, cast

import requests

from arkor_sync._common.clock import Clock
from arkor_sync._common.json import parse_json
from arkor_sync._common.text import safe_line
from arkor_sync.cloud.bodies import ByteStream
from arkor_sync.cloud.chat_types import ChatMessage, ToolCall, Usage
from arkor_sync.cloud.http import decode_json
from arkor_sync.cloud.record import checked
from arkor_sync.cloud.sse import Frame, FrameParser
from arkor_sync.cloud.tool_calls import ToolCalls, arguments_text
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorError,
    ArkorTimeoutError,
    ArkorUsageError,
    CloudApiError,
    ResponseError,
)

_PIECE_BYTES = 100  # what a piece of the answer takes beside its characters, at least
_LEAST_TIMEOUT = 0.001  # seconds; 0 would mean not to wait at all


class ChatResponse:
    """The answer of a chat request. Any thread may use it, one at a time.

    `content()` returns the text of the model's answer. Iterating gives the same text in pieces, as
    they arrive: to show an answer while the model writes it. The other methods are for answers that
    are more than a text.

    Iterating may be repeated, and an answer that is not streamed is one piece. If several answers
    were asked for (`n`), the methods give the first; `json()` has all. A streamed answer holds its
    connection until it is read to its end or closed; it is also a context manager. If the answer is
    cut, every method that reads it raises.

    Attributes:
        response: The raw `requests.Response`, for its status and its headers. Only this object may
            read the body of a streamed one.
    """

    def __init__(self, response: requests.Response) -> None:
        self.response = response

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.response.status_code}]>"

    def __enter__(self) -> ChatResponse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        """Wait for the text and yield it in pieces, none of them empty.

        Raises:
            ArkorConnectionError: The connection broke before the end of the answer.
            CloudApiError: The cloud sent an error instead of the rest.
            ResponseError: The answer does not have the documented shape.
        """
        content = self.content()
        if content:
            yield content

    def text(self) -> str:
        """Return what iterating yields, as one string: for code that needs a `str`, never `None`.

        It is `content()`, but empty if the answer has no text.
        """
        return "".join(self)

    def content(self) -> Optional[str]:
        """Return the text of the model's answer, whole. This is the usual way to read an answer.

        Returns:
            The text, or `None` if the answer has none: a tool call, for instance.

        Raises:
            ArkorConnectionError: The connection broke before the end of the answer.
            CloudApiError: The cloud sent an error instead of the rest.
            ResponseError: The answer does not have the documented shape.
        """
        content: Optional[str] = self._message().get("content")
        checked(Optional[str], content, "choices[0].message.content")
        return content

    def parsed(self) -> Any:
        """Return the text, decoded as JSON: for a request for JSON.

        A request asks for it with `response_format` or `structured_outputs`.

        Raises:
            ResponseError: There is no text, or it is not JSON.
        """
        content = self.content() or ""
        hint = "; max_tokens cut it short" if self.finish_reason == "length" else ""
        try:
            return parse_json(content)
        except ValueError:
            pass  # raised below: the context of the error would hold the text
        shown = f"expected JSON, got {content[:100]!r}" if content else "the answer has no content"
        raise ResponseError(f"{shown}{hint}")

    def json(self) -> Any:
        """Return the whole JSON that the cloud sent: for what no other method gives.

        That is the id of the answer, for instance, or several answers. Of a streamed answer it is
        the list of its JSON chunks. JSON in the model's text is returned by `parsed()`.
        """
        return decode_json(self.response.content, "the chat answer")

    def tool_calls(self) -> List[ToolCall]:
        """Return the model's calls of `tools`, empty if there is none: for a request with tools.

        `arguments` in each is a string that holds JSON. `run_tools` makes the calls.
        """
        calls = self._message().get("tool_calls")
        checked(Optional[List[Dict[str, Any]]], calls, "choices[0].message.tool_calls")
        for call in calls or ():
            function = call.get("function")
            if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
                function["arguments"] = arguments_text(function["arguments"])
        return calls or []

    def message(self) -> ChatMessage:
        """Return the answer as a message of the assistant, to append it to the conversation.

        It has the text and the tool calls. Then a message of the role `tool` for each call, or the
        next one of the user, can follow.
        """
        content, calls = self.content(), self.tool_calls()
        if calls:
            return {"role": "assistant", "content": content, "tool_calls": calls}
        return {"role": "assistant", "content": content or ""}

    @property
    def finish_reason(self) -> Optional[str]:
        """Why the answer ended: `stop`, `length`, `tool_calls` or another; `None` if not known."""
        return _reason(self._choice())

    @property
    def usage(self) -> Optional[Usage]:
        """How many tokens the request took (`usage`); `None` if that is not known.

        A streamed answer tells it only if it was asked to, at its end: with the argument
        `extra={"streamOptions": {"includeUsage": True}}`, or for a `ChatEndpoint`
        `extra={"stream_options": {"include_usage": True}}`.
        """
        return _usage(checked(Dict[str, Any], self.json(), ""))

    def close(self) -> None:
        """Close the connection of a streamed answer. What has not been read is lost."""

    def _choice(self) -> Dict[str, Any]:
        envelope = checked(Dict[str, Any], self.json(), "")
        if envelope.get("error") and not envelope.get("choices"):
            raise _error_in(envelope)  # some servers say 200 and then this
        choices = checked(List[Dict[str, Any]], envelope.get("choices"), "choices")
        if not choices:
            raise ResponseError("choices: expected a list with at least one entry, got none")
        return _first_choice(envelope) or choices[0]

    def _message(self) -> Dict[str, Any]:
        message: Dict[str, Any] = checked(
            Dict[str, Any], self._choice().get("message"), "choices[0].message"
        )
        return message


class StreamedChatResponse(ChatResponse):
    """An answer that arrives as server-sent events."""

    def __init__(
        self,
        response: requests.Response,
        close: Callable[[], None],
        patience: float,
        limit: int,
    ) -> None:
        """Wrap a response whose body is unread.

        Args:
            response: A 2xx response.
            close: Closes its connection.
            patience: Seconds to wait for the next frame that is no ping.
            limit: The largest answer, in bytes of its body, and in bytes of memory for what is
                kept of it.
        """
        super().__init__(response)
        self._close_connection = close
        self._stream = ByteStream(response, limit=limit)
        self._patience = patience
        self._parser = FrameParser()
        self._pieces: List[str] = []
        self._chunks: List[str] = []  # JSON texts: a small text may make large objects
        self._limit = self._room = limit
        self._finish_reason: Optional[str] = None
        self._usage: Optional[Usage] = None
        self._ended = False
        self._failure: Optional[ArkorError] = None

    def __iter__(self) -> Iterator[str]:
        position = 0
        while True:
            while position < len(self._pieces):
                yield self._pieces[position]
                position += 1
            if self._ended:
                return
            if self._failure is not None:
                raise self._failure
            self._read()

    def content(self) -> Optional[str]:
        """Wait for the end, and return the text."""
        return self.text() or None

    def json(self) -> Any:
        """Wait for the end, and return the JSON chunks."""
        self.text()
        return list(map(parse_json, self._chunks))

    def tool_calls(self) -> List[ToolCall]:
        """Wait for the end, and return the calls, joined from their parts."""
        calls = ToolCalls()
        for chunk in self.json():
            delta = _first_choice(chunk).get("delta")
            if isinstance(delta, dict) and isinstance(delta.get("tool_calls"), list):
                calls.add(delta["tool_calls"])
        return calls.joined()

    @property
    def finish_reason(self) -> Optional[str]:
        """Why the answer ended; `None` until the chunk that says it has been read."""
        return self._finish_reason

    @property
    def usage(self) -> Optional[Usage]:
        """How many tokens the request took; `None` until the chunk that says it has been read."""
        return self._usage

    def close(self) -> None:
        """Close the connection. What has not been read is lost, and reading it raises."""
        if not self._ended and self._failure is None:
            self._failure = ArkorUsageError("the answer was closed before its end")
        self._close_connection()

    def _read(self) -> None:
        """Wait for bytes, and process the frames that they complete."""
        try:
            for frame in self._next_frames():
                self._process(frame)
                if self._ended:
                    break
        except ArkorError as error:
            self._failure = error  # raised after the pieces before it have been yielded
        except BaseException:
            self._failure = ArkorConnectionError("reading the streamed answer was interrupted")
            self._close_connection()
            raise
        if self._ended or self._failure is not None:
            self._close_connection()

    def _next_frames(self) -> List[Frame]:
        """Wait for frames that are no pings: those, and single bytes, may come for ever."""
        deadline = Clock.now() + self._patience
        while True:
            self._stream.set_timeout(max(_LEAST_TIMEOUT, deadline - Clock.now()))
            chunk = self._stream.read()
            if not chunk:
                raise ArkorConnectionError("the streamed answer was cut before its end")
            frames = [frame for frame in self._parser.feed(chunk) if frame.event != "ping"]
            if frames:
                return frames
            if Clock.now() > deadline:
                raise ArkorTimeoutError("reading the stream: timed out")

    def _process(self, frame: Frame) -> None:
        if frame.event == "end" or frame.data == "[DONE]":
            self._ended = True
            return
        chunk: Any = frame.data  # a number, a list or what is no JSON is text, as it stands
        try:
            decoded = parse_json(frame.data)
        except ValueError:
            decoded = None
        if isinstance(decoded, str):
            chunk = decoded
        elif isinstance(decoded, dict):
            chunk = decoded
            self._keep(self._chunks, frame.data)
            if chunk.get("error"):
                raise _error_in(chunk)
        if frame.event == "error":
            raise _error_in({"error": chunk})
        piece = _text(chunk)
        if piece:
            self._keep(self._pieces, piece)
        self._finish_reason = _reason(_first_choice(chunk)) or self._finish_reason
        self._usage = _usage(chunk) or self._usage

    def _keep(self, kept: List[str], text: str) -> None:
        """Keep a text, for those who read the answer again.

        Raises:
            ResponseError: The answer is larger than the limit.
        """
        self._room -= getsizeof(text) + _PIECE_BYTES
        if self._room < 0:
            raise ResponseError(
                f"the streamed answer takes more than {self._limit:,} bytes of memory; "
                "the client's limit is max_chat_bytes"
            )
        kept.append(text)


def _first_choice(chunk: Any) -> Dict[str, Any]:
    """Return the part of the first answer. If several were asked for, each chunk is of one."""
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    for position, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            index = choice.get("index")
            if (index if type(index) is int else position) == 0:
                return choice
    return {}


def _text(chunk: Any) -> Optional[str]:
    """Return the text of a chunk: in the first choice's delta, or where simpler servers have it."""
    if isinstance(chunk, str):
        return chunk
    if not isinstance(chunk, dict):
        return None
    delta = _first_choice(chunk).get("delta")
    places = (delta.get("content") if isinstance(delta, dict) else None, chunk.get("content"))
    return next((each for each in (*places, chunk.get("text")) if isinstance(each, str)), None)


def _reason(choice: Dict[str, Any]) -> Optional[str]:
    reason = choice.get("finish_reason")
    return reason if isinstance(reason, str) else None


def _usage(answer: Any) -> Optional[Usage]:
    usage = answer.get("usage") if isinstance(answer, dict) else None
    return cast(Usage, usage) if isinstance(usage, dict) and usage else None


def _error_in(chunk: Dict[str, Any]) -> CloudApiError:
    """Build the exception for an error in an answer of status 200; its own is 500 by default."""
    error = chunk["error"]
    fields = error if isinstance(error, dict) else {"message": error, "code": chunk.get("code")}
    message, code = fields.get("message"), fields.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return CloudApiError.for_status(
        status,
        safe_line(message)
        if isinstance(message, str)
        else "the server could not finish the answer",
        code if isinstance(code, str) else None,
    )
