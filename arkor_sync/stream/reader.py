"""Connects, reads, puts events on the channel, and connects again. Runs on the reader thread.

It gives up only on what its policy calls permanent. Where the stream cannot tell how the job ended,
it reads the job's record instead.
"""

from __future__ import annotations

import enum
from typing import Callable, Iterator, Optional, Tuple

from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger
from arkor_sync._common.threads import OwnThread
from arkor_sync.cloud.jobs import NO_STREAM
from arkor_sync.cloud.sse import FrameParser
from arkor_sync.cloud.transport import Transport
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorError,
    ArkorTimeoutError,
    CloudApiError,
    GoneError,
    ReconnectExhausted,
    ReplayUnavailable,
    ResponseError,
)
from arkor_sync.stream.batches import Batch, EventBatch, read
from arkor_sync.stream.channel import Channel, Position
from arkor_sync.stream.events import FAILED, StreamLost
from arkor_sync.stream.job_end import terminal_event, with_true_end
from arkor_sync.stream.protocols import OpenStream, ReadJob
from arkor_sync.stream.reconnect import ReconnectPolicy

logger = get_logger("arkor_sync.stream.reader")
life = get_logger("arkor_sync.run")

_IDLE = 15.0  # seconds
_LEAST_RETRY = 0.1  # seconds: a server that asks for none must not be hammered when it fails

_PAUSE = 2.0  # seconds without a byte: what the server had stored, it has sent

CANCEL_GRACE = 5.0
"""Seconds of a silent connection after an accepted cancel before the job's record is read."""


class State(enum.Enum):
    """What a reader is doing."""

    NEW = "new"
    CONNECTING = "connecting"
    STREAMING = "streaming"
    BACKING_OFF = "backing off"
    ENDED = "ended"


class _End(enum.Enum):
    """How a connection ended, when nothing was wrong with it."""

    TERMINAL = "a terminal event"
    END_FRAME = "an end frame"
    STALE = "no news for too long"
    CLEAN = "the body's end"
    SUPERSEDED = "a newer epoch"


