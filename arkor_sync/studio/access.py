"""Who may look, and who may change something. Any thread.

Every request passes `refuse` before a page sees it. Two kinds of access say who is asking: that of
a server of our own, on the loopback, and that of a program that mounts the application.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Any, Callable, Mapping, Optional, Tuple, Union
from urllib.parse import urlsplit

Authorize = Callable[[Mapping[str, Any], bool], Union[bool, str]]
"""Called with the WSGI environment, and whether the request changes something.

It returns True, False, or a URL at which to sign in.
"""

TOKEN = "token"  # noqa: S105
"""The parameter of the first URL."""

CSRF_COOKIE = "arkor_studio_form"
CSRF_FIELD = "form_token"
CSRF_HEADER = "X-Arkor-Form"

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM_TOKEN = re.compile("[A-Za-z0-9_-]{43}")


class Launch:
    """Access to a server on the loopback: who has the URL that was printed at its start.

    The URL holds a token. The first request with it gets a cookie, and the token leaves the URL.

    Args:
        port: The port of the server.
    """

    local = True
    advice = "Open the URL that `arkor-sync studio` has printed."

    def __init__(self, port: int) -> None:
        self.token = secrets.token_urlsafe(32)
        # Cookies do not know ports: each server has a name of its own.
        self.cookie = f"arkor_studio_{port}"
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        if port == 80:
            self._hosts |= {"127.0.0.1", "localhost", "[::1]"}

    def host_is_known(self, host: str) -> bool:
        """Whether a request came by a name of the loopback: a page of another site has its own."""
        return host.lower() in self._hosts

    def opens(self, token: Optional[str]) -> bool:
        """Whether it is the token of the URL."""
        return token is not None and _same(token, self.token)

    def allows(self, request: Any, _changes: bool) -> Union[bool, str]:
        """Whether a request has the cookie."""
        return self.opens(request.cookies.get(self.cookie))


class Mounted:
    """Access to the application in another program, which decides.

    Args:
        authorize: See `create_app`.
    """

    local = False
    advice = "Your account may not do this here."

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize

    def host_is_known(self, _host: str) -> bool:
        """Whether the name of the server is a known one: that is up to the program."""
        return True

    def allows(self, request: Any, changes: bool) -> Union[bool, str]:
        """Ask the program. An answer that only looks like a yes is none.

        Raises:
            TypeError: It answers neither True nor False nor with a URL.
        """
        answer: Any = self._authorize(request.environ, changes)
        if answer is True or answer is False or (isinstance(answer, str) and answer):
            return answer
        raise TypeError(
            "authorize must return True, False, or a URL at which to sign in; it returned "
            + ("an empty text" if answer == "" else f"a {type(answer).__name__}")
        )


Access = Union[Launch, Mounted]


def changes_something(request: Any) -> bool:
    """Whether a request may change something, by its method."""
    return request.method not in _READING


def is_embedded_elsewhere(request: Any) -> bool:
    """Whether a page of another site loads something of ours: its links may, nothing else.

    Browsers say so. It keeps a hostile page from holding our threads, and from learning anything by
    how long an answer takes.
    """
    headers = request.headers
    if headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none"):
        return False
    return (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) != (
        "navigate",
        "document",
    )


def comes_from_here(request: Any) -> bool:
    """Whether a changing request was made by one of our own pages.

    A browser says so in `Origin` and in `Sec-Fetch-Site`; a page of another site cannot read the
    cookie, which the form or the header has to repeat.
    """
    headers = request.headers
    if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("Origin", headers.get("Referer"))
    if origin is not None and _server_of(origin) != _server_of(request.host_url):
        return False
    expected = request.cookies.get(CSRF_COOKIE, "")
    given = headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
    return is_form_token(expected) and _same(given, expected)


def is_form_token(text: str) -> bool:
    """Whether it can be a token of ours."""
    return _FORM_TOKEN.fullmatch(text) is not None


def _server_of(url: str) -> Tuple[str, str]:
    try:
        scheme, server = urlsplit(url)[:2]
    except ValueError:
        return "", ""
    return scheme.lower(), server.lower()


def _same(one: str, other: str) -> bool:
    # Bytes of any text: compare_digest refuses a str that is not ASCII.
    return hmac.compare_digest(
        one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass")
    )
