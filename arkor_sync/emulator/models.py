"""What the emulator stores: identities, projects, jobs, events, requests. Pure."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple, Union

from arkor_sync.emulator.http.messages import decode_json

AUTO_ID = "\0auto"
"""Stands for an event id that the store fills in: the job's next number."""

TERMINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})


def _finite(text: str) -> Optional[float]:
    number = float(text)
    return number if math.isfinite(number) else None


def _decode_event(text: str) -> Any:
    """Decode an event for the job's record, which is valid JSON: NaN and infinity become None."""
    return decode_json(text, parse_float=_finite, parse_constant=lambda _: None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class Frame:
    """One event with its exact text, also text that no JSON encoder writes.

    Args:
        data: The `data` field.
        id: The `id` field; None leaves it out.
        name: The `event` field; None leaves it out.
    """

    data: str
    id: Optional[str] = None
    name: Optional[str] = None


Item = Union[Dict[str, Any], Tuple[Dict[str, Any], Optional[str]], Frame, bytes]
"""What an engine may yield: an event, an event and its id, a frame, or raw bytes."""


@dataclass(frozen=True)
class LogEntry:
    """One entry of a job's log: a frame, or bytes that are sent unchanged."""

    frame: Optional[Frame] = None
    raw: bytes = b""

    @property
    def id(self) -> Optional[str]:
        """The event id, if there is one."""
        return self.frame.id if self.frame else None

    @property
    def event(self) -> Optional[Dict[str, Any]]:
        """The event, with None for NaN and infinity; None if it is not a JSON object."""
        try:
            event = _decode_event(self.frame.data) if self.frame else None
        except ValueError:
            return None
        return event if isinstance(event, dict) else None


@dataclass(frozen=True)
class Identity:
    """A user, in the org that a request is about.

    Attributes:
        user_id: The user.
        org_id: The org: at first the user's own.
        org_slug: Its name in URLs.
        org_name: Its name for people.
        email: The user's address; None for an anonymous one.
        more_orgs: The id, slug and name of each further org of the user.
    """

    user_id: str
    org_id: str
    org_slug: str
    org_name: str
    email: Optional[str] = None
    more_orgs: Tuple[Tuple[str, str, str], ...] = ()

    def within(self, org_slug: str) -> Optional[Identity]:
        """Return the same user in another of the user's orgs; None if it is not one of them."""
        for org_id, slug, name in ((self.org_id, self.org_slug, self.org_name), *self.more_orgs):
            if slug == org_slug:
                return replace(self, org_id=org_id, org_slug=slug, org_name=name, more_orgs=())
        return None

    def orgs(self) -> List[Dict[str, Any]]:
        """Return all orgs of the user, each as the JSON object of the protocol."""
        more = ({"id": org_id, "slug": slug, "name": name} for org_id, slug, name in self.more_orgs)
        return [self.org(), *more]

    def org(self) -> Dict[str, Any]:
        """Return the org as the JSON object of the protocol."""
        return {"id": self.org_id, "slug": self.org_slug, "name": self.org_name}


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
    """A job: its record, its log of events and the steps of its checkpoints.

    Attributes:
        id: Its id.
        org_id: The org that it belongs to.
        project_id: The project that it belongs to.
        name: Its name.
        config: Its config, as it was submitted.
        created_at: When it was submitted: a date and time in UTC, like the other two dates.
        directory: Where its engine keeps checkpoints.
        status: `queued`, `running`, `completed`, `failed` or `cancelled`.
        error: Why it failed.
        started_at: When it started.
        completed_at: When it ended.
        step: The step of the last event that has one.
        saved_steps: The steps of its checkpoints.
        log: What its stream carries, oldest first.
    """

    id: str
    org_id: str
    project_id: str
    name: str
    config: Dict[str, Any] = field(repr=False)
    created_at: str
    directory: Path = field(repr=False)
    status: str = "queued"
    error: Optional[str] = None
    started_at: Optional[str] = None
    completed_at: Optional[str] = None
    step: Optional[int] = None
    saved_steps: Set[int] = field(default_factory=set)
    log: List[LogEntry] = field(default_factory=list, repr=False)

    @property
    def terminal(self) -> bool:
        """Whether the job has completed, failed or been cancelled."""
        return self.status in TERMINAL_STATUSES

    @property
    def branched_from(self) -> Optional[Tuple[str, int]]:
        """The id of another job, and the step of its checkpoint that this one starts from."""
        origin = self.config.get("branchedFrom")
        return (origin["jobId"], origin["step"]) if origin else None

    @property
    def events(self) -> List[Dict[str, Any]]:
        """The events of the log that are JSON objects, oldest first; None for NaN and infinity."""
        return [event for event in (entry.event for entry in self.log) if event is not None]

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
class StoredJob(Job):
    """A job with what only the emulator needs.

    Attributes:
        engine: The engine that answers for its adapters, and trains it if it has not ended.
        trained_by: The name of the class of the engine that it was created with.
        ended: Whether its stream ends after the last entry of the log.
        pending: The items that the engine has yet to yield.
        next_id: The number that the next event gets as its id.
        streams: How many streams were opened.
        ping_positions: For each id that a ping carried, how many entries of the log came before.
    """

    engine: Any = field(default=None, repr=False)
    trained_by: str = ""
    ended: bool = False
    pending: Optional[Iterator[Item]] = field(default=None, repr=False)
    next_id: int = 1
    streams: int = 0
    ping_positions: Dict[str, int] = field(default_factory=dict, repr=False)


@dataclass
class Deployment:
    """A deployment.

    Attributes:
        fields: What a client may set, under its name in the protocol.
        keys: The keys, as they are listed, by their ids.
        key_digests: The SHA-256 hash of each key's text, and the key's id.
    """

    id: str
    slug: str
    project: Project
    created_at: str
    fields: Dict[str, Any]
    updated_at: str = ""
    keys: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    key_digests: Dict[str, str] = field(default_factory=dict, repr=False)

    def add_key(self, key: Dict[str, Any], plaintext: str) -> None:
        """Add a key."""
        self.keys[key["id"]] = key
        self.key_digests[_digest(plaintext)] = key["id"]

    def key_of(self, plaintext: str) -> Optional[Dict[str, Any]]:
        """Return the key that has this text and is not revoked."""
        key = self.keys.get(self.key_digests.get(_digest(plaintext), ""))
        return key if key and key["enabled"] else None

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
    """One request as the emulator received it, without secrets.

    Attributes:
        method: The HTTP method.
        path: The path.
        query: The query parameters.
        headers: The headers; tokens and cookies are replaced.
        body: The body: decoded if it is JSON, else as text; None if there was none.
        route: The name of the route; None if there is no such route.
        job_id: The id of the job in the path, if the route has one.
        token_digest: The first eight digits of the token's SHA-256 hash, to tell tokens apart.
        number: Counts the requests of the same route and job, from 1.
        status: The status of the response; None if none was sent (yet).
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
        """Return the JSON object that `GET /_emulator/requests` lists."""
        return dict(vars(self))


@dataclass
class StreamConnection:
    """One event stream that a client opened.

    Attributes:
        job_id: The job.
        number: Counts the job's streams, from 1.
        last_event_id: The `Last-Event-ID` that the client sent, if any.
        opened_at: When it was opened, in virtual seconds.
        sent: The id of each event sent so far, None for an event without one. Pings and `end` are
            not in it.
        open: Whether it is open now.
    """

    job_id: str
    number: int
    last_event_id: Optional[str]
    opened_at: float
    sent: List[Optional[str]] = field(default_factory=list, repr=False)
    open: bool = True
