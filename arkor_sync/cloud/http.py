"""One request to the cloud and its answer. Runs on the caller's thread.

It sets the headers and the bearer, makes exceptions of error answers, and decodes JSON strictly. A
request has a transport of its own, unless it is given one: no connection is shared by threads,
reused by a later request, or inherited by a forked child.
"""

from __future__ import annotations

import math
import re
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional, Tuple, Union, get_args

import requests
from requests.auth import AuthBase

from arkor_sync._common.arguments import check, is_seconds, refusal
from arkor_sync._common.clock import Clock
from arkor_sync._common.json import parse_json
from arkor_sync._common.secret import Secret, hide_secrets, redact_known
from arkor_sync._common.text import safe_line
from arkor_sync.cloud.bodies import (
    MAX_ANSWER_BYTES,
    MAX_CHAT_BYTES,
    MAX_ERROR_BYTES,
    read_body,
)
from arkor_sync.cloud.client_version import (
    CLIENT_HEADER,
    CLIENT_HEADER_NAME,
    USER_AGENT,
    DeprecationSink,
    record_deprecation,
    upgrade_message,
)
from arkor_sync.cloud.record import checked
from arkor_sync.cloud.request_facts import (
    Origin,
    Refusal,
    describe,
    reason_of,
    redirect_message,
)
from arkor_sync.cloud.retries import SAFE_METHODS, Retry, repeat
from arkor_sync.cloud.retry_after import parse_retry_after
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import (
    ArkorConnectionError,
    AuthenticationError,
    CloudApiError,
    CredentialsError,
    ResponseError,
)

Timeout = Tuple[float, Optional[float]]
"""Seconds to connect, and seconds for the whole answer (`None`: no limit)."""

DEFAULT_TIMEOUT: Timeout = (10.0, 60.0)

EVENT_STREAM = "text/event-stream"
UNBUFFERED = {"Accept-Encoding": "identity", "Cache-Control": "no-cache"}
"""Request headers that ask proxies not to hold back the events of a stream."""

_LISTED = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')  # split at the commas outside of quotes
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'+.^_`|~0-9a-z-]+")  # not */*


