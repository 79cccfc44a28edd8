"""What a program can read from an emulator: requests, jobs, streams. Any thread."""

from __future__ import annotations

import ssl
from typing import Callable, Dict, List, Optional, TypeVar

from arkor_sync.emulator.clock import monotonic
from arkor_sync.emulator.http.server import Server
from arkor_sync.emulator.models import Job, RecordedRequest, StreamConnection
from arkor_sync.emulator.store import Store

T = TypeVar("T")

# How often, in real seconds, `wait_for` checks again: the predicate may depend on things outside
# the emulator, which do not notify it.
POLL_SECONDS = 0.02


class Inspection:
    """The part of `Emulator` that only reads."""

    _store: Store
    _server: Optional[Server]
    _tls: Optional[ssl.SSLContext]

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise RuntimeError("the emulator is not running")
        return self._server.port

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def endpoint_url(self, slug: str) -> str:
        """Return the base URL of a deployment, for any client of OpenAI-compatible servers.

        It stands for `https://<slug>.arkor.app/v1`.
        """
        return f"{self.url}/deployed/{slug}/v1"

    @property
    def requests(self) -> List[RecordedRequest]:
        """All requests so far, the newest last."""
        with self._store.condition:
            return list(self._store.requests)

    @property
    def jobs(self) -> Dict[str, Job]:
        """The jobs by their id."""
        with self._store.condition:
            return dict(self._store.jobs)

    @property
    def org_slug(self) -> str:
        """The org that `token` belongs to."""
        return self._store.identity.org_slug

    @property
    def project_slug(self) -> str:
        """A project in that org."""
        return self._store.project.slug

    @property
    def project_id(self) -> str:
        """The id of that project."""
        return self._store.project.id

    def connections(self, job_id: Optional[str] = None) -> List[StreamConnection]:
        """Return the event streams that clients opened, the newest last: of one job, or of all."""
        with self._store.condition:
            return [s for s in self._store.streams if job_id in (None, s.job_id)]

    @property
    def open_streams(self) -> List[StreamConnection]:
        """The event streams that are open now, the newest last."""
        return [stream for stream in self.connections() if stream.open]

    @property
    def max_concurrent_streams(self) -> int:
        """The largest number of event streams that were open at the same time."""
        return self._store.max_concurrent_streams

    def assert_resumed_from(self, event_id: Optional[str], job_id: Optional[str] = None) -> None:
        """Assert that a stream was opened with this `Last-Event-ID` (None: without one)."""
        seen = [stream.last_event_id for stream in self.connections(job_id)]
        if event_id not in seen:
            raise AssertionError(f"no stream resumed from {event_id!r}; streams sent {seen!r}")

    def wait_for(self, predicate: Callable[[], T], timeout: float = 10.0) -> T:
        """Wait until `predicate()` is true and return what it returned.

        Args:
            predicate: Any condition. It is called in the caller's thread.
            timeout: Real seconds.

        Raises:
            TimeoutError: It did not become true in time.
        """
        deadline = monotonic() + timeout
        while True:
            # Read before the predicate, so that a change after it is not missed.
            version = self._store.version
            result = predicate()
            if result:
                return result
            if monotonic() >= deadline:
                raise TimeoutError(f"not true within {timeout} s; requests: {self.requests[-5:]}")
            with self._store.condition:
                if self._store.version == version:
                    self._store.condition.wait(POLL_SECONDS)
