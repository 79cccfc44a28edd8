"""Takes events, calls the callbacks, awaits, acknowledges. Runs on the worker thread."""

from __future__ import annotations

import contextvars
import dataclasses
from functools import partial
from itertools import repeat
from typing import Any, Callable, Dict, Hashable, Iterator, List, Mapping, Optional, Tuple

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import Flag
from arkor_sync._common.log import get_logger
from arkor_sync._common.threads import OwnThread, interrupted_by
from arkor_sync.errors import RunError
from arkor_sync.stream.around import Around, AroundFunction
from arkor_sync.stream.awaiting import Awaiter, Interrupted
from arkor_sync.stream.batches import Batch, Delivery
from arkor_sync.stream.channel import Channel
from arkor_sync.stream.current_call import CurrentCall
from arkor_sync.stream.error_policy import CURSOR_STORE, Action, ErrorPolicy, StopTraining
from arkor_sync.stream.events import ENDED, KNOWN, LOG, STARTED, TERMINAL, RunEvent
from arkor_sync.stream.failures import Again, Failures, identity
from arkor_sync.stream.lease import Lease
from arkor_sync.stream.progress import Progress
from arkor_sync.stream.protocols import Control, Event, Handlers, Record
from arkor_sync.stream.skipped import Skipped

logger = get_logger("arkor_sync.stream.worker")

_CHANGES_THE_JOB = TERMINAL | {STARTED}


