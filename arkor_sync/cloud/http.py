"""One request to the cloud and its answer: headers, bearer, errors, strict JSON.

It runs on the caller's thread. Every plain request has a transport of its own: no connection is
shared between threads, kept alive, or carried over a fork.
"""

from __future__ import annotations

import http.client
import math
import re
import time
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Union
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from arkor_sync._common.json import parse_json
from arkor_sync.cloud.client_version import (
    CLIENT_HEADER,
    CLIENT_HEADER_NAME,
    USER_AGENT,
    DeprecationSink,
    record_deprecation,
    upgrade_message,
)
from arkor_sync.cloud.record import checked
from arkor_sync.cloud.transport import Transport, connection_error
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorUsageError,
    AuthenticationError,
    CloudApiError,
    CredentialsError,
    ResponseError,
)

Timeout = Tuple[float, Optional[float]]
"""Seconds to connect, and seconds of silence between two reads (`None`: no limit)."""

DEFAULT_TIMEOUT: Timeout = (10.0, 60.0)

EVENT_STREAM = "text/event-stream"
UNBUFFERED = {"Accept-Encoding": "identity", "Cache-Control": "no-cache"}
"""Request headers that keep what is between from holding a stream's events back."""

_MAX_ERROR_BYTES = 64 * 1024


class BearerAuth(AuthBase):
    """Sets the authorisation header, and shows nothing of it.

    Args:
        token: The bearer.
        renew: Given a bearer that the cloud answered 401 to and the transport of the request, it
            returns a newer one, or the same if there is none.
    """

    def __init__(self, token: str, renew: Optional[Callable[[str, Transport], str]] = None) -> None:
        # http.client repeats a header value that it refuses, so it must never get to refuse one.
        if not re.fullmatch(r"[!-~]+", token):
            raise CredentialsError(
                "the token is empty or has characters that a header cannot carry (white space, "
                "control characters, or beyond ASCII)"
            )
        self._token = token
        self._renew = renew

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token on a request; `requests` calls this."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def renewed(self, transport: Transport) -> Optional[BearerAuth]:
        """Return what to try after a 401, or `None` if there is nothing else."""
        token = self._renew(self._token, transport) if self._renew else self._token
        return None if token == self._token else BearerAuth(token)

    def __repr__(self) -> str:
        return "BearerAuth(...)"

    def redact(self, text: str) -> str:
        """Cut the token from a text that the server sent. Short ones may be words of it."""
        return text.replace(self._token, "[token]") if len(self._token) >= 16 else text


@dataclass(frozen=True)
class HttpClient:
    """How requests are made: what all of them share.

    Attributes:
        timeout: For requests that name none.
        session: A session whose proxies, certificates and headers are taken over, or `None`.
        client_header: Sent in `X-Arkor-Client`.
        on_deprecation: Takes the cloud's deprecation notices, or `None`.
    """

    timeout: Timeout = DEFAULT_TIMEOUT
    session: Optional[requests.Session] = None
    client_header: str = CLIENT_HEADER
    on_deprecation: Optional[DeprecationSink] = None

    def open(
        self,
        transport: Transport,
        method: str,
        url: str,
        *,
        auth: Optional[BearerAuth] = None,
        headers: Optional[Mapping[str, Union[str, bytes]]] = None,
        body: Any = None,
        timeout: Optional[Timeout] = None,
    ) -> requests.Response:
        """Send a request and return its response with the body unread; the caller closes it.

        After a 401 it is sent once more, if there is a newer token: it was not obeyed.

        Raises:
            CloudApiError: The status is not 2xx. The response has been read and closed.
            CredentialsError: The token has ended, and only signing in again gives a new one.
            ArkorConnectionError: The request did not get its answer.
        """
        try:
            return self._send(transport, method, url, auth, headers, body, timeout)
        except AuthenticationError:
            newer = auth.renewed(transport) if auth else None
            if newer is None:
                raise
        return self._send(transport, method, url, newer, headers, body, timeout)

    def _send(
        self,
        transport: Transport,
        method: str,
        url: str,
        auth: Optional[BearerAuth],
        headers: Optional[Mapping[str, Union[str, bytes]]],
        body: Any,
        timeout: Optional[Timeout],
    ) -> requests.Response:
        response = transport.request(
            method,
            url,
            timeout=timeout or self.timeout,
            auth=auth,
            headers={
                "Accept": "application/json",
                **(headers or {}),
                CLIENT_HEADER_NAME: self.client_header,
                "User-Agent": USER_AGENT,
            },
            json=body,
            stream=True,
        )
        response.request.headers.pop("Authorization", None)  # responses are shown and pickled
        record_deprecation(response.headers, self.client_header, self.on_deprecation)
        if 200 <= response.status_code < 300:
            return response
        with closing(response):
            raise self._error(response, auth)

    def fetch(
        self,
        method: str,
        url: str,
        *,
        auth: Optional[BearerAuth] = None,
        body: Any = None,
        transport: Optional[Transport] = None,
    ) -> bytes:
        """Send a request and return the body of the 2xx answer.

        The transport is one of its own, unless one is given; that one is left open.

        Raises:
            CloudApiError: The status is not 2xx.
            ArkorConnectionError: The request did not get its answer, or not the whole of it.
        """
        if transport is None:
            with Transport(self.session) as own:
                return self.fetch(method, url, auth=auth, body=body, transport=own)
        with closing(self.open(transport, method, url, auth=auth, body=body)) as response:
            return read_body(response)

    def _error(self, response: requests.Response, auth: Optional[BearerAuth]) -> CloudApiError:
        try:
            body = read_body(response, _MAX_ERROR_BYTES)
        except ArkorConnectionError:
            body = b""
        text = body.decode("utf-8", "replace")
        if auth is not None:
            text = auth.redact(text)
        try:
            data = parse_json(text)
        except ValueError:
            data = None
        fields: Dict[str, Any] = data if isinstance(data, dict) else {}
        status, said, code = response.status_code, fields.get("error"), fields.get("code")
        if not isinstance(said, str):
            said = ""
        if not isinstance(code, str):
            # Some answers carry their machine-readable code as the error text itself.
            code = said if re.fullmatch("[a-z0-9]+(_[a-z0-9]+)+", said) else None
        if 300 <= status < 400:
            message = _redirect_message(response)
        elif status == 426:
            message = upgrade_message(data, self.client_header)
        else:
            message = said or text.strip() or f"the cloud-api answered with status {status}"
        retry_after = parse_retry_after(response.headers.get("Retry-After"))
        return CloudApiError.for_status(status, message, code, text, retry_after)


