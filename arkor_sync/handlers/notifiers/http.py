"""The base class of notifiers that post JSON to a webhook. Runs on a thread of its own.

The URL of a webhook is a secret: no log line and no exception may contain its path or query.
"""

import abc
import dataclasses
import json
import logging
import re
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import unquote, urlsplit

import requests

from arkor_sync.cloud.bodies import read_body
from arkor_sync.cloud.client_version import USER_AGENT
from arkor_sync.cloud.connection_errors import connection_error
from arkor_sync.cloud.content_coding import ACCEPT_ENCODING
from arkor_sync.cloud.http import check_timeout
from arkor_sync.cloud.plain_session import PlainSession
from arkor_sync.cloud.retry_after import parse_retry_after
from arkor_sync.errors import ArkorError, ArkorUsageError
from arkor_sync.handlers.notifiers.base import Notifier
from arkor_sync.handlers.notifiers.delivery import Unavailable, Undelivered
from arkor_sync.handlers.notifiers.notification import Notification, clean

_MAX_ANSWER = 4096  # bytes
# A context variable, so that it also holds in threads that a library starts with a copied context.
_muted: ContextVar[bool] = ContextVar("_muted", default=False)


def _is_not_muted(_: logging.LogRecord) -> bool:
    return not _muted.get()


@contextmanager
def mute_loggers(*names: str) -> Iterator[None]:
    """Drop all records of these loggers inside the block: at DEBUG they contain whole URLs."""
    for name in names:
        logging.getLogger(name).addFilter(_is_not_muted)  # adding it again does nothing
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


class Answer(NamedTuple):
    """The answer of a service, with at most the first 4096 bytes of its text."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclasses.dataclass(repr=False, eq=False)
class HttpNotifier(Notifier):
    """A notifier that posts JSON to a URL. Redirects are not followed.

    Args:
        timeout: Seconds to connect, and seconds for the answer.
    """

    timeout: Tuple[float, float] = (5.0, 10.0)

    def __post_init__(self, url: Optional[str]) -> None:
        check_timeout(self.timeout)
        super().__post_init__(url)

    def __repr__(self) -> str:
        host = f" {self._host}" if self.enabled else ""
        return f"{super().__repr__()[:-1]}{host}>"

    @abc.abstractmethod
    def body(self, note: Notification) -> Any:
        """Return the JSON document of a notification in the format of the service."""

    def _connect(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise ArkorUsageError(
                "url: got a text that is no http(s) address (it may be secret, so it is not shown "
                f"here); give the webhook's address as url or in {self.variable}"
            )
        self._url = url
        self._host = parts.netloc.rpartition("@")[2]

    def _headers(self, _note: Notification, _body: bytes) -> Mapping[str, str]:
        """Return headers that the service needs, for one attempt."""
        return {}

    def _status(self, answer: Answer) -> int:
        """Return the HTTP status of the answer, or the one that its text reports."""
        return answer.status

    def _retry_after(self, answer: Answer) -> Optional[float]:
        """Return for how many seconds the service asks to get no more requests."""
        return parse_retry_after(answer.headers.get("Retry-After"), answer.headers.get("Date"))

    def _attempt(self, note: Notification) -> None:
        answer = self._post(note)
        self._pause(self._retry_after(answer))
        status = self._status(answer)
        if 200 <= status < 300:
            return
        # Shortened after the secrets are removed, so that no part of a secret is left.
        text = clean(self._redact(answer.text), 200)
        problem = f"{self._host} answered {status}{': ' if text else ''}{text}"
        if status in (408, 429) or status >= 500:
            raise Unavailable(problem)
        if 300 <= status < 400:
            problem = f"{self._host} redirects ({status}), which is not followed"
        raise Undelivered(problem)

    def _post(self, note: Notification) -> Answer:
        try:
            body = json.dumps(self.body(note), allow_nan=False).encode()
        except Exception as error:
            problem = self._redact(f"{type(error).__name__}: {error}")
            raise Undelivered(f"its body cannot be made: {problem}") from None
        headers = {
            "Accept-Encoding": ACCEPT_ENCODING,
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **self._headers(note, body),
        }
        with mute_loggers("urllib3.connectionpool", "urllib3.util.retry"):
            try:
                with PlainSession() as session:
                    response = session.post(
                        self._url, data=body, headers=headers, timeout=self.timeout, stream=True
                    )
                    with closing(response):
                        return Answer(response.status_code, response.headers, _read(response))
            except ArkorUsageError as error:  # of the environment's proxy; it shows no secret
                raise Undelivered(str(error)) from None
            except (requests.ConnectionError, requests.Timeout) as error:
                route = session.route(self._url, self.timeout)
                failure, _ = connection_error(error, f"posting to {self._host}", None, route)
        # Raised outside of the `except` block: the exception must have no `__context__`, because
        # that would contain the URL.
        raise Unavailable(self._redact(str(failure)))

    def _redact(self, text: str) -> str:
        """Replace every secret part of the URL in a text."""
        parts = urlsplit(self._url)
        pieces = re.split(r"[/?&=@:]", f"{parts.path}?{parts.query}")
        user = parts.netloc.rpartition("@")[0]
        for piece in [self._url, *pieces, user, *user.split(":")]:
            for secret in (piece, unquote(piece)):
                if len(secret) > 5:
                    text = text.replace(secret, "[redacted]")
        return text


def _read(response: requests.Response) -> str:
    """Read the beginning of an answer's text; empty if it cannot be read."""
    try:
        body = read_body(response, _MAX_ANSWER, cut=True)
    except ArkorError:
        body = b""
    return str(body.decode("utf-8", "replace"))
