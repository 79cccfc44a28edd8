"""Thread two: take, call, await, acknowledge; or ask the error policy."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import traceback
from typing import (
    Any,
    Callable,
    Dict,
    Hashable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
)

from arkor_sync._common.clock import Clock
from arkor_sync.errors import RunError, add_note, still_runs
from arkor_sync.stream.awaiting import Awaiter, Interrupted
from arkor_sync.stream.batches import LogBatch
from arkor_sync.stream.channel import Channel
from arkor_sync.stream.error_policy import (
    Action,
    Decision,
    ErrorPolicy,
    Failure,
    Redeliver,
    Skip,
    StopTraining,
)
from arkor_sync.stream.events import ENDED, KNOWN, LOG, STARTED, TERMINAL, TrainingEvent

logger = logging.getLogger("arkor_sync.stream.worker")

STUCK_AFTER = 60.0
"""Seconds after which a running callback is warned of; again after twice as long."""

_BOOKKEPT = TERMINAL | {STARTED}
Handlers = Mapping[str, Sequence[Tuple[str, Callable[[Any], Any]]]]


class Host(Protocol):
    """What the worker needs of the run. Everything is called on the worker thread."""

    def apply(self, event: TrainingEvent) -> None:
        """Do the bookkeeping of an event, before its callbacks."""

    def context(self, event: TrainingEvent, attempt: int) -> Any:
        """Build the callbacks' argument."""

    def log_contexts(self, batch: LogBatch, fields: List[Dict[str, Any]]) -> Iterator[Any]:
        """Build the callbacks' argument for each of many logs, one after the other."""

    def remember(self, event: TrainingEvent) -> None:
        """Keep an event for the run's history, once, before its callbacks."""

    def remember_batch(self, batch: LogBatch) -> None:
        """The same for logs, each from when `begun` counts it."""

    acknowledged: Optional[Callable[[TrainingEvent], None]]
    """Hears that the callbacks are done with an event; None where nobody wants to know."""

    def redeliver(self) -> None:
        """Have the stream opened again; the channel is being rewound."""

    def stop(self, reason: str) -> bool:
        """Cancel the job and end the run with a result; False if the job has ended already."""

    def cancel(self) -> None:
        """Ask the cloud to stop the job."""

    def ending(self, error: Optional[BaseException]) -> TrainingEvent:
        """Tell what the run comes to, as the event that its callbacks are called with."""

    def settle(self, error: Optional[BaseException], failure: Optional[Failure]) -> None:
        """Hear that the worker is done: with a terminal event, or with an error."""


class Call(NamedTuple):
    """The callback that is running: its name, its event, and when it began on the clock."""

    callback: str
    event: TrainingEvent
    since: float


