"""Sends a job's log as server-sent events. Runs in the connection's thread."""

from __future__ import annotations

from typing import List, Optional

from arkor_sync.emulator.http.faulty_connection import POLL_SECONDS
from arkor_sync.emulator.http.server import ClientGone
from arkor_sync.emulator.http.sse import END
from arkor_sync.emulator.http.stream_body import StreamBody
from arkor_sync.emulator.models import LogEntry, StoredJob, StreamConnection
from arkor_sync.emulator.store import Store


class JobStream:
    """Sends a job's log to one client, from where the client resumes.

    Args:
        store: The emulator's state.
        job: The job.
        stream: The record of this stream.
        ping_interval: A ping is sent after so many virtual seconds without an event.
    """

    def __init__(
        self, store: Store, job: StoredJob, stream: StreamConnection, ping_interval: float
    ) -> None:
        self._store = store
        self._job = job
        self._stream = stream
        self._ping_interval = ping_interval
        self._position = 0
        # The time before each write, so that the client may move the clock as soon as it has read
        # an event.
        self._last_write = stream.opened_at
        self._pings = 0

    def write(self, body: StreamBody) -> None:
        """Send the log, and then each new entry, until the stream ends. Send pings in between.

        Raises:
            ClientGone: The client has left, or the emulator stops.
            BodyEnded: A fault ended the body.
        """
        if not body.faulty.has_fault("replay_all"):
            self._position = resume_position(self._job, self._stream.last_event_id)
        trim = body.faulty.fault("trim")
        if trim is not None:
            forgotten = min(trim.size or 0, len(self._job.log))
            self._position = max(self._position, forgotten)
        body.begin()
        while True:
            entries = self._next_entries(body)
            if not entries:
                body.finish(END)
                return
            for entry in entries:
                self._last_write = self._store.clock.now()
                if body.write(entry):
                    with self._store.condition:
                        self._stream.sent.append(entry.id)
                        self._store.notify()

    def _next_entries(self, body: StreamBody) -> List[LogEntry]:
        """Wait for new entries and return them. An empty list means that the stream ends."""
        store, job = self._store, self._job

        def ready() -> bool:
            return job.ended or len(job.log) > self._position

        while True:
            due = self._last_write + self._ping_interval
            with store.condition:
                store.wait(ready, due, POLL_SECONDS)
                if store.stopping:
                    raise ClientGone
                if ready():
                    entries = job.log[self._position :]
                    self._position += len(entries)
                    return entries
            if body.faulty.connection.client_has_gone():
                raise ClientGone
            if store.clock.now() >= due:
                self._ping(body)

    def _ping(self, body: StreamBody) -> None:
        self._last_write = self._store.clock.now()
        self._pings += 1
        event_id = None
        if body.faulty.has_fault("ids_on_ping"):
            event_id = f"ping-{self._stream.number}-{self._pings}"
            with self._store.condition:
                self._job.ping_positions[event_id] = self._position
        body.ping(event_id)


def resume_position(job: StoredJob, last_event_id: Optional[str]) -> int:
    """Return where a stream resumes: after the last entry with that id, or from the start."""
    if last_event_id:
        for index in range(len(job.log) - 1, -1, -1):
            if job.log[index].id == last_event_id:
                return index + 1
    return job.ping_positions.get(last_event_id or "", 0)
