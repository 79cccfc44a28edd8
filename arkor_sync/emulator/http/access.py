"""Decides whose requests are answered: no page's in a browser. Pure.

The emulator has no secret: its token is known, and its own routes need none. So a page that the
user looks at must not reach it. A page cannot choose the headers `Host`, `Origin` and
`Sec-Fetch-Site`, nor send JSON to a foreign server that does not allow it (WHATWG Fetch, "CORS
protocol"; the emulator never does). A name that a page's owner points at 127.0.0.1 (DNS rebinding)
shows in `Host`.
"""

from __future__ import annotations

import http.client
import re
from typing import Optional

from arkor_sync.emulator.http.messages import ApiError

_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


def check_source(headers: http.client.HTTPMessage, authority: Optional[str]) -> None:
    """Check that a request names this machine, and that no page of another origin sent it.

    Args:
        headers: The request's headers.
        authority: The host and port in the request line, if it has them.

    Raises:
        ApiError: 400 without exactly one `Host` (RFC 9112, section 3.2), 403 for a foreign one.
    """
    hosts = headers.get_all("Host", [])
    if len(hosts) != 1:
        raise ApiError(400, "a request needs exactly one Host header")
    for host in (hosts[0], hosts[0] if authority is None else authority):
        if not _LOOPBACK.fullmatch(host):
            raise ApiError(403, f"Host: got {host!r:.100}; give 127.0.0.1, localhost or [::1]")
    own = {f"{scheme}://{hosts[0]}".lower() for scheme in ("http", "https")}
    for origin in headers.get_all("Origin", []):
        if origin.lower() not in own:
            raise ApiError(403, f"Origin: {origin!r:.100} may not use the emulator")
    for site in headers.get_all("Sec-Fetch-Site", []):
        if site not in ("same-origin", "none"):
            raise ApiError(403, f"a page of another origin (Sec-Fetch-Site: {site!r:.100}) may not")


def check_content_type(method: str, headers: http.client.HTTPMessage, *, has_body: bool) -> None:
    """Check that a request that can change something brings JSON, or nothing.

    Raises:
        ApiError: 415, if it brings anything else.
    """
    types = headers.get_all("Content-Type", [])
    if not has_body and (not types or method in ("GET", "HEAD")):
        return
    essences = [value.partition(";")[0].strip(" \t").lower() for value in types]
    if essences != ["application/json"]:
        got = ", ".join(types) or "none"
        raise ApiError(415, f"Content-Type: got {got!r:.100}; give application/json")