class Worker:
    """Owns the thread that calls the callbacks of one run, one after the other.

    Threads: `start` once; `stop` and `join` from any thread. The attributes are written by the
    worker and may be read by anyone.

    Attributes:
        skipped: The events that could not be read, or whose type is unknown.
        failures: What became of the callbacks' exceptions.
        current: The callback that is running.
        progress: How many events are done with.
    """

    def __init__(
        self,
        *,
        channel: Channel,
        handlers: Mapping[str, Handlers],
        policy: ErrorPolicy,
        record: Record,
        control: Control,
        lease: Lease,
        around: Optional[AroundFunction],
        context: contextvars.Context,
        clock: Clock,
        label: str,
    ) -> None:
        """Make a worker; nothing runs before `start`.

        Args:
            channel: Where the events come from.
            handlers: The callbacks of each event type, in order, with their names.
            policy: What a callback's exception does.
            record: Keeps what the events tell.
            control: The run.
            lease: Keeps the acknowledged position after every event, where there is a cursor store.
            around: Makes the context that the callbacks of one event run in, and its saving.
            context: The context variables that the callbacks see.
            clock: Time.
            label: The job's id, for names and log lines.
        """
        self.skipped = Skipped(label)
        self.failures = Failures(policy, control, self._wait, clock.random, label)
        self._channel = channel
        self._handlers = handlers
        self._record = record
        self._control = control
        self._lease = lease
        self._save = lease.saver
        self._clock = clock
        self._label = label
        self._awaiter = Awaiter()
        self._stopped = Flag()
        self._stopping = False  # the same, where it is looked at for every event
        # Of an event that will come again: the callbacks still to call, and with which attempt.
        self._interrupted: Dict[Hashable, Tuple[Handlers, int]] = {}
        self._thread = OwnThread(partial(context.run, self._main), f"arkor-worker-{label}")
        self.current = CurrentCall(clock, self._thread)
        self.progress = Progress(channel, self.current, clock)
        self._around = around and Around(
            around,
            self._call,
            record.context,
            self.failures,
            self._rewind,
            channel,
            lease,
            lambda: self._thread.forked,
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread as soon as no callback is running Python code."""
        self._stopping = True
        self._stopped.set()
        self._awaiter.stop()
        self._channel.close()

    def abandon(self) -> None:
        """End without another call, in a forked child: a callback may have forked."""
        self._stopping = True
        self._stopped = Flag()
        self._stopped.set()
        self._awaiter.abandon()
        self._channel.abandon()
        self._save = None

    def join(self, timeout: Optional[float] = None) -> bool:
        """Wait for the thread to end; return whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def is_current(self) -> bool:
        """Whether the caller is this thread: a callback."""
        return self._thread.is_current()

    def _main(self) -> None:
        error: Optional[BaseException] = None
        try:
            interrupted_by(partial(self._wait, 0.0))
            self._deliver_until_the_end()
        except BaseException as ending:  # whatever it is, the run must report it
            error = ending
        interrupted_by(None)  # `on_end` waits for its own
        if self._thread.forked:
            if error is not None and not isinstance(error, Interrupted):
                raise error
            return
        try:
            error = self._call_on_end(error)
            self._close_awaiter()
            self.skipped.log_total()
        finally:  # the program's logging may raise, and somebody waits
            self._control.settle(error, self.failures.final)

    def _close_awaiter(self) -> None:
        try:
            self._awaiter.close()
        except BaseException:  # a task in the background may raise `SystemExit`
            logger.exception("closing the callbacks' event loop failed")

    def _deliver_until_the_end(self) -> None:
        while True:
            batch = self._channel.take()
            if batch is None:
                if self._stopped.is_set():
                    raise Interrupted
                raise self._channel.error or RunError("the reader ended without saying why")
            self.current.since = self._clock.now()
            done = batch and self._deliver(batch)
            self._record.close_logs()
            if done and batch.terminal:
                return
            lost = self._channel.take_lost()
            if lost is not None:
                self._deliver_run_event(lost, self._handlers.get(lost.type, ()))

    def _deliver(self, batch: Batch) -> bool:
        """Call the callbacks of each event, one event after the other.

        The inner loop is the way of every event. `_prepare` or `_prepare_each` does beforehand what
        an event needs besides its callbacks, and `_recover` what is left of an event when a
        callback raised; the loop then goes on with the next. The cursor moves at the end, over all
        that is done; with a cursor store, after each event.

        Returns:
            False if the first event that is not acknowledged will come again, and all after it.
        """
        delivery = self.progress.begin(batch)
        if self._around is not None:
            again = self._around.deliver_batch(
                delivery, self._prepare_each(batch), self.progress.moved
            )
            self._interrupted.update(again)
            return not again
        current, now, save = self.current, self._clock.now, self._save
        logs = None if self._interrupted else batch.plain_logs()
        prepare = self._prepare_each(batch) if logs is None else self._prepare(delivery, logs)
        prepared = enumerate(prepare, 1)
        done = 0
        handlers: Handlers = ()
        call: Any = None
        try:
            while True:
                raised: Optional[Exception] = None
                try:
                    for begun, (handlers, ctx) in prepared:
                        if self._stopping and logs is not None:
                            raise Interrupted
                        delivery.begun = begun
                        current.ctx = ctx
                        for call in handlers:
                            current.name = call[0]
                            result = call[1](ctx)
                            if result is not None:
                                self._awaiter.wait_for(result)
                        current.name = None
                        current.since = now()
                        if save is not None:
                            self._acknowledge(begun)
                        done = begun
                    return True
                except Exception as error:
                    if current.name is None or isinstance(error, Interrupted):
                        raise
                    raised = error
                # Outside of `except`: what is called now must not see the exception as its context.
                current.name = None
                if isinstance(raised, Again):
                    left, raised = raised.handlers, None
                else:
                    left = handlers[[each is call for each in handlers].index(True) :]
                if not self._recover(current.ctx, left, raised):
                    return False
                current.since = now()
                if save is not None:
                    self._acknowledge(delivery.begun)
                done = delivery.begun
        finally:
            current.name = None
            self._acknowledge(done)

    def _prepare(
        self, delivery: Delivery, logs: List[Dict[str, Any]]
    ) -> Iterator[Tuple[Handlers, Any]]:
        """Give the callbacks of plain logs, and their argument. All logs are prepared together."""
        self._record.append_logs(delivery)
        contexts = self._record.log_contexts(delivery.batch, logs)
        return zip(repeat(self._handlers.get(LOG, ())), contexts)

    def _prepare_each(self, batch: Batch) -> Iterator[Tuple[Handlers, Any]]:
        """Give the callbacks of each event, and their argument.

        What an event needs beforehand is done when the loop asks for it: the events before it have
        been delivered by then.
        """
        for event in batch:
            if self._stopping:
                raise Interrupted
            if event.problem is not None:
                self.skipped.add(event)
                yield (), None
                continue
            if event.type in TERMINAL:
                self._control.finish_stop()
            if event.type in _CHANGES_THE_JOB:
                self._record.apply(event)
            again = self._interrupted.pop(identity(event), None) if self._interrupted else None
            if again is None:
                self._record.append(event)
                handlers = self._handlers.get(event.type, ())
                yield handlers, self._record.context(event, 1) if handlers else None
                continue
            # Only the callback that raised has an attempt of its own, so `_recover` is to call what
            # is left. The loop gets there by an exception.
            handlers, attempt = again
            first = [(handlers[0][0], Again(handlers, attempt).throw)]
            yield first, self._record.context(event, attempt)

    def _call_on_end(self, error: Optional[BaseException]) -> Optional[BaseException]:
        """Call the `on_end` callbacks, and return the error that the run ends with."""
        ending = self._control.ending(error)
        event = self._record.ended(ending)
        for handler in self._handlers.get(ENDED, ()):  # one by one: an error skips no other
            failure = self.failures.final
            try:
                self._deliver_run_event(event, [handler])
            except Interrupted:
                continue
            except BaseException as raised:
                if ending is None:
                    ending = raised
                    continue
                self.failures.final = failure
                logger.error("a second error, while the run ended with another", exc_info=raised)
        if event.result is not None and event.result.stop_reason is not None:
            self._lease.finish(self._channel.cursor.position())
        return ending

    def _deliver_run_event(self, event: RunEvent, handlers: Handlers) -> None:
        """Call the callbacks of an event that is not part of the stream."""
        self.current.since = self._clock.now()
        if handlers and self._around is not None:
            self._around.deliver(event, handlers)
        elif handlers:
            self._recover(self._record.context(event, 1), handlers)

    def _acknowledge(self, done: int) -> None:
        """Move the cursor over the events in hand that the callbacks are done with, and save it.

        If that fails, the policy decides. Where the run ends with it, they do not count as
        acknowledged.
        """
        if done > self.progress.delivery.acknowledged:
            delivery = self.progress.delivery
            batch, known = delivery.batch, delivery.acknowledged
            self._channel.acknowledge(batch if done - known == len(batch) else batch[known:done])
            if self._save is not None:
                last = batch.terminal and done == len(batch)
                position = dataclasses.replace(self._channel.cursor.position(), finished=last)
                save = partial(self._save, position)
                self.failures.repeat(save, CURSOR_STORE, batch[done - 1])
            self.progress.moved(done)

    def _recover(self, ctx: Any, handlers: Handlers, error: Optional[Exception] = None) -> bool:
        """Call the callbacks that are left of one event, and ask the policy where one raises.

        Args:
            ctx: Their argument.
            handlers: The callbacks to call; the first one may have been called already.
            error: What that one raised.

        Returns:
            False if the event will come again instead.
        """
        event, attempt = ctx.event, ctx.attempt
        while handlers:
            name, function = handlers[0]
            if error is None:
                if ctx.attempt != attempt:
                    ctx = self._record.context(event, attempt)
                error = self._call(name, function, ctx)
            if self._thread.forked:  # the callback has forked, and this is the child
                raise error or Interrupted
            if isinstance(error, StopTraining):
                error = self._stop_training(error, event)
            if error is not None:
                decision = self.failures.decide(error, name, event, attempt)
                error = None
                if decision.action is not Action.LOG:
                    attempt += 1
                    self.failures.wait_before_repeat(decision)
                    if decision.action is Action.RECONNECT and self._rewind(event):
                        self._interrupted[identity(event)] = (handlers, attempt)
                        return False
                    continue
            handlers, attempt = handlers[1:], 1
        return True

    def _call(self, name: str, function: Callable[[Any], Any], ctx: Any) -> Optional[Exception]:
        """Call one callback and wait for what it returns. Return its error, if there is one."""
        self.current.ctx, self.current.name = ctx, name
        try:
            result = function(ctx)
            if result is not None:
                self._awaiter.wait_for(result)
        except Interrupted:
            raise
        except Exception as error:
            return error
        finally:
            self.current.name = None
        return None

    def _stop_training(self, error: StopTraining, event: Event) -> Optional[Exception]:
        """Stop the job and the run for a callback that asked for it.

        Returns:
            None if the job had ended already; what went wrong where it may still run.
        """
        try:
            if not self.failures.stops_training(error):
                return None
        except Exception as refused:
            return refused
        if event.type in KNOWN:
            self.current.since = self._clock.now()
            self._acknowledge(self.progress.delivery.begun)
        raise Interrupted from None

    def _rewind(self, event: Event) -> bool:
        """Ask for the event again. Without an id, or a reader, it can only be tried in hand."""
        delivery = self.progress.delivery
        if event.id is not None:
            self._acknowledge(delivery.begun - 1)
            in_hand = delivery.batch[delivery.begun - 1 :]
            if self._channel.rewind(in_hand, self._control.redeliver):
                return True
        logger.warning("event %r cannot come again; trying again with it in hand", event)
        return False

    def _wait(self, seconds: float) -> None:
        if self._stopped.is_set() or (seconds > 0 and self._clock.wait(self._stopped, seconds)):
            raise Interrupted