class BearerAuth(AuthBase):
    """Sets the `Authorization` header. Its `repr` does not show the bearer.

    Args:
        token: The bearer.
        renew: Called after a 401 with the bearer that was refused and the transport of the request.
            It returns another bearer, or the same if there is no other.
        origin: Where the bearer and the base URL were found, for the text of an error.

    Raises:
        CredentialsError: The token cannot be in a header. The message does not show it.
    """

    def __init__(
        self,
        token: str,
        renew: Optional[Callable[[str, Transport], str]] = None,
        origin: Origin = Origin(),  # noqa: B008
    ) -> None:
        token = Secret(token)
        # http.client shows a header value that it refuses in its message: refuse the token first.
        if not re.fullmatch(r"[!-~]+", token.strip()):
            raise CredentialsError(
                f"the token {origin.token} is empty or has characters that a header cannot carry "
                "(white space, control characters, or beyond ASCII)"
            )
        self.origin = origin
        self._token = token
        self._renew = renew

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token on a request; `requests` calls this."""
        request.headers["Authorization"] = f"Bearer {self._token.strip()}"
        return request

    def renewed(self, transport: Transport) -> Optional[BearerAuth]:
        """Return the authorisation to try after a 401, or `None` if there is no other bearer."""
        token = self._renew(self._token, transport) if self._renew else self._token
        if token.strip() == self._token.strip():
            return None
        return BearerAuth(token, origin=self.origin)

    def __repr__(self) -> str:
        return "BearerAuth(...)"

    def redact(self, text: str) -> str:
        """Remove the token from a text of the server; not a short one, which may be a word."""
        token = self._token.strip()
        return text.replace(token, "[token]") if len(token) >= 16 else text


@dataclass(frozen=True)
class HttpClient:
    """Makes requests. Its settings are those that all requests of a client share.

    Attributes:
        timeout: For requests that do not have a timeout of their own.
        template: A `requests` session whose proxies, certificates and headers are copied, or
            `None`. It makes no requests itself.
        client_header: Sent in `X-Arkor-Client`.
        on_deprecation: Called with the cloud's deprecation notices, or `None`.
        max_answer_bytes: The largest JSON answer, decoded; a larger one is refused.
        max_error_bytes: How much is read of the body of an error; the rest is dropped.
        max_chat_bytes: The largest answer of a chat, decoded; a larger one is refused.
        retry: Which requests are repeated; see `retries`.
        clock: Measures the time between two attempts.
        is_arkor: Whether the server is an Arkor cloud, which looks at the client's version.

    Raises:
        ArkorUsageError: A value that cannot work.
    """

    timeout: Timeout = DEFAULT_TIMEOUT
    template: Optional[requests.Session] = None
    client_header: str = CLIENT_HEADER
    on_deprecation: Optional[DeprecationSink] = None
    max_answer_bytes: int = MAX_ANSWER_BYTES
    max_error_bytes: int = MAX_ERROR_BYTES
    max_chat_bytes: int = MAX_CHAT_BYTES
    retry: Retry = "safe"
    clock: Clock = field(default_factory=Clock)
    is_arkor: bool = True

    def __post_init__(self) -> None:
        check_timeout(self.timeout)
        check("retry", self.retry, self.retry in get_args(Retry), "'safe', 'all' or 'none'")
        for name in ("max_answer_bytes", "max_error_bytes", "max_chat_bytes"):
            value = getattr(self, name)
            fits = type(value) is int and value > 0
            check(name, value, fits, "a whole number of bytes above 0")
        header = self.client_header
        if header is not None and not (isinstance(header, str) and re.fullmatch(r"[!-~]+", header)):
            raise refusal("client_header", header, "a name and a version, such as 'arkor/1.2.3'")

    @property
    def patience(self) -> float:
        """Seconds that one request may take, without those in which it is sent."""
        connect, read = self.timeout
        return connect + (math.inf if read is None else read)

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
        address: str = "",
    ) -> requests.Response:
        """Send a request and return its response with the body unread; the caller closes it.

        After a 401 it is sent once more if there is another token: the cloud did not act on it.
        After another failure a POST is sent again if `retry` is `"all"`.

        Args:
            transport: Sends the request.
            method: The HTTP method.
            url: The whole URL.
            auth: The bearer, or None.
            headers: More request headers.
            body: The JSON body; None for no body.
            timeout: None for that of this client.
            address: Where the base URL was found, where no bearer says it.

        Raises:
            CloudApiError: The status is not 2xx. The response has been read and closed.
            CredentialsError: The token has expired, and the account must sign in again.
            ArkorConnectionError: The request got no answer.
        """
        origin = auth.origin if auth else Origin("", address)

        def send(over: Transport) -> requests.Response:
            try:
                return self._send(over, method, url, auth, headers, body, timeout, origin)
            except AuthenticationError:
                newer = auth.renewed(over) if auth else None
                if newer is None:
                    raise
            return self._send(over, method, url, newer, headers, body, timeout, origin)

        if method == "POST" and self.retry == "all":
            return repeat(send, transport, self.clock)
        return send(transport)

    def _send(
        self,
        transport: Transport,
        method: str,
        url: str,
        auth: Optional[BearerAuth],
        headers: Optional[Mapping[str, Union[str, bytes]]],
        body: Any,
        timeout: Optional[Timeout],
        origin: Origin,
    ) -> requests.Response:
        response = transport.request(
            method,
            url,
            timeout=timeout or self.timeout,
            auth=auth,
            headers={
                "Accept": "application/json",
                **(headers or {}),
                **({CLIENT_HEADER_NAME: self.client_header} if self.is_arkor else {}),
                "User-Agent": USER_AGENT,
            },
            json=body,
            stream=True,
            address=origin.address,
        )
        response.request.headers.pop(
            "Authorization", None
        )  # users may print or pickle the response
        if self.is_arkor:
            record_deprecation(response.headers, self.client_header, self.on_deprecation)
        if 200 <= response.status_code < 300:
            return response
        with closing(response):
            raise self._status_error(response, auth, body, origin, transport.proxy_of(url))

    def fetch(
        self,
        method: str,
        url: str,
        *,
        auth: Optional[BearerAuth] = None,
        body: Any = None,
        transport: Optional[Transport] = None,
        address: str = "",
    ) -> bytes:
        """Send a request and return the body of its 2xx answer.

        Args:
            method: The HTTP method.
            url: The whole URL.
            auth: The bearer, or None.
            body: The JSON body; None for no body.
            transport: Sends the request once, and is left open. None for one of its own; then a
                request that is safe to repeat is sent again after a failure that may pass.
            address: Where the base URL was found, where no bearer says it.

        Returns:
            The body; empty for a DELETE that an earlier attempt has carried out.

        Raises:
            CloudApiError: The status is not 2xx.
            ArkorConnectionError: The request got no answer, or not all of it.
        """

        def send(over: Transport) -> bytes:
            response = self.open(over, method, url, auth=auth, body=body, address=address)
            with closing(response):
                return read_body(response, self.max_answer_bytes)

        if transport is not None:
            return send(transport)
        with Transport(self.template) as own:
            if method not in SAFE_METHODS or self.retry == "none":
                return send(own)
            return repeat(send, own, self.clock, b"" if method == "DELETE" else None)

    def _status_error(
        self,
        response: requests.Response,
        auth: Optional[BearerAuth],
        sent: Any,
        origin: Origin,
        proxy: str,
    ) -> CloudApiError:
        try:
            body = read_body(response, self.max_error_bytes, cut=True)
        except ArkorConnectionError:
            body = b""
        text = redact_known(body.decode("utf-8", "replace"), sent)
        if auth is not None:
            text = auth.redact(text)
        try:
            data = parse_json(text)
        except ValueError:
            data = None
        status, (reason, code) = response.status_code, reason_of(data)
        if 300 <= status < 400:
            message = redirect_message(response.url, response.headers.get("Location", ""))
        elif status == 426 and self.is_arkor:
            message = upgrade_message(data, self.client_header)
        else:
            who = "the cloud-api" if self.is_arkor else "the server"
            message = reason or text.strip() or f"{who} answered with status {status}"
        retry_after = parse_retry_after(
            response.headers.get("Retry-After"), response.headers.get("Date")
        )
        request, is_page = response.request, media_type(response) == "text/html"
        hint = describe(
            request.method or "",
            request.url or "",
            origin,
            Refusal(status, is_page, bool(reason), retry_after, proxy),
        )
        return CloudApiError.for_status(status, safe_line(message), code, text, retry_after, hint)


def media_type(response: requests.Response) -> str:
    """Return the content type without its parameters; empty if there is none.

    RFC 9110, section 8.3: where the header came twice, recipients use the last valid value.
    """
    header = response.headers.get("Content-Type", "").lower()
    values = [value.partition(";")[0].strip() for value in _LISTED.findall(header)]
    valid = [value for value in values if _MEDIA_TYPE.fullmatch(value)]
    return next(reversed(valid or values), "")


def decode_json(body: bytes, what: str, secret: bool = False) -> Any:
    """Decode a JSON document strictly: UTF-8, and no `NaN` or `Infinity`.

    Args:
        body: The bytes.
        what: What the document is; the error message starts with it.
        secret: Whether the message must not show the body.

    Raises:
        ResponseError: It is not JSON.
    """
    try:
        return parse_json(body)
    except ValueError:
        pass  # raised below: the context of the error would hold the document
    shown = "" if secret else f": {body[:100].decode('utf-8', 'replace')!r}"
    got = f"{len(body)} bytes that are not{shown}" if body else "an empty body"
    del body  # a report of the error shows the variables
    raise ResponseError(f"{what}: expected JSON, got {got}")


def decode_answer(body: bytes, shape: Any, member: str = "", secret: bool = False) -> Any:
    """Decode a JSON answer, or one member of it, strictly.

    Args:
        body: The bytes.
        shape: The type of what is returned: a record, or a list of records.
        member: The key that holds it; empty if it is the answer itself.
        secret: Whether the message must not show the body.

    Raises:
        ResponseError: The answer is not JSON, or not of this shape.
    """
    data = decode_json(body, "the answer", secret)
    data = hide_secrets(data, secret=not isinstance(data, dict))
    return checked(shape, checked(dict, data, "").get(member) if member else data, member)


def check_timeout(timeout: Timeout) -> Timeout:
    """Return the timeout.

    Raises:
        ArkorUsageError: It is not a pair of positive numbers, the second of which may be `None`; or
            the system cannot wait for so long.
    """
    try:
        connect, read = timeout
        given = (connect,) if read is None else (connect, read)
        fits = all(is_seconds(each) and each > 0 for each in given)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise refusal("timeout", timeout, "two numbers of seconds above 0, such as (10, 60)")
    return timeout
