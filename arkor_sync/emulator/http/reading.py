"""Reads requests; refuses the malformed, large and slow. Runs in the connection's thread.

RFC 9112 is taken strictly: a message that two programs could read in two ways is refused, and the
connection is closed, because nobody can tell where the next request would begin.
"""

from __future__ import annotations

import http.client
import re
from typing import BinaryIO, List, Optional, Tuple
from urllib.parse import parse_qsl, unquote

from arkor_sync.emulator.http.access import check_content_type, check_source
from arkor_sync.emulator.http.messages import ApiError, Request
from arkor_sync.emulator.http.server import Connection, TooSlow

MAX_HEAD = 64 * 1024  # bytes: the request line and all headers
MAX_BODY = 16 * 1024 * 1024  # bytes

# Real seconds: until a request begins, and from then on until all of it is there.
IDLE_SECONDS = 120.0
REQUEST_SECONDS = 30.0

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_NAME = re.compile(_TOKEN)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_DIGITS = re.compile(r"[0-9]+")


def read_request(connection: Connection) -> Optional[Request]:
    """Read one request. Return None if the client leaves, or sends nothing for a long time.

    Raises:
        ApiError: The request is refused: 400 if it is malformed, 408 if it does not come to its
            end in time, 411, 413, 414, 431 or 505 if it is of a kind or a size that is not read,
            403 or 415 if a page in a browser could have sent it.
    """
    connection.read_within(IDLE_SECONDS)
    try:
        if not connection.reader.peek(1):
            return None
    except TooSlow:
        return None
    connection.read_within(REQUEST_SECONDS)
    try:
        return _read(connection.reader)
    except TooSlow:
        raise ApiError(408, f"the request was not complete after {REQUEST_SECONDS:g} s") from None


def _read(stream: BinaryIO) -> Optional[Request]:
    lines = _read_head(stream)
    if lines is None:
        return None
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise ApiError(400, "malformed request line")
    method, target = match[1].decode(), match[2].decode()
    if match[3] != b"1":
        raise ApiError(505, "only version 1 of HTTP is spoken here")
    headers = _parse_headers(lines[1:])
    length = _content_length(headers)
    authority, path, query = _split_target(target)
    # Before the body is read, so that nobody who is refused can fill the memory.
    check_source(headers, authority)
    check_content_type(method, headers, has_body=length > 0)
    options = {option.strip().lower() for option in headers.get("Connection", "").split(",")}
    body = stream.read(length)
    if len(body) < length:
        return None
    return Request(
        method=method,
        path=path,
        segments=[unquote(segment) for segment in path.split("/")[1:]],
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        body=body,
        # The answer to HEAD has a body here, which the client does not expect: it would take it for
        # the next answer.
        keep_alive=match[4] != b"0" and "close" not in options and method != "HEAD",
    )


def _split_target(target: str) -> Tuple[Optional[str], str, str]:
    """Return the authority (None if there is none), the path and the query of a request target."""
    authority = None
    absolute = re.match(r"https?://([^/?#]*)", target, re.IGNORECASE)
    if absolute is not None:
        authority, target = absolute[1], target[absolute.end() :] or "/"
    path, _, query = target.partition("#")[0].partition("?")
    return authority, path, query


def _read_head(stream: BinaryIO) -> Optional[List[bytes]]:
    """Return the lines up to the blank one. Return None if the client leaves before."""
    lines: List[bytes] = []
    left = MAX_HEAD
    while True:
        line = stream.readline(left)
        left -= len(line)
        if not line.endswith(b"\r\n"):
            if left == 0:
                what = "headers are" if lines else "request line is"
                raise ApiError(431 if lines else 414, f"the {what} longer than {MAX_HEAD} bytes")
            if line.endswith(b"\n"):
                raise ApiError(400, "a line of the request does not end with CR LF")
            return None
        if line != b"\r\n":
            lines.append(line[:-2])
        # A blank line before the request is ignored (RFC 9112, section 2.2).
        elif lines:
            return lines


def _parse_headers(lines: List[bytes]) -> http.client.HTTPMessage:
    headers = http.client.HTTPMessage()
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or _CONTROL.search(value):
            raise ApiError(400, "malformed header")
        headers[name.decode()] = value.strip(b" \t").decode("latin-1")
    return headers


def _content_length(headers: http.client.HTTPMessage) -> int:
    """Return the length of the body. There must be one way to tell where it ends."""
    lengths = headers.get_all("Content-Length", [])
    if "Transfer-Encoding" in headers:
        if lengths:
            raise ApiError(400, "a request has Content-Length or Transfer-Encoding, not both")
        raise ApiError(411, "a request body needs a Content-Length; Transfer-Encoding is not read")
    if not lengths:
        return 0
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise ApiError(400, f"Content-Length: expected one whole number, got {lengths!r:.100}")
    digits = lengths[0].lstrip("0") or "0"
    if len(digits) > len(str(MAX_BODY)) or int(digits) > MAX_BODY:
        raise ApiError(413, f"the request body is larger than {MAX_BODY} bytes")
    return int(digits)
