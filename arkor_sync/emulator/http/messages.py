"""Requests, responses and errors; encodes responses. Runs in the connection's thread."""

from __future__ import annotations

import http.client
import json
import sys
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Dict, List, Mapping, Optional, Union

MAX_DEPTH = 200


class ApiError(Exception):
    """Answers a request with an error: `{"error": ..., "code": ...}`.

    Args:
        status: The HTTP status.
        message: A text for people: the field `error`.
        code: An identifier for programs: the field `code`; None leaves it out.
        body: The whole JSON body, if it has other fields.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: Optional[str] = None,
        body: Optional[Dict[str, Any]] = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body or ({"error": message, "code": code} if code else {"error": message})


@dataclass(frozen=True)
class Request:
    """One request."""

    method: str
    path: str
    segments: List[str]
    query: Dict[str, str]
    headers: http.client.HTTPMessage = field(repr=False)
    body: bytes = field(repr=False)
    keep_alive: bool

    def json(self) -> Any:
        """Decode the body.

        Raises:
            ApiError: 400, if it is not JSON.
        """
        try:
            return decode_json(self.body, parse_constant=_reject)
        except ValueError as error:
            raise ApiError(400, f"the request body is not valid JSON: {error}") from None

    def json_object(self) -> Dict[str, Any]:
        """Decode the body, which has to be a JSON object.

        Raises:
            ApiError: 400, if it is not.
        """
        value = self.json()
        if not isinstance(value, dict):
            raise ApiError(400, "the request body must be a JSON object")
        return value


@dataclass(frozen=True)
class Response:
    """A response that is sent at once. `body`: a JSON value, bytes, or None for no body."""

    status: int
    body: Any = None
    headers: Dict[str, str] = field(default_factory=dict)

    def payload(self) -> bytes:
        """Return the body's bytes."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def decode_json(text: Union[str, bytes], **options: Any) -> Any:
    """Decode JSON that is nested at most `MAX_DEPTH` deep.

    A deeper value would exhaust the stack of the decoder, or of whoever walks through it later.
    RFC 8259, section 9, allows such a limit.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    too_deep = f"it is nested more than {MAX_DEPTH} deep"
    try:
        value = json.loads(text, **options)
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        children: List[Any] = []
        for item in level:
            if isinstance(item, dict):
                children.extend(item.values())
            elif isinstance(item, list):
                children.extend(item)
        level = children
        if not level:
            return value
    raise ValueError(too_deep)


def encode_head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of the status line and the headers, with the blank line after them."""
    lines = [f"HTTP/1.1 {status} {_reason(status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def encode_response(response: Response, *, keep_alive: bool) -> bytes:
    """Return the bytes of a response: status line, headers and body."""
    payload = response.payload()
    headers = {"Content-Length": str(len(payload))} if response.status != 204 else {}
    if response.body is not None:
        headers["Content-Type"] = "application/json"
    headers["Connection"] = "keep-alive" if keep_alive else "close"
    return encode_head(response.status, {**headers, **response.headers}) + payload


def is_number(value: object) -> bool:
    """Tell whether a JSON value is a finite number. A boolean is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max


def is_integer(value: object) -> bool:
    """Tell whether a JSON value is a whole number. A boolean is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _reject(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
