"""How the job of a submission is named and found again. Pure."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from arkor_sync._common.secret import HIDDEN, Secret, hide_secrets, redact
from arkor_sync._common.text import safe_line
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.errors import ArkorError, text_of

_PRINT = 6  # characters of the fingerprint of a project, and of a cloud


def job_name(name: str, key: str) -> str:
    """Return the name under which a job is sent. Two keys, or two names, never give the same.

    The last `[` begins the key, because a key has none: it is escaped, as in a URL.
    """
    for char in "%[]":
        key = key.replace(char, f"%{ord(char):02X}")
    return f"{name} [{key}]"


def fingerprint(config: Mapping[str, Any]) -> str:
    """Return a short text by which a configuration is known again.

    Secrets are no part of it: a token or a signed URL may change from one call to the next.
    """
    return _digest(_plain(hide_secrets(config)))[:10]


def scope_of(client: Any) -> str:
    """Return a short text by which the project of a client, and its cloud, are known again."""
    session = getattr(client, "_session", None)
    scope = session.scope() if session is not None else None
    address = session.find_address().lower() if session is not None else None
    project = _digest([getattr(scope, each, None) for each in ("org_slug", "project_slug")])
    return f"{project[:_PRINT]}-{_digest(address)[:_PRINT]}"


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        shown = redact(value)
        return HIDDEN if shown == value else shown
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    lines: Optional[Sequence[str]] = getattr(value, "lines", None)  # of records
    return value if lines is None else sha256("\n".join(lines).encode()).hexdigest()


def name_of_row(name: str, config: str, scope: str) -> str:
    """Join the name of a job, the fingerprint of its configuration, and its scope."""
    return f"{name} #{config}-{scope}"


def parts_of_row(row_name: str) -> Tuple[str, str]:
    """Return the name under which the job of a row is sent, and the scope that it is of."""
    name, _, prints = row_name.rpartition(" #")
    return name, prints.partition("-")[2]


def fits(kept: str, now: str) -> bool:
    """Whether the name or the scope of a row that is kept is the one of now.

    What an older version has written does not name the cloud.
    """
    return now.startswith(kept)


def is_same_project(kept: str, now: str) -> bool:
    """Whether two scopes, or names of rows with a scope, differ in nothing but the cloud."""
    return fits(kept, now) or kept[: -_PRINT - 1] == now[: -_PRINT - 1]


def may_be_cut(length: int) -> bool:
    """Tell whether a list may have been cut at this length: at a limit as any service has one.

    Those are multiples of 10 and 25; 5 and 15; powers of two; the rows and columns of pages that
    show a grid (12, 24, 36, 48, 72, 96); and one less than a power of 2 or 10, as in 255 and 999.
    """
    if length < 5:
        return False
    is_power = any(each & (each - 1) == 0 for each in (length, length + 1)) and length > 7
    one_less = str(length).strip("9") == "" and length > 9
    is_round = length % 10 == 0 or length % 25 == 0 or length in (5, 12, 15, 24, 36, 48, 72, 96)
    return is_power or one_less or is_round


class Found(NamedTuple):
    """What the list of jobs says about a name.

    Attributes:
        jobs: The jobs of this name, the oldest first.
        doubt: Why there may be one although there is none in the list; empty if there is none.
    """

    jobs: Tuple[str, ...] = ()
    doubt: str = ""


def find_jobs(jobs: Union[Sequence[TrainingJob], ArkorError], name: str) -> Found:
    """Find the jobs of exactly this name.

    Args:
        jobs: The list of jobs, or the error that came in its place.
        name: The name.
    """
    if isinstance(jobs, ArkorError):
        return Found((), f"the list of jobs cannot be read ({safe_line(text_of(jobs), 200)})")
    found = [each for each in jobs if each.name == name]
    if not found and may_be_cut(len(jobs)):
        return Found((), f"the list of jobs has {len(jobs)}, and may have been cut there")
    return Found(tuple(each.id for each in sorted(found, key=lambda job: job.created_at)))