class Worker:
    """Owns the thread that calls the callbacks of one run, one after the other.

    Threads: `start` once; `stop`, `join` and `stack` from any thread. The attributes are written by
    the worker and may be read by anyone.

    Attributes:
        given_up: Failures that were logged away.
        skipped: Events that could not be read, or whose type is unknown.
    """

    def __init__(
        self,
        *,
        channel: Channel,
        handlers: Handlers,
        policy: ErrorPolicy,
        host: Host,
        context: contextvars.Context,
        clock: Clock,
        label: str,
    ) -> None:
        self._calling: Optional[str] = None  # the name of the callback that runs
        self._ctx: Any = None  # its argument
        self.given_up = 0
        self.skipped = 0
        # How many events were acknowledged before the logs that are being delivered, and those.
        # As one, so that nobody sees them counted twice, or not at all.
        self._tally: Tuple[int, Optional[LogBatch]] = (0, None)
        self._channel = channel
        self._label = label
        self._handlers = handlers
        self._policy = policy
        self._host = host
        self._clock = clock
        self._awaiter = Awaiter()
        self._stopped = threading.Event()
        self._stopping = False  # the same, where it is looked at for every event
        self._on_acknowledged = host.acknowledged
        self._context = host.context
        self._remember = host.remember
        self._remember_batch = host.remember_batch
        self._log_contexts = host.log_contexts
        self._now = clock.now
        self._moment = 0.0  # since when the event at hand is: one look at the clock an event
        self._acknowledged_at: Optional[float] = None
        self._failure: Optional[Failure] = None
        self._watched: Any = None
        self._warn_after = STUCK_AFTER
        # Callbacks that are done with an event that will come again, and the attempt to go on with.
        self._progress: Dict[Hashable, Tuple[int, int]] = {}
        self._thread = threading.Thread(
            target=context.run, args=(self._main,), name=f"arkor-worker-{label}", daemon=True
        )

    @property
    def delivered(self) -> int:
        """How many events were acknowledged."""
        before, under_way = self._tally
        return before + _done(under_way)

    @property
    def last_acknowledged(self) -> Optional[float]:
        """When the last of them was, on the clock; None before the first."""
        return self._moment if _done(self._tally[1]) else self._acknowledged_at

    @property
    def acknowledged_id(self) -> Optional[str]:
        """Id of the last of them, or None."""
        _, under_way = self._tally
        done = _done(under_way)
        return under_way.ids[done - 1] if under_way and done else self._channel.cursor.acknowledged

    @property
    def call(self) -> Optional[Call]:
        """The callback that is running or awaited, or None."""
        name, ctx = self._calling, self._ctx
        return None if name is None else Call(name, ctx.event, self._moment)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread as soon as no callback is running Python code."""
        self._stopping = True
        self._stopped.set()
        self._awaiter.stop()
        self._channel.close()

    def join(self, timeout: Optional[float] = None) -> bool:
        """Wait for the thread to end; return whether it has."""
        if self._thread.ident is not None and not self.is_current():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def is_current(self) -> bool:
        """Whether the caller is this thread: a callback."""
        return self._thread is threading.current_thread()

    def stack(self) -> str:
        """Format what the thread is doing at this moment."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame else ""

    def warn_if_stuck(self) -> None:
        """Log a callback that has been running for long, with its stack. Any thread may ask."""
        name, ctx, since = self._calling, self._ctx, self._moment
        if name is None:
            return
        if ctx is not self._watched:
            self._watched, self._warn_after = ctx, STUCK_AFTER
        age = self._clock.now() - since
        if age >= self._warn_after:
            self._warn_after = 2 * age
            logger.warning(
                "%s has been running for %.0f s, for event %s:\n%s",
                name,
                age,
                ctx.event.id,
                self.stack(),
            )

    def _main(self) -> None:
        error: Optional[BaseException] = None
        try:
            self._deliver_until_done()
        except BaseException as ending:  # whatever it is, the run must hear of it
            error = ending
        error = self._end(error)
        try:
            self._awaiter.close()
        except Exception:
            logger.exception("closing the callbacks' event loop failed")
        self._host.settle(error, self._failure)

    def _deliver_until_done(self) -> None:
        while True:
            batch = self._channel.take()
            if batch is None:
                if self._stopped.is_set():
                    raise Interrupted
                raise self._channel.error or RunError("the reader ended without saying why")
            self._moment = self._now()
            while batch:
                if type(batch) is not LogBatch:
                    batch = self._deliver_first(batch)
                elif self._progress or self._on_acknowledged is not None:
                    batch = list(batch)
                else:
                    batch = self._deliver_logs(batch)
                if batch is None:
                    return
            notice = self._channel.take_notice()
            if notice is not None:
                self._moment = self._now()
                self._deliver([notice])

    def _deliver_first(self, batch: Sequence[TrainingEvent]) -> Optional[Sequence[TrainingEvent]]:
        """Deliver the first event; return what is left, or None after a terminal one."""
        if self._stopping:
            raise Interrupted
        event = batch[0]
        if not self._deliver(batch):
            return []
        self._acknowledge(event)
        return None if event.type in TERMINAL else batch[1:]

    def _deliver_logs(self, batch: LogBatch) -> Sequence[TrainingEvent]:
        """Deliver logs until a callback raises, and deal with that one; return what is left.

        Nothing is done for each of them that can be done for all.
        """
        fields = batch.fields()
        if fields is None:
            return list(batch)  # each has to be looked at
        handlers = self._handlers.get(LOG, ())
        now = self._now
        call: Any = None
        error: Optional[Exception] = None
        begun = 0
        self._remember_batch(batch)
        before, _ = self._tally
        self._tally = before, batch
        try:
            for begun, ctx in enumerate(self._log_contexts(batch, fields), 1):
                if self._stopping:
                    raise Interrupted
                batch.begun = begun
                self._ctx = ctx
                for call in handlers:
                    self._calling = call[0]
                    result = call[1](ctx)
                    if result is not None:
                        self._awaiter.wait_for(result)
                self._moment = now()
            begun += 1
        except Interrupted:
            raise
        except Exception as raised:
            error = raised
        finally:
            self._calling = None
            done = max(0, begun - 1)
            if done:
                self._channel.acknowledge(batch[:done] if done < len(batch) else batch)
                self._acknowledged_at = self._moment
            self._tally = before + done, None
        if error is None:
            return []
        left = list(batch[done:])  # no batch of what is left: each error would copy it again
        if not self._deliver(left, [each is call for each in handlers].index(True), error):
            return []
        self._acknowledge(left[0])
        return left[1:]

    def _end(self, error: Optional[BaseException]) -> Optional[BaseException]:
        """Call those who want to hear of the end, and return the error that the run ends with."""
        event = self._host.ending(error)
        ending: Optional[BaseException] = event.data["error"]
        for handler in self._handlers.get(ENDED, ()):
            self._handlers = {ENDED: [handler]}  # each alone: whatever one does, all hear of it
            failure = self._failure
            self._moment = self._now()
            try:
                self._deliver([event])
            except Interrupted:
                continue
            except BaseException as raised:
                if ending is None:
                    ending = raised
                    continue
                self._failure = failure
                logger.error("a second error, while the run ended with another", exc_info=raised)
        return ending

    def _acknowledge(self, event: TrainingEvent) -> None:
        self._channel.acknowledge([event])
        if self._on_acknowledged is not None:
            self._on_acknowledged(event)
        self._tally = self._tally[0] + 1, None
        self._moment = self._acknowledged_at = self._now()

    def _deliver(
        self,
        batch: Sequence[TrainingEvent],
        position: int = 0,
        error: Optional[Exception] = None,
    ) -> bool:
        """Call every callback of the first event of a batch.

        Args:
            batch: The event, and those that are in hand after it.
            position: Of the callback to begin with.
            error: What that callback has raised already, if it has been called.

        Returns:
            False if the event will come again instead.
        """
        event, attempt = batch[0], 1
        if event.problem is not None:
            self.skipped += 1
            logger.warning("skipped event %s: %s", event.id, event.problem)
            return True
        if error is None:
            if event.type in _BOOKKEPT:
                self._host.apply(event)
            again = self._progress.pop(_identity(event), None) if self._progress else None
            if again is None:
                self._remember(event)
            position, attempt = again or (0, 1)
        handlers = self._handlers.get(event.type)
        if not handlers:
            return True
        ctx = self._context(event, attempt)
        while position < len(handlers):
            name, function = handlers[position]
            if ctx.attempt != attempt:
                ctx = self._context(event, attempt)
            if error is None:
                error = self._invoke(name, function, ctx)
            else:
                error = self._sorted(error, event)
            if error is None:
                position, attempt = position + 1, 1
                continue
            decision = self._judge(Failure(error, name, event, attempt, self.given_up))
            error = None
            if decision.action is Action.LOG:
                position, attempt = position + 1, 1
                continue
            attempt += 1
            self._pause(decision.max_delay)
            if decision.action is Action.RECONNECT and self._rewind(batch):
                self._progress[_identity(event)] = (position, attempt)
                return False
        return True

    def _invoke(self, name: str, function: Callable[[Any], Any], ctx: Any) -> Optional[Exception]:
        """Call one callback and wait for what it returns. Return its error, if there is one."""
        self._calling, self._ctx = name, ctx
        try:
            result = function(ctx)
            if result is not None:
                self._awaiter.wait_for(result)
        except Interrupted:
            raise
        except Exception as error:
            return self._sorted(error, ctx.event)
        finally:
            self._calling = None
        return None

    def _sorted(self, error: Exception, event: TrainingEvent) -> Optional[Exception]:
        """Do what a callback asks for by raising; return what is an error and no request."""
        if isinstance(error, Skip):
            return None
        if isinstance(error, StopTraining):
            try:
                if not self._host.stop(error.reason):
                    what = "job %s had ended before it could be stopped (%s)"
                    logger.warning(what, self._label, error.reason)
                    return None
            except Exception as refused:
                return refused  # the job may still run, so this is no less than an error
            if event.type in KNOWN:
                self._acknowledge(event)
            raise Interrupted from None
        return error

    def _judge(self, failure: Failure) -> Decision:
        """Ask the policy, and do all of what it says but the waiting and the repeat."""
        error, where = failure.error, f"job {self._label}: {_where(failure)}"
        if isinstance(error, Redeliver) and failure.attempt < error.attempts:
            self._wait(error.delay)
            return Decision(Action.RETRY)
        try:
            decision = self._policy.decide(failure)
            if decision.action is Action.LOG:
                self.given_up += 1
                logger.error("%s; logged, going on", where, exc_info=error)
                if self._policy.dead_letter is not None:
                    self._policy.dead_letter(failure)
                return decision
        except Exception as broken:
            add_note(broken, f"raised by the error policy, deciding on: {where}")
            self._failure = failure
            raise broken from error
        if decision.action in (Action.RETRY, Action.RECONNECT):
            logger.warning(
                "%s: %s: %s; %s", where, type(error).__name__, str(error), decision.action
            )
            return decision
        self._failure = failure
        add_note(error, where)
        if decision.action is Action.ABORT and failure.event.type in KNOWN - TERMINAL:
            add_note(error, still_runs(self._label))
        if decision.action is Action.CANCEL:
            try:
                self._host.cancel()
            except Exception as refused:
                add_note(error, f"and the job could not be cancelled, it may still run: {refused}")
                logger.error("the job could not be cancelled, it may still run: %s", str(refused))
        raise error

    def _rewind(self, in_hand: Sequence[TrainingEvent]) -> bool:
        """Ask for the event again. Without an id, or a reader, it can only be tried in hand."""
        event = in_hand[0]
        if event.id is None or not self._channel.rewind(in_hand, self._host.redeliver):
            logger.warning("event %r cannot come again; trying again with it in hand", event)
            return False
        return True

    def _pause(self, max_delay: float) -> None:
        self._wait(max_delay * self._clock.random())

    def _wait(self, seconds: float) -> None:
        if self._stopped.is_set() or (seconds > 0 and self._clock.wait(self._stopped, seconds)):
            raise Interrupted


def _done(under_way: Optional[LogBatch]) -> int:
    """Return how many of the logs that are being delivered the callbacks are done with."""
    return max(0, under_way.begun - 1) if under_way else 0


def _identity(event: TrainingEvent) -> Hashable:
    """Tell an event when it comes again, also where the server words it anew."""
    return event.key if event.id is None else (event.type, event.id)


def _where(failure: Failure) -> str:
    event = failure.event
    step = "" if event.step is None else f", step {event.step}"
    return f"{failure.callback} raised{step}, event {event.id}, attempt {failure.attempt}"
