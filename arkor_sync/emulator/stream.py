"""Route 10: follows one job's log over server-sent events. Runs in the connection's thread."""

from __future__ import annotations

from typing import List, Optional

from arkor_sync.emulator.records import Job, LogEntry, StreamConnection
from arkor_sync.emulator.server import ClientGone
from arkor_sync.emulator.sse import END, PING, Body
from arkor_sync.emulator.store import Store

# How often, in real seconds, an idle stream looks whether its client is still there.
POLL_SECONDS = 0.05


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
        self._position = resume_position(job.log, stream.last_event_id)

    def run(self, body: Body) -> bool:
        """Write the log and what is added to it, until the end; ping in between.

        Returns:
            Whether the stream ended properly, so that the connection can serve another request.

        Raises:
            ClientGone: The client left, or the emulator stops.
        """
        while True:
            entries = self._next(body)
            for entry in entries:
                if entry.frame:
                    body.write_frame(entry.frame)
                else:
                    body.write(entry.raw)
                with self._store.changed:
                    self._stream.sent.append(entry.id)
                    self._store.notify()
            if not entries:
                body.write_frame(END)
                body.finish()
                return True

    def _next(self, body: Body) -> List[LogEntry]:
        """Wait for entries not yet written; none means that the stream is over."""
        store, job = self._store, self._job
        due = store.clock.now() + self._ping_interval

        def ready() -> bool:
            return job.ended or len(job.log) > self._position

        while True:
            with store.changed:
                store.wait(ready, due, POLL_SECONDS)
                if store.stopping:
                    raise ClientGone
                if ready():
                    entries = job.log[self._position :]
                    self._position += len(entries)
                    return entries
            if body.connection.client_has_gone():
                raise ClientGone
            if store.clock.now() >= due:
                body.write_frame(PING)
                due = store.clock.now() + self._ping_interval


def resume_position(log: List[LogEntry], last_event_id: Optional[str]) -> int:
    """Return where a stream resumes: after the last entry with that id, else at the start."""
    if last_event_id:
        for index in range(len(log) - 1, -1, -1):
            if log[index].id == last_event_id:
                return index + 1
    return 0
