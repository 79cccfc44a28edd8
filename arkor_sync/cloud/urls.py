"""The URLs of requests. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from arkor_sync._common.arguments import check, refusal, show
from arkor_sync._common.secret import redact

_WANTED = (
    "the base URL of the cloud, such as https://api.arkor.ai, as base_url, in ARKOR_CLOUD_API_URL "
    "or in the credentials"
)


def check_base_url(url: str, wanted: str = _WANTED) -> str:
    """Return a base URL without white space around it and without its trailing slashes.

    Args:
        url: The address.
        wanted: What would do, for the text of an error.

    Raises:
        ArkorUsageError: It is not an HTTP address, or has parts that a base URL cannot have. The
            message does not show one that may hold a password.
    """
    text = url
    try:
        url = url.strip()
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname)
        fits = fits and not re.search(r"[\s\x00-\x1f\x7f]", url)
        _ = parts.port  # raises ValueError if it is no number
    except (ValueError, AttributeError, TypeError):
        fits = False
    got = f"{show(text)}, which is not an HTTP address"
    if isinstance(text, str) and "://" not in text:
        got = "a text without http:// or https:// (not shown)"
    elif isinstance(text, str) and (re.search("[@?#]", text) or redact(text) != text):
        got = "an address that is not valid, and may hold a password (not shown)"
    if fits and (parts.username is not None or parts.query or parts.fragment):
        fits, got = False, "an address with a user name, a query or a fragment"
    if not fits:
        raise refusal("base_url", url, wanted, got=got)
    return url.rstrip("/")


def build_url(base_url: str, *segments: str, **query: str) -> str:
    """Join a base URL, path segments and query parameters; segments and values are encoded.

    Raises:
        ArkorUsageError: The base URL, a segment or a value cannot work.
    """
    url = "/".join([check_base_url(base_url), *map(_encoded, segments)])
    pairs = [f"{name}={_encoded(value)}" for name, value in query.items()]
    return f"{url}?{'&'.join(pairs)}" if pairs else url


def check_id(name: str, value: str) -> str:
    """Return an id, which becomes a segment of a path; refuse what would name another path.

    Args:
        name: The argument, such as `job_id`.
        value: What was given.

    Raises:
        ArkorUsageError: It is no text, or empty, or `.` or `..`.
    """
    fits = isinstance(value, str) and value not in ("", ".", "..")
    check(name, value, fits, f"the id of a {name[: -len('_id')]}")
    return value


def without_query(url: str) -> str:
    """Return a URL for a message: without its query and a user name, which may be secret."""
    return re.sub("//[^/]*@", "//", re.split("[?#]", url)[0])


def _encoded(text: str) -> str:
    try:
        return quote(text, safe="!*'()")
    except UnicodeError:
        wanted = "text that can be encoded in UTF-8: it becomes part of a URL"
        raise refusal("an id or a slug", text, wanted) from None