class Reader:
    """Owns the thread that reads one job's events.

    Threads: `start` once; `redeliver`, `expect_end` and `stop` from any thread, and they return at
    once. The attributes are written by the reader and may be read by anyone.

    Attributes:
        state: What it is doing.
        connections: How often the stream was asked for.
        events: New events that were put on the channel.
        failures: Consecutive ones, as the policy counts them.
        last_byte: When the last bytes came, on the clock; `None` before.
        last_event: When the last new event came; `None` before.
        next_attempt: When it connects again, while it is backing off.
    """

    def __init__(
        self,
        *,
        open_stream: OpenStream,
        read_job: ReadJob,
        transport: Transport,
        channel: Channel,
        policy: ReconnectPolicy,
        stale_after: float,
        max_event_bytes: int,
        clock: Clock,
        label: str,
        on_idle: Callable[[], None],
    ) -> None:
        self.state = State.NEW
        self.connections = 0
        self.events = 0
        self.failures = 0
        self.last_byte: Optional[float] = None
        self.last_event: Optional[float] = None
        self.next_attempt = 0.0
        self._lost: Optional[Tuple[float, int]] = None  # when, and with which connection
        self._open_stream = open_stream
        self._read_job = read_job
        self._channel = channel
        self._policy = policy
        self._stale_after = stale_after
        self._max_event_bytes = max_event_bytes
        self._clock = clock
        self._label = label
        self._on_idle = on_idle
        self._transport = transport
        self._delays: Optional[Iterator[float]] = None
        self._retry: Optional[float] = None
        self._last_news = 0.0
        self._listen_until = 0.0  # at least, on this connection
        self._cancelled = False
        self._replaying_all = False
        self._thread = OwnThread(self._main, f"arkor-reader-{label}")

    @property
    def reconnects(self) -> int:
        """How often the stream was opened after the first time."""
        return max(0, self.connections - 1)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def redeliver(self) -> None:
        """Connect again from where the channel was rewound to."""
        self._last_news = self._clock.now()  # the time until now does not count as silence
        self._transport.interrupt()

    def expect_end(self) -> None:
        """Expect the job to end soon: its cancellation was accepted."""
        self._cancelled = True
        self._last_news = self._clock.now()
        self._transport.interrupt()

    def stop(self) -> None:
        """End the thread, whatever it is blocked in."""
        self._transport.close()

    def join(self, timeout: Optional[float] = None) -> bool:
        """Wait for the thread to end; return whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        error: Optional[BaseException] = None
        try:
            self._read_until_stopped()
        except BaseException as ending:  # whatever it is, the run must report it
            error = ending
        if self._thread.forked:
            if error is not None and not isinstance(error, ArkorError):
                raise error
            return
        self.state = State.ENDED
        self._transport.close()
        self._transport.reset()
        self._channel.finish(error)

    def _read_until_stopped(self) -> None:
        self._last_news = self._clock.now()
        while True:
            self._on_idle()
            if not self._transport.reset():
                return
            try:
                delay = self._follow_once()
            except (ArkorConnectionError, CloudApiError) as error:
                if self._transport.interrupted:
                    continue
                delay = self._delay_after(error)
            if delay is None:
                while not self._transport.interruption.wait(_IDLE):
                    self._on_idle()
            elif delay > 0:
                self.next_attempt = self._clock.now() + delay
                self.state = State.BACKING_OFF
                self._clock.wait(self._transport.interruption, delay)

    def _follow_once(self) -> Optional[float]:
        """Follow one connection to its end.

        Returns:
            Seconds to wait before the next one, or None where none is needed unless asked for.
        """
        position = self._channel.connect()
        if self._replaying_all:
            position = Position(position.epoch, None)
        silence = self._clock.now() - self._last_news  # before connecting: that may take hours
        try:
            return self._follow_connection(position, silence)
        except GoneError as gone:
            if gone.status not in self._policy.permanent:
                raise
            return self._after_gone(gone, position)
        except (ArkorConnectionError, CloudApiError) as error:
            # Only now: a stream that can be opened may bring events that the record does not show.
            status = getattr(error, "status", None)
            ask = status == NO_STREAM or silence >= self._stale_after
            if ask and status not in self._policy.permanent and self._put_recorded_end(position):
                return None
            raise

    def _follow_connection(self, position: Position, silence: float) -> Optional[float]:
        read_before = self.events
        end = self._read_connection(position)
        if end is _End.TERMINAL:
            return None
        if end is _End.SUPERSEDED:
            return 0.0
        if end is not _End.CLEAN and self._put_recorded_end(position):
            return None
        if end is _End.STALE:
            return 0.0
        if self.events == read_before:
            if self._cancelled and silence >= CANCEL_GRACE and self._put_recorded_end(position):
                return None  # the stream was read and had no new event
            raise ArkorConnectionError(f"the event stream brought no new event before {end.value}")
        return min(self._policy.cap, self._policy.base if self._retry is None else self._retry)

    def _read_connection(self, position: Position) -> _End:
        self.state = State.CONNECTING
        self.connections += 1
        timeout = patience = self._policy.idle_timeout
        stream = self._open_stream(
            transport=self._transport,
            last_event_id=position.last_event_id,
            timeout=(self._policy.connect_timeout, timeout),
        )
        try:
            self.state = State.STREAMING
            self._log_reconnected()
            self._listen_until = self._clock.now() + min(self._patience(), CANCEL_GRACE)
            parser = FrameParser(self._max_event_bytes)
            while True:
                asked = self._clock.now()
                remaining = max(self._last_news + self._patience(), self._listen_until) - asked
                if remaining <= 0:
                    return _End.STALE
                if min(timeout, remaining) != patience:
                    patience = min(timeout, remaining)
                    stream.set_timeout(patience)
                try:
                    chunk = stream.read()
                except ArkorTimeoutError:
                    if patience < timeout and not self._transport.interrupted:
                        return _End.STALE
                    raise
                if self._transport.interrupted:
                    return _End.SUPERSEDED
                if not chunk:
                    return _End.CLEAN
                self.last_byte = self._clock.now()
                if self.last_byte - asked >= _PAUSE:
                    self._channel.pause()
                end = self._take(parser, chunk, position.epoch)
                self._on_idle()
                if end is not None:
                    return end
        finally:
            stream.close()

    def _take(self, parser: FrameParser, chunk: bytes, epoch: int) -> Optional[_End]:
        """Put what a chunk completes on the channel; return how it ends the connection, if so."""
        end: Optional[_End] = None
        for batch in read(parser, chunk):
            if batch.terminal:
                batch = self._with_true_end(batch)
            if not self._put(batch, epoch):
                end = _End.SUPERSEDED
            elif batch.terminal:
                end = _End.TERMINAL
            elif batch.ends_stream:
                end = _End.END_FRAME
            if end is not None:
                break
        if parser.retry_ms is not None:
            floor = min(self._policy.base, _LEAST_RETRY)
            self._retry = min(self._policy.cap, max(floor, parser.retry_ms / 1000))
        return end

    def _put(self, batch: Batch, epoch: int) -> bool:
        """Put events on the channel; return False if the epoch is over."""
        before = self._clock.now()
        accepted = self._channel.put(batch, epoch)
        if accepted is None:
            return False
        after = self._clock.now()
        self._last_news += after - before  # it waited for the callbacks, which is no silence
        self._listen_until += after - before
        if accepted and batch.has_data:
            self._last_news = self.last_event = after
            self.events += accepted
            self.failures = 0
            self._delays = None
            self._replaying_all = False
        elif batch.has_data and self._channel.cursor.replaying:
            self._listen_until = after + self._patience()  # a long history is no silence
        return True

    def _patience(self) -> float:
        """How many seconds of silence pass before the job's record is read.

        Every connection is listened to for a while (`_listen_until`): after an outage, or after
        callbacks that took long, the stream may still hold events that the record does not show.
        """
        return CANCEL_GRACE if self._cancelled else self._stale_after

    def _delay_after(self, error: Exception) -> float:
        """Count a failure and draw the delay, or raise what ends the run."""
        policy = self._policy
        if isinstance(error, CloudApiError) and error.status in policy.permanent:
            raise error
        self.failures += 1
        self._lost = self._lost or (self._clock.now(), self.connections)
        if policy.max_attempts is not None and self.failures > policy.max_attempts:
            raise ReconnectExhausted(
                f"the event stream of job {self._label} was lost {self.failures} times in a row; "
                f"the last time: {error}",
                self.failures,
            ) from error
        if self._delays is None:
            self._delays = policy.delays(self._retry)
        delay = policy.jittered(next(self._delays), self._clock.random())
        delay = max(delay, policy.retry_after(error))
        logger.warning(
            "event stream of job %s lost (%s); failure %d in a row, reconnecting in %.1f s",
            self._label,
            str(error),  # a handler that keeps records would keep its traceback, and our batch
            self.failures,
            delay,
        )
        self._channel.report_lost(StreamLost(str(error), self.failures, delay))
        return delay

    def _log_reconnected(self) -> None:
        if self._lost is not None:
            seconds, attempts = self._clock.now() - self._lost[0], self.connections - self._lost[1]
            self._lost = None
            what = "job %s: the event stream is open again after %.1f s (attempts: %d)"
            life.info(what, self._label, seconds, attempts)

    def _after_gone(self, gone: GoneError, position: Position) -> Optional[float]:
        """Carry on after 410: the cloud cannot resume after the cursor.

        The worker gets back what a redelivery had dropped. Then the whole history is asked for
        once, where what was seen before is recognised; if even that is gone, events may be lost.
        """
        self._channel.restore(position.epoch)
        if self._put_recorded_end(position):
            return None
        if position.last_event_id is None:
            raise ReplayUnavailable(
                gone.status,
                "the cloud no longer keeps the events of this job, which still runs; "
                f"the last one read was {self._channel.cursor.read!r}",
                gone.code,
                gone.body,
            ) from gone
        logger.warning("job %s cannot be resumed; asking for its whole history", self._label)
        self._replaying_all = True
        return 0.0

    def _put_recorded_end(self, position: Position) -> bool:
        """Read the job's record; if the job has ended, put the event that was never sent."""
        # Patience begins anew, also where the record cannot be read: the stream is tried first.
        self._last_news = self._clock.now()
        try:
            event = terminal_event(self._read_job(transport=self._transport))
        except ResponseError as error:
            raise ArkorConnectionError(f"the job's record: {error}") from error
        if event is None:
            logger.info("job %s is still running; its event stream is opened again", self._label)
            return False
        self._channel.restore(position.epoch)
        self._channel.put(EventBatch([event]), position.epoch)
        return True

    def _with_true_end(self, batch: Batch) -> Batch:
        """Tell a failure from a cancellation by the job's record: the stream calls both failed.

        Where the record cannot be read, the event is delivered as the stream sent it.
        """
        if batch[-1].type != FAILED:
            return batch
        try:
            return with_true_end(batch, self._read_job(transport=self._transport))
        except ArkorError as error:
            if self._transport.interrupted:
                raise  # the event is not on the channel yet, and comes again
            logger.warning("cannot tell whether job %s was cancelled: %s", self._label, str(error))
            return batch
