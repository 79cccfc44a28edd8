"""What the emulator remembers: identities, projects, jobs, events, requests. Data only."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple, Union

AUTO_ID = "\0auto"
"""An event id that stands for: the job's next number."""

TERMINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})


def _finite(text: str) -> Optional[float]:
    number = float(text)
    return number if math.isfinite(number) else None


# A job's record is JSON whatever its stream carries.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)


@dataclass(frozen=True)
class Frame:
    """One event with its exact text, for what no JSON encoder would write.

    Args:
        data: The ``data`` field.
        id: The ``id`` field; None leaves it out.
        name: The ``event`` field; None leaves it out.
    """

    data: str
    id: Optional[str] = None
    name: Optional[str] = None


Item = Union[Dict[str, Any], Tuple[Dict[str, Any], Optional[str]], Frame, bytes]
"""What an engine may yield: an event, an event with its id, a frame, or raw bytes."""


@dataclass(frozen=True)
class LogEntry:
    """One entry of a job's log: a frame, or bytes that go out as they are."""

    frame: Optional[Frame] = None
    raw: bytes = b""

    @property
    def id(self) -> Optional[str]:
        """The event id, if there is one."""
        return self.frame.id if self.frame else None


@dataclass(frozen=True)
class Identity:
    """Who a bearer token stands for."""

    user_id: str
    org_id: str
    org_slug: str
    org_name: str


@dataclass(frozen=True)
class Project:
    """A project of one org."""

    id: str
    slug: str
    name: str
    org_id: str

    def wire(self) -> Dict[str, Any]:
        """Return the JSON object of the protocol."""
        return {"id": self.id, "slug": self.slug, "name": self.name, "orgId": self.org_id}


@dataclass
class Job:
    """A job: its record, its log of events and what it has saved so far."""

    id: str
    org_id: str
    project_id: str
    name: str
    config: Dict[str, Any] = field(repr=False)
    created_at: str
    directory: Path = field(repr=False)
    engine: Any = field(repr=False)
    status: str = "queued"
    error: Optional[str] = None
    started_at: Optional[str] = None
    completed_at: Optional[str] = None
    step: Optional[int] = None
    saved_steps: Set[int] = field(default_factory=set)
    ended: bool = False
    log: List[LogEntry] = field(default_factory=list, repr=False)
    pending: Optional[Iterator[Item]] = field(default=None, repr=False)
    next_id: int = 1
    streams: int = 0
    ping_positions: Dict[str, int] = field(default_factory=dict, repr=False)

    @property
    def terminal(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL_STATUSES

    @property
    def events(self) -> List[Dict[str, Any]]:
        """The events of the log that are JSON objects, oldest first; null for NaN and infinity."""
        events = []
        for entry in self.log:
            try:
                event = _DECODER.decode(entry.frame.data) if entry.frame else None
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events

    def wire(self) -> Dict[str, Any]:
        """Return the JSON object of the protocol."""
        return {
            "id": self.id,
            "orgId": self.org_id,
            "projectId": self.project_id,
            "name": self.name,
            "status": self.status,
            "config": self.config,
            "error": self.error,
            "createdAt": self.created_at,
            "startedAt": self.started_at,
            "completedAt": self.completed_at,
        }


@dataclass
class Deployment:
    """A deployment; ``fields`` holds what a client may set, in the names of the protocol."""

    id: str
    slug: str
    project: Project
    created_at: str
    fields: Dict[str, Any]
    updated_at: str = ""
    keys: Dict[str, Dict[str, Any]] = field(default_factory=dict)

    def wire(self) -> Dict[str, Any]:
        """Return the JSON object of the protocol."""
        set_by_client = {"enabled": True, **self.fields}
        return {
            "id": self.id,
            "slug": self.slug,
            "orgId": self.project.org_id,
            "projectId": self.project.id,
            "urlFormat": "openai_compat",
            "customDomain": None,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at or self.created_at,
            **{name: value for name, value in set_by_client.items() if value is not None},
        }


@dataclass
class RecordedRequest:
    """One request as the emulator saw it, without its secrets.

    ``token_digest`` is a short hash of the bearer token: enough to tell two tokens apart.
    ``number`` counts the requests of the same route and job from 1. ``status`` is the answer's
    status; None while there is none, or when there never was one.
    """

    method: str
    path: str
    query: Dict[str, str]
    headers: Dict[str, str] = field(repr=False)
    body: Any = field(repr=False)
    route: Optional[str]
    job_id: Optional[str]
    token_digest: Optional[str]
    number: int = 0
    status: Optional[int] = None

    def wire(self) -> Dict[str, Any]:
        """Return the JSON object that ``GET /_emulator/requests`` lists."""
        return dict(vars(self))


@dataclass
class StreamConnection:
    """One event stream that a client opened.

    ``number`` counts a job's streams from 1, ``opened_at`` is in virtual seconds. ``sent`` holds
    the id of each event written so far, None for one without an id; pings and ``end`` are not in
    it.
    """

    job_id: str
    number: int
    last_event_id: Optional[str]
    opened_at: float
    sent: List[Optional[str]] = field(default_factory=list, repr=False)
    open: bool = True
