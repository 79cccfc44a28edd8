"""The stream of one job, read into columns by two threads of its own. Any thread."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, NamedTuple, Optional

from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger
from arkor_sync._common.secret import redact
from arkor_sync._common.text import safe_line
from arkor_sync._common.threads import OwnThread
from arkor_sync._preload import import_for_the_threads
from arkor_sync.cloud.sse import MAX_EVENT_BYTES
from arkor_sync.errors import text_of
from arkor_sync.stream import events
from arkor_sync.stream.batches import Batch
from arkor_sync.stream.channel import Channel
from arkor_sync.stream.cursor import Cursor
from arkor_sync.stream.events import TrainingEvent
from arkor_sync.stream.reader import Reader, State
from arkor_sync.stream.reconnect import ReconnectPolicy
from arkor_sync.stream.replay import fingerprint
from arkor_sync.studio.event_log import Checkpoint, EventLog

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob
    from arkor_sync.studio.points import Series

logger = get_logger("arkor_sync.studio")

_MOMENTS = 1000  # that are kept, of what happened to the reading
_STALE = 300.0  # seconds of silence after which the job's record is read, as in a run
_STATUS = {
    events.STARTED: "running",
    events.COMPLETED: "completed",
    events.FAILED: "failed",
    events.CANCELLED: "cancelled",
}


class Moment(NamedTuple):
    """Something that happened to the reading of a job.

    Attributes:
        time: Seconds since 1970.
        kind: `connected`, `lost`, `problem` or `ended`.
        text: What happened.
    """

    time: float
    kind: str
    text: str


class Bell:
    """Wakes all who wait for a change.

    Attributes:
        rung: How often it has rung.
        closed: Whether it was closed: nobody waits any more.
    """

    def __init__(self) -> None:
        self.rung = 0
        self.closed = False
        self._changed = threading.Condition()

    def ring(self) -> None:
        """Say that something has changed."""
        with self._changed:
            self.rung += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Wake all who wait, for good."""
        self.closed = True
        self.ring()

    def wait(self, rung: int, timeout: float) -> bool:
        """Wait until it has rung more often; return whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self.rung != rung or self.closed, timeout)

    def pause(self, seconds: float) -> None:
        """Wait, however often it rings, unless it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed, seconds)


