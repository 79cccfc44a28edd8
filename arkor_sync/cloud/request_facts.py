"""What the text of an error says of a request that the cloud refused. Pure.

These are the facts that its reader would have to look up: the route and the project, where the
token and the address were found, and what is wrong in the usual cases. Never a bearer.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import parse_qs, urljoin, urlsplit

from arkor_sync.cloud.loopback import is_loopback
from arkor_sync.cloud.urls import without_query

FROM_VARIABLE = "from ARKOR_TOKEN"
GIVEN = "given by the program"
BACK_TO_THE_CLOUD = "`arkor-sync logout` goes back to the public cloud"
OF_CREDENTIALS = "that of the credentials"
ARKOR = "an Arkor cloud"
OPENAI_SERVER = "an OpenAI-compatible server, and is the path right (it often ends in /v1)"


class Origin(NamedTuple):
    """Where the parts of a request were found, in words.

    Attributes:
        token: Where the bearer was found; empty if there is none.
        address: Where the base URL was found; empty if that is not known.
        server: What should be there.
    """

    token: str = GIVEN
    address: str = GIVEN
    server: str = ARKOR


class Refusal(NamedTuple):
    """What is known of an answer that is not a success.

    Attributes:
        status: The HTTP status.
        is_page: Whether the body is a web page.
        has_reason: Whether the body has the `error` field of the cloud's own answers.
        retry_after: Seconds that the answer asks to wait, or None.
        proxy: The proxy that was used, and where it was found; empty if there was none.
    """

    status: int
    is_page: bool = False
    has_reason: bool = False
    retry_after: Optional[float] = None
    proxy: str = ""


def describe(method: str, url: str, origin: Origin, refusal: Refusal) -> str:
    """Return the facts, separated by semicolons.

    Args:
        method: The HTTP method.
        url: The whole URL.
        origin: Where its parts were found.
        refusal: What is known of the answer.
    """
    status = refusal.status
    facts = [f"{method} {without_query(url)}", *_scope(url)]
    if origin.token and status == 401:
        facts.append(f"the token {origin.token} was refused: {_remedy(origin, url)}")
    elif origin.token and status == 403:
        facts.append(f"the token is the one {origin.token}")
    elif status == 407:
        facts.append("the proxy wants a user name and a password in its address")
    if origin.server == ARKOR and status in (404, 405) and "/v1/v1/" in urlsplit(url).path:
        facts.append("does your base URL end in /v1? It is added; leave it out")
    elif refusal.is_page or (status in (404, 405) and not refusal.has_reason):
        facts.append(not_arkor(url, origin))
    if refusal.proxy and (refusal.is_page or status in (407, 502, 503, 504)):
        facts.append(f"the proxy {refusal.proxy} was used")
    if refusal.retry_after is not None:
        facts.append(f"it asks to wait for {refusal.retry_after:g} s")
    return "; ".join(facts)


def not_arkor(url: str, origin: Origin) -> str:
    """Ask whether the address is the right one, and say where it was found."""
    parts = urlsplit(without_query(url))
    found = f" The address is {origin.address}" if origin.address else ""
    return f"is {parts.scheme}://{parts.netloc} {origin.server}?{found}"


def not_listening(server: str, address: str) -> str:
    """Say what to do if nothing listens at a host and port; empty if nothing special is known.

    The credentials of a local Arkor stay in the file when it ends.
    """
    parts = urlsplit(f"//{server}")
    if not (address.startswith(f"{OF_CREDENTIALS} from ") and is_loopback(parts.hostname or "")):
        return ""
    return (
        f"no local Arkor listens there: `arkor-sync emulator --port {parts.port}` starts one; "
        f"{BACK_TO_THE_CLOUD}"
    )


def reason_of(data: Any) -> Tuple[str, Optional[str]]:
    """Return the text and the code of an error's JSON body, as far as it has them.

    The cloud sends `{"error": text, "code": code}`, and other servers an object as `error`:
    `{"error": {"message": text, "code": code}}`.
    """
    fields: Dict[str, Any] = data if isinstance(data, dict) else {}
    if isinstance(fields.get("error"), dict):
        fields = {**fields["error"], "error": fields["error"].get("message")}
    reason, code = fields.get("error"), fields.get("code")
    if not isinstance(reason, str):
        reason = ""
    if not isinstance(code, str):
        # Some answers have a code such as `slug_taken` in place of the error text.
        code = reason if re.fullmatch("[a-z0-9]+(_[a-z0-9]+)+", reason) else None
    return reason, code


def redirect_message(url: str, location: str) -> str:
    """Say where a request was redirected to: the host alone, for the rest may hold a secret.

    Args:
        url: The URL that was asked for.
        location: The `Location` header; empty if there is none.
    """
    try:
        parts = urlsplit(urljoin(url, location))
        host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    except ValueError:
        host = "an address that cannot be read"
    return (
        f"redirected to {host[:200] if location else 'nowhere'}; redirects are not followed, and "
        "the token was not sent there"
    )


def _scope(url: str) -> List[str]:
    query = parse_qs(urlsplit(url).query)
    org, project = (query.get(name, [""])[0] for name in ("orgSlug", "projectSlug"))
    if project:
        return [f"project {project!r} of organisation {org!r}"]
    return [f"organisation {org!r}"] if org else []


def _remedy(origin: Origin, url: str) -> str:
    if origin.token == FROM_VARIABLE:
        return "set the variable to a token that is valid there"
    if not origin.token.startswith("from "):
        return "give credentials that are valid there"
    parts = urlsplit(url)
    if is_loopback(parts.hostname or ""):
        base = f"{parts.scheme}://{parts.netloc}"
        return (
            f"a local Arkor forgets its accounts when it ends; {BACK_TO_THE_CLOUD}, and "
            f"`ARKOR_CLOUD_API_URL={base} arkor-sync login` signs in there again"
        )
    return "sign in again, or set ARKOR_TOKEN"
