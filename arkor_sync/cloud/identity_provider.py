"""What is asked of the identity provider: its address, and tokens. Runs on the caller's thread."""

from __future__ import annotations

import copy
import re
from contextlib import closing
from typing import Any, Dict, Mapping, Optional, Tuple

import requests
from requests.structures import CaseInsensitiveDict

from arkor_sync._common.arguments import show
from arkor_sync._common.json import parse_json
from arkor_sync._common.secret import hide_secrets, redact_known
from arkor_sync.cloud.bodies import read_body
from arkor_sync.cloud.client_version import USER_AGENT
from arkor_sync.cloud.record import checked
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import ResponseError

_TIMEOUT = (10.0, 20.0)  # seconds to connect, and for the whole answer
_MAX_BYTES = 64 * 1024
_DEFAULT_LIFETIME = 3600.0  # seconds; a wrong guess costs one request that is answered with 401

_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")
_PLAIN = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\]):[0-9]+")


def provider_url(domain: str) -> str:
    """Return the address of the identity provider that `auth0Domain` names.

    It is a host, and the connection always uses TLS. Only on this machine, as with the emulator, it
    may be a whole `http://` address.

    Raises:
        ValueError: It is neither. The text says what it is.
    """
    if _PLAIN.fullmatch(domain):
        return domain
    if _HOST.fullmatch(domain):
        return f"https://{domain}"
    raise ValueError(f"auth0Domain: {domain[:80]!r} is not a host")


def request_tokens(
    url: str,
    fields: Mapping[str, Any],
    template: Optional[requests.Session],
    address: str,
) -> Tuple[int, Dict[str, Any]]:
    """Request tokens (`POST /oauth/token`).

    Args:
        url: What `provider_url` returned.
        fields: The body.
        template: A `requests` session whose proxies and certificates are copied. Its headers are
            not: they are meant for another server.
        address: Where the address was found, in words for an error.

    Returns:
        The status, and the answer; it is empty if it is no JSON object.

    Raises:
        ArkorConnectionError: The request got no answer.
    """
    template = copy.copy(template)
    if template is not None:
        template.headers = CaseInsensitiveDict()
    with Transport(template) as transport:
        response = transport.request(
            "POST",
            f"{url}/oauth/token",
            timeout=_TIMEOUT,
            headers={"Accept": "application/json", "User-Agent": USER_AGENT},
            json=dict(fields),
            stream=True,
            address=address,
        )
        with closing(response):
            status, body = response.status_code, read_body(response, _MAX_BYTES, cut=True)
    text = body.decode("utf-8-sig", "replace")
    if not 200 <= status < 300:
        text = redact_known(text, fields)  # an error may repeat the request
    try:
        answer = hide_secrets(checked(dict, parse_json(text), ""))
    except (ValueError, ResponseError):
        answer = {}
    return status, answer


def decode_tokens(answer: Dict[str, Any], now: int) -> Dict[str, Any]:
    """Return the tokens of an answer, by the names of the fields of `OAuthCredentials`.

    Args:
        answer: What `request_tokens` returned.
        now: Seconds since 1970.

    Returns:
        `access_token`, `refresh_token` (None if there is none) and `expires_at`.

    Raises:
        ResponseError: There is no access token that can be used.
    """
    access_token = checked(str, answer.get("access_token"), "access_token", secret=True)
    if not re.fullmatch(r"[!-~]+", access_token):
        raise ResponseError(
            f"access_token: expected printable ASCII without spaces, got {show(access_token, True)}"
        )
    lifetime, refresh_token = answer.get("expires_in"), answer.get("refresh_token")
    if not isinstance(lifetime, (int, float)) or not 0 < lifetime < 1e12:
        lifetime = _DEFAULT_LIFETIME
    return {
        "access_token": access_token,
        "refresh_token": (refresh_token or None) if isinstance(refresh_token, str) else None,
        "expires_at": now + int(lifetime),
    }
