"""Delivers events inside of a context of the program, each as a whole. Runs on the worker thread.

`around` returns a context manager, such as a transaction. The callbacks of one event and the saving
of its position happen inside of one. An exception leaves it, so that what was done inside can be
undone; all callbacks of the event are then called again in a new context, without those that the
error policy has given up. `Skip` and `StopTraining` are words and no errors: the context ends as if
the callback had returned.

Where the end of the context raises, it may have ended well all the same: a database that goes down
with the answer to a COMMIT on its way has committed. So the store is asked before another attempt.

Where the context or the saving raises `StoreUnavailableError`, it is tried again for as long as a
lease lasts, before the error policy is asked: so a database may be restarted.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from functools import partial
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Hashable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger
from arkor_sync._common.threads import raise_if_interrupted
from arkor_sync.errors import StoreUnavailableError, text_of
from arkor_sync.stream.awaiting import Interrupted
from arkor_sync.stream.batches import Batch, Delivery
from arkor_sync.stream.channel import Channel
from arkor_sync.stream.error_policy import (
    CURSOR_STORE,
    Action,
    Decision,
    Skip,
    StopTraining,
)
from arkor_sync.stream.failures import Again, Failures, identity
from arkor_sync.stream.lease import Lease
from arkor_sync.stream.protocols import Event, Handlers

logger = get_logger("arkor_sync.stream.worker")

AroundFunction = Callable[[], ContextManager[Any]]

_UNAVAILABLE = 0.5  # seconds; the most between two attempts to reach the store's server


class Around:
    """Delivers events, each inside of a context, and moves the cursor over them one by one.

    Args:
        enter: Makes a context.
        call: Calls one callback, given name, function and context; returns its error, if any.
        context: Builds the callbacks' argument, given the event and the attempt.
        failures: Decides what is done about errors.
        rewind: Asks for an event again; returns False if it cannot come again.
        channel: Has the cursor.
        lease: Saves the position, and knows the callbacks' state.
        forked: Whether this is a forked child of the run's process.
    """

    def __init__(
        self,
        enter: AroundFunction,
        call: Callable[[str, Callable[[Any], Any], Any], Optional[Exception]],
        context: Callable[[Event, int], Any],
        failures: Failures,
        rewind: Callable[[Event], bool],
        channel: Channel,
        lease: Lease,
        forked: Callable[[], bool],
    ) -> None:
        self._enter = enter
        self._call = call
        self._context = context
        self._failures = failures
        self._rewind = rewind
        self._channel = channel
        self._lease = lease
        self._forked = forked

    def deliver_batch(
        self,
        delivery: Delivery,
        prepared: Iterator[Tuple[Handlers, Any]],
        moved: Callable[[int], None],
    ) -> Dict[Hashable, Tuple[Handlers, int]]:
        """Deliver events, one after the other.

        Args:
            delivery: The events.
            prepared: The callbacks of each event, and their argument in the first attempt.
            moved: Called when the cursor has moved, with the number of events.

        Returns:
            Nothing once all is done. Else the event that will come again, by its `identity`, with
            what `deliver` returned.
        """
        batch, keep = delivery.batch, self._lease.saver
        for begun, (handlers, ctx) in enumerate(prepared, 1):
            delivery.begun = begun
            one, event = batch[begun - 1 : begun], batch[begun - 1]
            save = None
            if keep is not None:
                after = self._channel.cursor.position_after(one)
                finished = batch.terminal and begun == len(batch)
                save = partial(keep, dataclasses.replace(after, finished=finished))

            def done(begun: int = begun, one: Batch = one) -> None:
                self._channel.acknowledge(one)
                moved(begun)

            if not handlers and save is None:
                done()
                continue
            again = self.deliver(event, handlers, save, done, ctx)
            if again is not None:
                return {identity(event): again}
        return {}

    def deliver(
        self,
        event: Event,
        handlers: Handlers,
        save: Optional[Callable[[], None]] = None,
        done: Callable[[], None] = lambda: None,
        ctx: Any = None,
    ) -> Optional[Tuple[Handlers, int]]:
        """Call the callbacks of an event and save its position, until one attempt is whole.

        Args:
            event: The event.
            handlers: Its callbacks.
            save: Saves the position after it, inside of the context.
            done: Called once all is done, outside of the context.
            ctx: The callbacks' argument in the first attempt; None builds it.

        Returns:
            None when it is done; else the event will come again, and these callbacks are then to
            be called, with this attempt.

        Raises:
            Interrupted: A callback has stopped the job. The event is done.
            Exception: What the run ends with.
        """
        attempt = 1
        failed: Dict[int, int] = {}  # how often, by what failed
        left = list(handlers)
        patient_until = 0.0  # until then the store's server may be away
        self._lease.keep_state()
        while True:
            if ctx is None and left:
                ctx = self._context(event, attempt)
            result = self._attempt(left, ctx, save)
            ctx = None
            if result.error is not None and result.saved and self._lease.has_saved():
                result = result._replace(error=None)  # it has ended well, but could not say so
            if result.error is None:
                done()
                if result.stopped:
                    raise Interrupted
                return None
            self._lease.restore_state()
            if isinstance(result.error, Again):
                left, attempt = list(result.error.handlers), result.error.attempt
                continue
            if result.unavailable and not patient_until:
                patient_until = Clock.now() + self._lease.ttl
                what = "job %s: an event is tried again until the store is back: %s"
                logger.warning(what, self._lease.job_id, text_of(result.error))
            if result.unavailable and Clock.now() < patient_until:
                self._failures.wait_before_repeat(Decision(Action.RETRY, _UNAVAILABLE))
                attempt += 1
                continue
            at = result.at
            name = CURSOR_STORE if at is None else left[at][0]
            key = -1 if at is None else id(left[at])
            failed[key] = failed.get(key, 0) + 1
            decision = self._failures.decide(result.error, name, event, failed[key])
            attempt += 1
            if decision.action is not Action.LOG:
                self._failures.wait_before_repeat(decision)
                if decision.action is Action.RECONNECT and self._rewind(event):
                    return left, attempt
            elif at is None:
                save = None
            else:
                del left[at]

    def _attempt(self, handlers: Handlers, ctx: Any, save: Optional[Callable[[], None]]) -> _Result:
        """Make one attempt. What the context itself raises counts as the last callback's error."""
        stopped = saved = unavailable = False
        last = at = len(handlers) - 1 if handlers else None
        raised: Optional[Exception] = None
        try:
            with ExitStack() as stack:
                stack.enter_context(self._enter())
                raise_if_interrupted()  # it may have waited
                for at, (name, function) in enumerate(handlers):  # noqa: B007
                    raised = self._call(name, function, ctx)
                    if self._forked():  # this is a child, and the context is its parent's
                        _inherited.append(stack.pop_all())
                        raise Interrupted
                    if isinstance(raised, StopTraining):
                        stopped = self._failures.stops_training(raised)
                    if isinstance(raised, (Skip, StopTraining)):
                        raised = None
                    if raised is not None:
                        raise raised
                    if stopped:
                        break
                at = last
                if save is not None:
                    at = None
                    save()
                    at, saved = last, True
        except Interrupted:
            raise
        except Exception as error:
            unavailable = isinstance(error, StoreUnavailableError) and error is not raised
            raised = error
        # `raised` is an error also if the context has swallowed it
        return _Result(raised, at, stopped, saved, unavailable)


class _Result(NamedTuple):
    """What came of an attempt.

    Attributes:
        error: What was raised, or None.
        at: The number of the callback that raised it; None for the saving.
        stopped: Whether a callback has stopped the job.
        saved: Whether the position was saved; an error is then that of the context's end.
        unavailable: Whether the store's server could not be reached, and nothing was kept.
    """

    error: Optional[Exception]
    at: Optional[int]
    stopped: bool
    saved: bool
    unavailable: bool


_inherited: List[ExitStack] = []  # kept alive: a context that is collected would end
