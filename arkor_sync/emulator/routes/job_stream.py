"""Route 10: follows one job's log over server-sent events. Runs in the connection's thread."""

from __future__ import annotations

from typing import List, Optional

from arkor_sync.emulator.http.server import ClientGone
from arkor_sync.emulator.http.sse import END
from arkor_sync.emulator.http.stream_body import POLL_SECONDS, Body
from arkor_sync.emulator.models import Job, LogEntry, StreamConnection
from arkor_sync.emulator.store import Store


class JobStream:
    """One client's view of a job's log, from its resume point on.

    Args:
        store: Where the job lives.
        job: The job.
        stream: The record of this connection.
        ping_interval: Virtual seconds without a write before a ping.
    """

    def __init__(
        self, store: Store, job: Job, stream: StreamConnection, ping_interval: float
    ) -> None:
        self._store = store
        self._job = job
        self._stream = stream
        self._ping_interval = ping_interval
        self._position = 0
        # Taken before each write, so that whoever has read it may move the clock right away.
        self._last_write = stream.opened_at
        self._pings = 0

    def run(self, body: Body) -> None:
        """Write the log and what is added to it, until the end; ping in between.

        Raises:
            ClientGone: The client left, or the emulator stops.
            CutClean: A fault ended the body.
        """
        if not body.wire.has("replay_all"):
            self._position = resume_position(self._job, self._stream.last_event_id)
        body.begin()
        while True:
            entries = self._next(body)
            if not entries:
                body.finish(END)
                return
            for entry in entries:
                self._last_write = self._store.clock.now()
                if body.write(entry):
                    with self._store.changed:
                        self._stream.sent.append(entry.id)
                        self._store.notify()

    def _next(self, body: Body) -> List[LogEntry]:
        """Wait for entries not yet written; none means that the stream is over."""
        store, job = self._store, self._job

        def ready() -> bool:
            return job.ended or len(job.log) > self._position

        while True:
            due = self._last_write + self._ping_interval
            with store.changed:
                store.wait(ready, due, POLL_SECONDS)
                if store.stopping:
                    raise ClientGone
                if ready():
                    entries = job.log[self._position :]
                    self._position += len(entries)
                    return entries
            if body.wire.connection.client_has_gone():
                raise ClientGone
            if store.clock.now() >= due:
                self._ping(body)

    def _ping(self, body: Body) -> None:
        self._last_write = self._store.clock.now()
        self._pings += 1
        event_id = None
        if body.wire.has("ids_on_ping"):
            event_id = f"ping-{self._stream.number}-{self._pings}"
            with self._store.changed:
                self._job.ping_positions[event_id] = self._position
        body.ping(event_id)


def resume_position(job: Job, last_event_id: Optional[str]) -> int:
    """Return where a stream resumes: after the last entry with that id, else at the start."""
    if last_event_id:
        for index in range(len(job.log) - 1, -1, -1):
            if job.log[index].id == last_event_id:
                return index + 1
    return job.ping_positions.get(last_event_id or "", 0)
