"""Decides what is done about a callback's exception. Runs on the worker thread."""

from __future__ import annotations

from itertools import count
from typing import Any, Callable, Hashable, Optional

from arkor_sync._common.log import get_logger, note_and_warn
from arkor_sync.errors import LeaseLostError, add_note, text_of
from arkor_sync.stream.error_policy import (
    Action,
    Decision,
    ErrorPolicy,
    Failure,
    Redeliver,
    Skip,
    StopTraining,
)
from arkor_sync.stream.protocols import Canceller, Event, Handlers

logger = get_logger("arkor_sync.stream.worker")


class Failures:
    """Decides what is done about the exceptions of one run's callbacks, and counts them.

    Attributes:
        given_up: Failures that were logged away.
        final: The failure that ends the run, or None.
    """

    def __init__(
        self,
        policy: ErrorPolicy,
        canceller: Canceller,
        wait: Callable[[float], None],
        random: Callable[[], float],
        label: str,
    ) -> None:
        """Count from 0.

        Args:
            policy: What an exception does.
            canceller: Cancels the job.
            wait: Waits for so many seconds, unless the run is stopped.
            random: Returns a random number from 0 up to 1.
            label: The job's id, for log lines.
        """
        self.given_up = 0
        self.final: Optional[Failure] = None
        self._policy = policy
        self._canceller = canceller
        self._wait = wait
        self._random = random
        self._label = label

    def stops_training(self, error: StopTraining) -> bool:
        """Stop the job for a callback that asked for it.

        Returns:
            False if the job had ended already: there is nothing to stop.

        Raises:
            Exception: The job could not be stopped and may still run.
        """
        if self._canceller.stop(error.reason):
            return True
        what = "job %s had ended before it could be stopped (%s)"
        logger.warning(what, self._label, error.reason)
        return False

    def wait_before_repeat(self, decision: Decision) -> None:
        """Wait a random time, up to the one that was decided on."""
        self._wait(decision.max_delay * self._random())

    def repeat(self, act: Callable[[], None], name: str, event: Event) -> None:
        """Do something that is no callback until it works, or until the policy lets it be.

        Args:
            act: What to do. There is nothing to be sent again, so RECONNECT is the same as RETRY.
            name: What the policy knows it by.
            event: What it is done for.

        Raises:
            Exception: What it raised, where the run ends with it.
        """
        for attempt in count(1):
            try:
                act()
                break
            except Exception as error:
                raised = error
            decision = self.decide(raised, name, event, attempt)
            if decision.action is Action.LOG:
                break
            self.wait_before_repeat(decision)

    def decide(
        self,
        error: Exception,
        callback: str,
        event: Event,
        attempt: int,
    ) -> Decision:
        """Ask the policy and do what it decides. The caller does the waiting and the repeat.

        Args:
            error: What the callback raised.
            callback: Its name.
            event: What it was called for.
            attempt: 1 for the first call for this event.

        Returns:
            LOG, RETRY or RECONNECT. `Skip` is LOG without a log line.

        Raises:
            Exception: The callback's own exception, where the run ends with it; or what the policy
                raised.
        """
        if isinstance(error, Skip):
            return Decision(Action.LOG)
        if isinstance(error, LeaseLostError):
            raise error  # another process may follow the job by now
        failure = Failure(error, callback, event, attempt, self.given_up)
        where = f"job {self._label}: {_where(failure)}"
        if isinstance(error, Redeliver) and attempt < error.attempts:
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
            self.final = failure
            raise broken from error
        if decision.action in (Action.RETRY, Action.RECONNECT):
            logger.warning(
                "%s: %s: %s; %s", where, type(error).__name__, text_of(error), decision.action
            )
            return decision
        self.final = failure
        add_note(error, where)
        if decision.spent_budget is not None:
            note = (
                f"the error budget of the run is spent: {self.given_up} errors were logged, "
                f"budget={decision.spent_budget}, and {callback} raised once more"
            )
            note_and_warn(error, note, f"job {self._label}")
        if decision.action is Action.CANCEL:
            self._cancel(error)
        raise error

    def _cancel(self, error: Exception) -> None:
        try:
            self._canceller.cancel()
        except Exception as refused:
            what = f"the job could not be cancelled, it may still run: {text_of(refused)}"
            add_note(error, f"and {what}")
            logger.error(what)


class Again(Exception):
    """An event has come again, and these of its callbacks are still to be called."""

    def __init__(self, handlers: Handlers, attempt: int) -> None:
        self.handlers = handlers
        self.attempt = attempt

    def throw(self, _: Any) -> None:
        """Raise it, in the place of the callbacks."""
        raise self


def identity(event: Event) -> Hashable:
    """Return what identifies an event that is sent again, even if its JSON has changed."""
    return event.key if event.id is None else (event.type, event.id)


def _where(failure: Failure) -> str:
    event = failure.event
    step = "" if event.step is None else f", step {event.step}"
    which = "" if event.id is None else f", event {event.id}"
    return f"{failure.callback} raised{step}{which}, attempt {failure.attempt}"
