"""Who asks the cloud, and for which project. Runs on a thread of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, List, Tuple

from arkor_sync._common.text import safe_line
from arkor_sync.errors import ArkorError, text_of

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient

_MOST = 20  # organisations that are shown


@dataclass(frozen=True)
class Identity:
    """Who asks the cloud.

    Attributes:
        facts: Names and values, to be shown.
        problem: Why something is not known; empty if all is.
    """

    facts: List[Tuple[str, str]] = field(default_factory=list)
    problem: str = ""


def find_identity(client: CloudApiClient) -> Identity:
    """Ask the cloud who a client is. What cannot be found out is said, and raises nothing."""
    facts: List[Tuple[str, str]] = []
    try:
        facts.append(("Cloud", safe_line(client._session.find_address())))
        me = client.me()
        email, number = me.user.get("email"), me.user.get("id")
        facts.append(("Signed in", safe_line(email or f"an anonymous identity, {number}")))
        orgs = [safe_line(each.slug or each.id) for each in me.orgs]
        if orgs:
            more = ", …" if len(orgs) > _MOST else ""
            name = "Organisation" if len(orgs) == 1 else "Organisations"
            facts.append((name, ", ".join(orgs[:_MOST]) + more))
        scope = client._session.scope()
        facts.append(("Project", safe_line(f"{scope.org_slug}/{scope.project_slug}")))
    except ArkorError as error:
        return Identity(facts, text_of(error))
    return Identity(facts)