class Tap:
    """Reads one job's stream.

    Args:
        client: Asks the cloud.
        job: The job, as its record is now.
        bell: Rings when something has changed.
        clock: Time.
        is_unwatched: Asked now and then while the job goes on; if it returns true, the tap ends.

    Attributes:
        job: The job as of the last event.
        log: Its events. Read it while you hold `lock`.
        lock: Held while something is added.
        version: Grows with each change.
        timeline: What happened to the reading.
        artifacts: What the end of a completed job lists, as the cloud sent it.
        generation: Tells one history from another: the same in each process that reads the same.
            Empty before the first event.
        connection: `connecting`, `live`, `reconnecting`, `ended` with the job, or `lost` for good.
        looked: When somebody last looked, on the clock.
        ended: When the reading ended, on the clock; 0 while it goes on.
    """

    def __init__(
        self,
        client: CloudApiClient,
        job: TrainingJob,
        bell: Bell,
        clock: Clock,
        is_unwatched: Callable[[Tap], bool],
    ) -> None:
        self.job = job
        self.log = EventLog()
        self.lock = threading.Lock()
        self.version = 0
        self.timeline: Deque[Moment] = deque(maxlen=_MOMENTS)
        self.artifacts: List[Any] = []
        self.generation = ""
        self.connection = "connecting"
        self.looked = clock.now()
        self.ended = 0.0
        self._bell = bell
        self._clock = clock
        self._is_unwatched = is_unwatched
        self._client = client
        self._transport = client.transport()
        self._channel = Channel(Cursor())
        self._reader = Reader(
            open_stream=self._open_stream,
            read_job=lambda **how: client.jobs.get(job.id, **how),
            transport=self._transport,
            channel=self._channel,
            policy=ReconnectPolicy(),
            stale_after=_STALE,
            max_event_bytes=MAX_EVENT_BYTES,
            clock=clock,
            label=job.id,
            on_idle=self._leave_if_unwatched,
        )
        self._thread = OwnThread(self._main, f"arkor-tap-{job.id}")

    @property
    def series(self) -> Dict[str, Series]:
        """The metrics, by name."""
        return self.log.columns.series

    @property
    def checkpoints(self) -> List[Checkpoint]:
        """The checkpoints, in order."""
        return self.log.checkpoints

    @property
    def steps_saved(self) -> List[int]:
        """The steps of its checkpoints, each once, in order. It takes `lock`."""
        with self.lock:
            return sorted({each.step for each in self.checkpoints})

    @property
    def error(self) -> Optional[str]:
        """The job's error, without what looks like a secret."""
        return redact(self.job.error) if self.job.error else None

    @property
    def total_steps(self) -> Optional[int]:
        """How many steps the job has (`maxSteps`); None if it does not say."""
        steps = self.job.config.get("maxSteps")
        return steps if type(steps) is int and steps > 0 else None

    @property
    def step(self) -> int:
        """The last step that was logged; 0 before."""
        steps = self.log.columns.steps
        return int(steps[-1]) if steps else 0

    def start(self) -> None:
        """Start to read."""
        import_for_the_threads()
        if self.job.is_terminal:
            self._reader.expect_end()  # the stream may have gone, and the record has the end
        self._thread.start()
        self._reader.start()

    def close(self) -> None:
        """Stop reading. The job goes on."""
        self._channel.close()
        self._reader.stop()

    def join(self, timeout: float) -> None:
        """Wait for its threads to end."""
        self._reader.join(timeout)
        self._thread.join(timeout)

    def abandon(self) -> None:
        """End in a forked child. The reading is the parent's."""
        self._transport.abandon()
        self._channel.abandon()

    def wait(self, version: int, timeout: float) -> int:
        """Wait until the version is another one; return it."""
        deadline = self._clock.now() + timeout
        while True:
            rung, left = self._bell.rung, deadline - self._clock.now()
            if self.version != version or self._bell.closed or left <= 0:
                return self.version
            self._bell.wait(rung, left)

    def wait_for_news(self, timeout: float) -> None:
        """Wait until some event is there, for a tap that was just opened."""
        deadline = self._clock.now() + timeout
        while True:
            version, left = self.version, deadline - self._clock.now()
            if len(self.log) or self.ended or self._bell.closed or left <= 0:
                return
            self.wait(version, left)

    def _open_stream(self, **how: Any) -> Any:
        stream = self._client.jobs.events(self.job.id, **how)
        with self.lock:
            again = self.connection == "reconnecting"
            self._note("connected", "the stream is open again" if again else "the stream is open")
            self.connection = "live"
            self.version += 1
        self._bell.ring()
        return stream

    def _leave_if_unwatched(self) -> None:
        if not self.ended and self._is_unwatched(self):
            self.close()

    def _main(self) -> None:
        try:
            while self._take():
                pass
            error = self._channel.error
        except Exception as raised:  # whatever it is, who looks must learn that nothing comes
            error = raised
        if not self._thread.forked:
            self._end(error)

    def _take(self) -> bool:
        """Add what has come; return whether more will."""
        batch = self._channel.take()
        if batch is None:
            return False
        lost = self._channel.take_lost()
        logs = batch.plain_logs() if batch else None
        is_open = self._reader.state is State.STREAMING
        with self.lock:
            if batch and not self.generation:
                self.generation = fingerprint(batch[0])
            if logs is not None:
                self.log.add_logs(logs)
            else:
                self._add_each(batch)
            if lost is not None:
                self._note("lost", f"{lost.error}; again in {lost.delay:.1f} s")
            if batch or lost is not None:
                self.connection = "live" if is_open else "reconnecting"
            self.version += 1
        if batch:
            self._channel.acknowledge(batch)
        self._bell.ring()
        return not (batch and batch.terminal)

    def _end(self, error: Optional[BaseException]) -> None:
        with self.lock:
            self.connection = "ended" if error is None and self.job.is_terminal else "lost"
            told = text_of(error) if error else f"the job is {self.job.status}"
            self._note("ended", told)
            self.ended = self._clock.now()  # last: who sees that, without the lock, sees all of it
            self.version += 1
        if error is not None:
            logger.warning("job %s is no longer shown live: %s", self.job.id, safe_line(told))
        self._reader.stop()
        self._bell.ring()

    def _add_each(self, batch: Batch) -> None:
        for event in batch:
            self.log.add(event)
            if event.problem is not None:
                self._note("problem", f"an event cannot be read: {event.problem}")
            elif event.type in _STATUS:
                self._apply(event)

    def _apply(self, event: TrainingEvent) -> None:
        """Bring the job up to date: it has started, or ended."""
        status = _STATUS[event.type]
        if event.type == events.STARTED:
            if self.job.is_terminal:
                return  # its record has more to say than the past
            self.job = dataclasses.replace(self.job, status=status, started_at=event.timestamp)
            return
        self.artifacts = events.items(event.data.get("artifacts"))
        error = events.text(event.data.get("error"))
        completed = event.timestamp or self.job.completed_at
        self.job = dataclasses.replace(self.job, status=status, error=error, completed_at=completed)

    def _note(self, kind: str, text: str) -> None:
        self.timeline.append(Moment(time.time(), kind, safe_line(text)))