def read_body(response: requests.Response, limit: Optional[int] = None) -> bytes:
    """Read a response's body, or at most `limit` bytes of it.

    Raises:
        ArkorConnectionError: The connection broke, or stayed silent for too long.
    """
    try:
        if limit is None:
            return response.content
        body = b""
        for chunk in response.iter_content(8192):
            body += chunk
            if len(body) >= limit:
                break
        return body[:limit]
    except (requests.RequestException, HTTPError, OSError, http.client.HTTPException) as error:
        failure, root = connection_error(error, "reading the answer")
    raise failure from root


def media_type(response: requests.Response) -> str:
    """Return the content type without its parameters, empty if there is none."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def decode_json(body: bytes, what: str, secret: bool = False) -> Any:
    """Decode a JSON document strictly: UTF-8, and no `NaN` or `Infinity`.

    Args:
        body: The bytes.
        what: What was asked for; the error message begins with it.
        secret: Whether nothing of the body may be shown.

    Raises:
        ResponseError: It is not JSON.
    """
    try:
        return parse_json(body)
    except ValueError:
        pass  # raised below, so that no chain repeats the document
    shown = "" if secret else f": {body[:100].decode('utf-8', 'replace')!r}"
    came = f"{len(body)} bytes that are not{shown}" if body else "an empty body"
    raise ResponseError(f"{what}: expected JSON, got {came}")


def decode_answer(body: bytes, shape: Any, member: str = "") -> Any:
    """Decode a JSON answer, or one member of it, strictly.

    Args:
        body: The bytes.
        shape: The type of what is returned: a record, or a list of records.
        member: The key that holds it; empty if it is the answer itself.

    Raises:
        ResponseError: The answer is not JSON, or not of this shape.
    """
    data = decode_json(body, "the answer")
    return checked(shape, checked(dict, data, "").get(member) if member else data, member)


def parse_retry_after(value: Optional[str]) -> Optional[float]:
    """Read a `Retry-After` header: seconds, or an HTTP date.

    Returns:
        Seconds from now, 0 or more; `None` where there is none to be understood.
    """
    if not value:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        seconds = float(value)
        return seconds if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _redirect_message(response: requests.Response) -> str:
    location = response.headers.get("Location", "")
    try:
        host = urlsplit(urljoin(response.url, location)).netloc.rpartition("@")[2]
    except ValueError:
        host = "an address that cannot be read"
    return (
        f"redirected to {host[:200] if location else 'nowhere'}; redirects are not followed, and "
        "the token was not sent there"
    )


def check_timeout(timeout: Timeout) -> Timeout:
    """Return the timeout.

    Raises:
        ArkorUsageError: It is not a pair of positive numbers, the second of which may be `None`.
    """
    try:
        connect, read = timeout
        fits = connect > 0 and (read is None or read > 0)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ArkorUsageError(f"timeout: got {timeout!r}; give seconds above 0, such as (10, 60)")
    return timeout


def check_base_url(url: str) -> str:
    """Return a base URL without its trailing slashes.

    Raises:
        ArkorUsageError: It is not an HTTP address, or has parts that a base cannot have.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except (ValueError, AttributeError, TypeError):
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise ArkorUsageError(
            "the base URL of the cloud is not an HTTP address, such as https://api.arkor.ai; it "
            "comes from base_url, from ARKOR_CLOUD_API_URL or from the credentials"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ArkorUsageError(
            "the base URL of the cloud must not have a user name, a query or a fragment"
        )
    return url.rstrip("/")


def build_url(base_url: str, *segments: str, **query: str) -> str:
    """Join a base URL, path segments and query parameters, all of them percent-encoded."""
    url = "/".join([check_base_url(base_url), *map(_encoded, segments)])
    pairs = [f"{name}={_encoded(value)}" for name, value in query.items()]
    return f"{url}?{'&'.join(pairs)}" if pairs else url


def _encoded(text: str) -> str:
    try:
        return quote(text, safe="!*'()")
    except UnicodeError:
        raise ArkorUsageError(f"{text!a} cannot be part of a URL") from None
