"""The emulator's state, behind one lock. Any thread."""

from __future__ import annotations

import json
import re
import secrets
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Counter, Dict, List, Optional, Tuple

from arkor_sync.emulator.clock import Clock, timestamp
from arkor_sync.emulator.http.messages import ApiError
from arkor_sync.emulator.models import (
    AUTO_ID,
    Deployment,
    Frame,
    Identity,
    Item,
    LogEntry,
    Project,
    RecordedRequest,
    StoredJob,
    StreamConnection,
)
from arkor_sync.emulator.saved_jobs import SavedJobs
from arkor_sync.emulator.sign_ins import SignIns


class Store:
    """Identities, projects, jobs with their logs, requests and streams.

    Every change is made with `condition` held, and ends with `notify()`.

    Args:
        token: The bearer token that is valid from the start.
        directory: Where jobs keep their checkpoints.
        clock: The virtual clock.
        saved: The jobs of an earlier emulator, and where those of this one are kept; None if they
            end with it.
    """

    def __init__(
        self, token: str, directory: Path, clock: Clock, saved: Optional[SavedJobs] = None
    ) -> None:
        self.condition = threading.Condition(threading.RLock())
        self.directory = directory
        self.clock = clock
        self.stopping = False
        self.version = 0
        self.jobs: Dict[str, StoredJob] = {}
        self.deployments: Dict[str, Deployment] = {}
        self.requests: List[RecordedRequest] = []
        self.streams: List[StreamConnection] = []
        self.open_streams = 0
        self.max_concurrent_streams = 0
        self._counts: Counter[Tuple[Optional[str], Optional[str]]] = Counter()
        self._token = token
        self._saved = saved
        first, second = uuid.uuid4().hex[:12], uuid.uuid4().hex[:12]
        ids = {"user": f"user_{first}", "org": f"org_{first}", "secondOrg": f"org_{second}"}
        projects = [Project(str(uuid.uuid4()), "emulator-project", "Emulator project", ids["org"])]
        if saved is not None:
            ids, projects = saved.identity(ids, projects)
            for job in saved.jobs:
                self._restore(job)
        self.projects = list(projects)
        self.project = projects[0]
        self.identity = Identity(ids["user"], ids["org"], "emulator-org", "Personal")
        self.identities = {token: self.identity}
        second_org = (ids["secondOrg"], "second-org", "Second organisation")
        self.account = replace(
            self.identity,
            user_id="user_account",
            email="somebody@example.com",
            more_orgs=(second_org,),
        )
        self.sign_ins = SignIns(
            clock.now, lambda token: self.identities.update({token: self.account}), self.revoke
        )

    def reset(self) -> None:
        """Delete everything but the identity and the project that exist from the start.

        Jobs that run are cancelled, and their streams end. Those that are kept are deleted.
        """
        with self.condition:
            for job in self.jobs.values():
                if not job.terminal:
                    self.cancel(job, "end")
            self.identities = {self._token: self.identity}
            self.projects = [self.project]
            if self._saved is not None:
                self._saved.keep_projects(self.projects)
                for job in self.jobs.values():
                    self._saved.delete(job)
            self.sign_ins.clear()
            self.jobs, self.deployments, self.requests, self.streams = {}, {}, [], []
            self.max_concurrent_streams = self.open_streams
            self._counts.clear()
            self.notify()

    def notify(self) -> None:
        """Wake every thread that waits for a change. The caller holds `condition`."""
        self.version += 1
        self.condition.notify_all()

    def wait(self, until: Callable[[], bool], deadline: float, at_most: float) -> None:
        """Wait for a change, for the virtual `deadline` or for `at_most` real seconds.

        Returns at once if `until()` is true or the emulator stops. May return early, so the
        caller checks again. The caller holds `condition`.
        """
        if until() or self.stopping:
            return
        real = self.clock.real_seconds(deadline - self.clock.now())
        self.condition.wait(at_most if real is None else min(real, at_most))

    def count_request(self, route: Optional[str], job_id: Optional[str]) -> int:
        """Count a request. Return how many there were of that route and job, with this one."""
        with self.condition:
            self._counts[route, job_id] += 1
            return self._counts[route, job_id]

    def add_identity(self) -> Identity:
        """Create a user with an org of its own, and a token for it."""
        user = uuid.uuid4().hex[:12]
        identity = Identity(f"user_{user}", f"org_{user}", f"anon-{user}", "Personal")
        with self.condition:
            self.identities[f"anon.{secrets.token_urlsafe(24)}"] = identity
            self.notify()
        return identity

    def identity_of(self, token: str) -> Optional[Identity]:
        """Return who a bearer token belongs to; None if it is unknown or has expired."""
        with self.condition:
            return None if self.sign_ins.has_expired(token) else self.identities.get(token)

    def token_of(self, identity: Identity) -> str:
        """Return the newest token of `identity`."""
        with self.condition:
            return [token for token, owner in self.identities.items() if owner == identity][-1]

    def add_token(self, token: str) -> None:
        """Accept one more token for the identity that exists from the start."""
        with self.condition:
            self.identities[token] = self.identity
            self.notify()

    def revoke(self, token: str) -> None:
        """Stop accepting a token."""
        with self.condition:
            self.identities.pop(token, None)
            self.notify()

    def add_project(self, identity: Identity, name: str, slug: str) -> Project:
        """Add a project to the org of `identity`.

        Raises:
            ApiError: 409, if the org already has a project with that slug.
        """
        with self.condition:
            if self.find_project(identity.org_id, slug):
                raise ApiError(409, f"the project slug {slug!r} is already taken")
            project = Project(str(uuid.uuid4()), slug, name, identity.org_id)
            self.projects.append(project)
            if self._saved is not None:
                self._saved.keep_projects(self.projects)
            self.notify()
            return project

    def find_project(self, org_id: str, slug: str) -> Optional[Project]:
        """Return the project of that org with that slug."""
        found = (p for p in self.projects if (p.org_id, p.slug) == (org_id, slug))
        return next(found, None)

    def add_job(
        self, project: Project, name: str, config: Dict[str, Any], engine: Any
    ) -> StoredJob:
        """Add a queued job.

        Raises:
            OSError: It is to be kept, and cannot be written.
        """
        job_id = str(uuid.uuid4())
        job = StoredJob(
            id=job_id,
            org_id=project.org_id,
            project_id=project.id,
            name=name,
            config=config,
            created_at=timestamp(),
            directory=self.directory / job_id,
            engine=engine,
            trained_by=type(engine).__name__,
        )
        with self.condition:
            if self._saved is not None:
                self._saved.add(job)
            self.jobs[job_id] = job
            self.notify()
        return job

    def remove_job(self, job: StoredJob) -> None:
        """Remove a job that could not be started."""
        with self.condition:
            if self.jobs.pop(job.id, None) and self._saved is not None:
                self._saved.delete(job)
            self.notify()

    def add_deployment(self, project: Project, slug: str, fields: Dict[str, Any]) -> Deployment:
        """Add a deployment.

        Raises:
            ApiError: 409, if any org has a deployment with that slug.
        """
        with self.condition:
            if any(each.slug == slug for each in self.deployments.values()):
                raise ApiError(409, f"the slug {slug!r} is already taken")
            deployment = Deployment(str(uuid.uuid4()), slug, project, timestamp(), fields)
            self.deployments[deployment.id] = deployment
            self.notify()
            return deployment

    def publish(self, job: StoredJob, item: Item, *, unless_terminal: bool = False) -> bool:
        """Append one item to the log, and update the job's record if the item is an event.

        Where jobs are kept, the item is written to the file before a stream can carry it. If that
        is not possible, as on a full disk, the job fails.

        Args:
            job: The job.
            item: What to append. An event without an id gets the job's next number.
            unless_terminal: Do nothing if the job has ended or the emulator stops.

        Returns:
            Whether the item was appended.

        Raises:
            OSError: It cannot be written, and the job has ended already.
        """
        with self.condition:
            if unless_terminal and (job.terminal or self.stopping):
                return False
            next_id = job.next_id
            appended = True
            try:
                self._append(job, item)
            except OSError as error:
                if job.terminal:
                    raise
                appended, job.next_id = False, next_id
                reason = f"the job's events cannot be kept: {error.strerror}: {error.filename}"
                failure = {"type": "training.failed", "error": reason, "step": job.step}
                self._append(job, failure, unless_full=True)
            self.notify()
            return appended

    def save(self, job: StoredJob) -> None:
        """Keep a job's record as it is now, where jobs are kept. The caller holds `condition`."""
        if self._saved is not None:
            self._saved.update(job)

    def cancel(self, job: StoredJob, emits: str) -> None:
        """Set a job to cancelled. For `emits` see `Settings.cancel_emits`."""
        with self.condition:
            if emits == "failed":
                self.publish(
                    job, {"type": "training.failed", "error": "Job cancelled", "step": job.step}
                )
            job.status = "cancelled"
            job.error = None
            job.completed_at = job.completed_at or timestamp()
            job.ended = emits != "nothing"
            self.save(job)
            self.notify()

    def open_stream(self, job: StoredJob, last_event_id: Optional[str]) -> StreamConnection:
        """Record that a client opened a stream."""
        with self.condition:
            job.streams += 1
            stream = StreamConnection(job.id, job.streams, last_event_id, self.clock.now())
            self.streams.append(stream)
            self.open_streams += 1
            self.max_concurrent_streams = max(self.max_concurrent_streams, self.open_streams)
            self.notify()
            return stream

    def close_stream(self, stream: StreamConnection) -> None:
        """Record that a stream was closed."""
        with self.condition:
            stream.open = False
            self.open_streams -= 1
            self.notify()

    def _restore(self, job: StoredJob) -> None:
        """Take a job that was kept, and bring its record to the end of its log."""
        for entry in job.log:
            self._event_id(job, entry.id)
            event = entry.event
            if event is not None:
                self._update_job(job, event)
        self.jobs[job.id] = job

    def _append(self, job: StoredJob, item: Item, *, unless_full: bool = False) -> None:
        """Append an item to the file of a job's log, to the log, and update the record.

        Args:
            job: The job.
            item: The item.
            unless_full: Append it to the log also if it cannot be written.
        """
        event: Optional[Dict[str, Any]] = None
        cancelled = False
        if isinstance(item, bytes):
            entry = LogEntry(raw=item)
        elif isinstance(item, Frame):
            entry = LogEntry(replace(item, id=self._event_id(job, item.id)))
        else:
            event, event_id = item if isinstance(item, tuple) else (item, AUTO_ID)
            added = {"jobId": job.id, "timestamp": timestamp()}
            event = {**{name: added[name] for name in added if name not in event}, **event}
            cancelled = event.get("type") == "training.cancelled"
            if cancelled:  # in a recording; the stream calls it failed, and the record tells
                event = {**event, "type": "training.failed", "error": "Job cancelled"}
            text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
            entry = LogEntry(Frame(text, self._event_id(job, event_id), event.get("type")))
        if self._saved is not None:
            try:
                self._saved.append(job, entry)
            except OSError:
                if not unless_full:
                    raise
        job.log.append(entry)
        if event is not None:
            self._update_job(job, event)
            if cancelled:
                job.status, job.error = "cancelled", None
            if event.get("type") != "training.log":  # its step is found in the log again
                self.save(job)

    @staticmethod
    def _event_id(job: StoredJob, event_id: Optional[str]) -> Optional[str]:
        if event_id == AUTO_ID:
            event_id = str(job.next_id)
        if event_id is not None and re.fullmatch(r"\d{1,15}", event_id):
            job.next_id = max(job.next_id, int(event_id) + 1)
        return event_id

    @staticmethod
    def _update_job(job: StoredJob, event: Dict[str, Any]) -> None:
        kind, step = event.get("type"), event.get("step")
        if isinstance(step, int):
            job.step = step
        if kind == "training.started" and not job.terminal:
            job.status, job.started_at = "running", event.get("timestamp")
        elif kind == "checkpoint.saved" and isinstance(step, int):
            job.saved_steps.add(step)
        elif kind in ("training.completed", "training.failed"):
            job.ended = True
            if not job.terminal:
                job.status = "completed" if kind == "training.completed" else "failed"
                job.completed_at = event.get("timestamp")
                job.error = event.get("error")
