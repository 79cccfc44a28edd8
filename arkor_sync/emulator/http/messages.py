"""HTTP/1.1 as data: reads one request, writes one answer. Runs in a connection's thread."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO, Dict, List, Mapping, Optional
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_BODY = 64 * 1024 * 1024
MAX_LINE = 64 * 1024


class ApiError(Exception):
    """Ends a request with an error answer, ``{"error": ..., "code": ...}``.

    Args:
        status: The HTTP status.
        message: The text for the user, the wire field ``error``.
        code: A stable identifier, the wire field ``code``, where there is one.
        body: The whole JSON body, where it is not of that shape.
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
    """One request as it came in."""

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
            ApiError: 400, when it is not JSON.
        """
        try:
            return json.loads(self.body, parse_constant=_reject)
        except ValueError:
            raise ApiError(400, "the request body is not valid JSON") from None

    def json_object(self) -> Dict[str, Any]:
        """Decode the body, which has to be a JSON object (400 otherwise)."""
        value = self.json()
        if not isinstance(value, dict):
            raise ApiError(400, "the request body must be a JSON object")
        return value


@dataclass(frozen=True)
class Response:
    """A whole answer. ``body`` is JSON, or bytes to be sent as they are, or None for no body."""

    status: int
    body: Any = None
    headers: Dict[str, str] = field(default_factory=dict)

    def payload(self) -> bytes:
        """Return the body's bytes."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def read_request(stream: BinaryIO) -> Optional[Request]:
    """Read one request; None when the client closed the connection instead.

    Raises:
        ApiError: 400 or 413, when what came is not a request to be answered.
    """
    line = stream.readline(MAX_LINE)
    if not line.strip():
        return None
    try:
        method, target, version = line.decode("latin-1").split()
        headers = http.client.parse_headers(stream)
    except (ValueError, http.client.HTTPException):
        raise ApiError(400, "malformed HTTP request") from None
    length = headers.get("Content-Length", "0")
    if "Transfer-Encoding" in headers or not length.isdigit():
        raise ApiError(411, "a request body needs a Content-Length")
    if int(length) > MAX_BODY:
        raise ApiError(413, "the request body is too large")
    body = stream.read(int(length))
    if len(body) < int(length):
        return None
    parts = urlsplit(target)
    return Request(
        method=method,
        path=parts.path,
        segments=[unquote(segment) for segment in parts.path.split("/")[1:]],
        query=dict(parse_qsl(parts.query, keep_blank_values=True)),
        headers=headers,
        body=body,
        keep_alive=version != "HTTP/1.0" and headers.get("Connection", "").lower() != "close",
    )


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the status line and the headers, blank line included."""
    lines = [f"HTTP/1.1 {status} {_reason(status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(response: Response, *, keep_alive: bool) -> bytes:
    """Return a whole answer: head, ``Content-Length`` and body."""
    payload = response.payload()
    headers = {"Content-Length": str(len(payload))} if response.status != 204 else {}
    if response.body is not None:
        headers["Content-Type"] = "application/json"
    headers["Connection"] = "keep-alive" if keep_alive else "close"
    return head(response.status, {**headers, **response.headers}) + payload


def _reject(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
