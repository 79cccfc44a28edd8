"""Decides what is done about a callback's exception. Runs on the worker thread."""

from __future__ import annotations

from typing import Callable, Optional

from arkor_sync._common.log import get_logger
from arkor_sync.errors import add_note, still_runs
from arkor_sync.stream.error_policy import (
    Action,
    Decision,
    ErrorPolicy,
    Failure,
    Redeliver,
    Skip,
    StopTraining,
)
from arkor_sync.stream.events import KNOWN, TERMINAL
from arkor_sync.stream.protocols import Canceller, Event

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
        label: str,
    ) -> None:
        """Count from 0.

        Args:
            policy: What an exception does.
            canceller: Cancels the job.
            wait: Waits for so many seconds, unless the run is stopped.
            label: The job's id, for log lines.
        """
        self.given_up = 0
        self.final: Optional[Failure] = None
        self._policy = policy
        self._canceller = canceller
        self._wait = wait
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
                "%s: %s: %s; %s", where, type(error).__name__, str(error), decision.action
            )
            return decision
        self.final = failure
        add_note(error, where)
        if decision.action is Action.ABORT and event.type in KNOWN - TERMINAL:
            add_note(error, still_runs(self._label))
        if decision.action is Action.CANCEL:
            self._cancel(error)
        raise error

    def _cancel(self, error: Exception) -> None:
        try:
            self._canceller.cancel()
        except Exception as refused:
            add_note(error, f"and the job could not be cancelled, it may still run: {refused}")
            logger.error("the job could not be cancelled, it may still run: %s", str(refused))


def _where(failure: Failure) -> str:
    event = failure.event
    step = "" if event.step is None else f", step {event.step}"
    return f"{failure.callback} raised{step}, event {event.id}, attempt {failure.attempt}"
