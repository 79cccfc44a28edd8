"""One JSON document to one secret URL, once. The notifier's own thread runs it.

A webhook's URL is a password: nothing that is logged or raised here may hold its path or query.
"""

from __future__ import annotations

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

from arkor_sync.cloud.client_version import USER_AGENT
from arkor_sync.cloud.connection_errors import connection_error
from arkor_sync.cloud.http import check_timeout, parse_retry_after
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.notifiers.base import Notifier, Unavailable, Undelivered
from arkor_sync.handlers.notifiers.notification import Notification, clean

_MAX_ANSWER = 4096  # bytes
# Of the context, so that threads of a library that are given a copy of it are quiet as well.
_quiet: ContextVar[bool] = ContextVar("_quiet", default=False)


def _is_not_ours(_: logging.LogRecord) -> bool:
    return not _quiet.get()


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Drop what is logged inside to some loggers: they write URLs as they are, at DEBUG."""
    for name in loggers:
        logging.getLogger(name).addFilter(_is_not_ours)  # adding it again does nothing
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


class Answer(NamedTuple):
    """What a service said, without the end of a long text."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclasses.dataclass(repr=False, eq=False)
class HttpNotifier(Notifier):
    """A notifier that posts JSON to a URL. See `Notifier`; redirects are not followed.

    Args:
        timeout: Seconds to connect, and seconds of silence while it waits for the answer.
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
        """Return the JSON document for a notification, as the service wants it."""

    def _connect(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise ArkorUsageError(
                f"{type(self).__name__}: url, or {self.variable}, must be an http(s) address"
            )
        self._url = url
        self._host = parts.netloc.rpartition("@")[2]

    def _headers(self, _note: Notification, _body: bytes) -> Mapping[str, str]:
        """Return the service's own headers of one attempt."""
        return {}

    def _status(self, answer: Answer) -> int:
        """Return the status that is meant."""
        return answer.status

    def _pause(self, answer: Answer) -> Optional[float]:
        """Return the seconds that the service wants to be left alone for."""
        return parse_retry_after(answer.headers.get("Retry-After"))

    def _attempt(self, note: Notification) -> None:
        answer = self._post(note)
        self._leave_alone(self._pause(answer))
        status = self._status(answer)
        if 200 <= status < 300:
            return
        said = clean(self._redacted(answer.text), 200)  # cut last: no half of a secret is left
        why = f"{self._host} answered {status}{': ' if said else ''}{said}"
        if status in (408, 429) or status >= 500:
            raise Unavailable(why)
        if 300 <= status < 400:
            why = f"{self._host} redirects ({status}), which is not followed"
        raise Undelivered(why)

    def _post(self, note: Notification) -> Answer:
        try:
            body = json.dumps(self.body(note), allow_nan=False).encode()
        except Exception as error:
            problem = self._redacted(f"{type(error).__name__}: {error}")
            raise Undelivered(f"its body cannot be made: {problem}") from None
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **self._headers(note, body),
        }
        with quiet("urllib3.connectionpool", "urllib3.util.retry"):
            try:
                response = requests.post(
                    self._url,
                    data=body,
                    headers=headers,
                    timeout=self.timeout,
                    allow_redirects=False,
                    stream=True,
                )
                with closing(response):
                    return Answer(response.status_code, response.headers, _read(response))
            except (requests.ConnectionError, requests.Timeout) as error:
                failure, _ = connection_error(error, f"posting to {self._host}")
        # Outside of the handler, so that what is raised has no context that holds the URL.
        raise Unavailable(self._redacted(str(failure)))

    def _redacted(self, text: str) -> str:
        """Cut from a text whatever only those who know the URL can have said."""
        parts = urlsplit(self._url)
        pieces = re.split(r"[/?&=@:]", f"{parts.path}?{parts.query}")
        user = parts.netloc.rpartition("@")[0]
        for piece in [self._url, *pieces, user, *user.split(":")]:
            for secret in (piece, unquote(piece)):
                if len(secret) > 5:
                    text = text.replace(secret, "[redacted]")
        return " ".join(text.split())


def _read(response: requests.Response) -> str:
    """Read the beginning of an answer. What is missing of it matters to nobody."""
    try:
        body = response.raw.read(_MAX_ANSWER, decode_content=True)
    except Exception:
        body = b""
    return str(body.decode("utf-8", "replace"))
