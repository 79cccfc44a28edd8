"""What must have happened: reads the trace of a run, entry by entry, and objects.

It knows the schedule and the job's log, and nothing of how the engine works.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from chaos_schedule import ABORT_RUN, AGAIN, END, EXIT, OK, SAVE, SKIP, STOP, Key, Schedule

from arkor_sync import Action

AGAIN_ATTEMPTS = 3


class Entry(NamedTuple):
    """One thing that the worker thread did.

    Attributes:
        key: The event's number, END for a terminal one, None for what has no number.
        identity: The event's id and content: what makes it one event and not another.
        id: The event's id.
        callback: The callback that was called, None for an acknowledgement.
        handler: Which of the handlers it was, from 0.
        attempt: What the context said.
        problem: Whether the event could not be read.
    """

    key: Key
    identity: Any
    id: Optional[str]
    callback: Optional[str] = None
    handler: int = 0
    attempt: int = 0
    problem: bool = False

    def __str__(self) -> str:
        if self.callback is None:
            return f"ack {self.key}{' (problem)' if self.problem else ''}"
        return f"{self.callback}[{self.handler}] {self.key} attempt {self.attempt}"


class Wrong(AssertionError):
    """A promise was broken."""


class Oracle:
    """Follows one run's trace.

    Attributes:
        verdict: How the callbacks ended the run: the word of the error, or None.
        given_up: How many failures were to be logged away.
        abandoned: Events that were to come again and have not yet, with the call they are at.
        acked: What was acknowledged, in order, without what has no number.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.verdict: Optional[str] = None
        self.given_up = 0
        self.abandoned: Dict[Any, Tuple[int, int]] = {}
        self.acked: List[Key] = []
        self._schedule = schedule
        self._identities: Counter[Any] = Counter()
        self._current: Any = None
        self._position = (0, 1)  # the handler to be called next, and its attempt
        self._may_stop = False

    @property
    def between_events(self) -> bool:
        """Whether nothing is in hand."""
        return self._current is None

    def read(self, trace: List[Entry]) -> None:
        """Read the whole trace.

        Raises:
            Wrong: A callback was called out of turn, or an event acknowledged out of turn.
        """
        for number, entry in enumerate(trace):
            try:
                self._see(entry)
            except Wrong as wrong:
                before = "\n".join(f"    {each}" for each in trace[max(0, number - 12) : number])
                raise Wrong(f"entry {number}, {entry}: {wrong}; before it:\n{before}") from None

    def _see(self, entry: Entry) -> None:
        if self.verdict is not None:
            raise Wrong(f"the run was over: {self.verdict}")
        if entry.callback is None:
            self._see_ack(entry)
        elif entry.callback == SAVE:
            self._see_failed_save(entry)
        else:
            self._see_call(entry)

    def _see_ack(self, entry: Entry) -> None:
        if not entry.problem:
            done = self._position[0] == self._schedule.handlers
            if entry.identity != self._current or not (done or self._may_stop):
                raise Wrong(f"acknowledged before its callbacks, at {self._position}")
            self._current = None
        if entry.key is None:
            return
        if self._schedule.mode != "lossy" and entry.problem != (
            entry.key in self._schedule.unreadable
        ):
            raise Wrong("what can be read was not, or the other way round")
        self._identities[entry.identity] += 1
        if self._identities[entry.identity] > 1 and not self._may_repeat(entry):
            raise Wrong("acknowledged twice")
        self.acked.append(entry.key)

    def _see_failed_save(self, entry: Entry) -> None:
        if not self.between_events:
            raise Wrong("saved before its callbacks")
        action = self._schedule.decide(SAVE, SAVE, entry.attempt, self.given_up)
        if action is Action.LOG:
            self.given_up += 1
        elif action in (Action.ABORT, Action.CANCEL):
            self.verdict = SAVE

    def _see_call(self, entry: Entry) -> None:
        if self._current is None:
            self._current = entry.identity
            self._position = self.abandoned.pop(_counted_by(entry), (0, 1))
            self._may_stop = False
        if entry.identity != self._current:
            raise Wrong("another event is in hand")
        if self._identities[entry.identity] and not self._may_repeat(entry):
            raise Wrong("it was acknowledged before")
        if (entry.handler, entry.attempt) != self._position:
            raise Wrong(f"it is the turn of {self._position}")
        self._advance(entry)

    def _may_repeat(self, entry: Entry) -> bool:
        """Tell whether nothing but its place tells an event from an older one."""
        return self._schedule.mode == "lossy" and entry.id is None

    def _advance(self, entry: Entry) -> None:
        schedule = self._schedule
        word = schedule.outcome(entry.handler, entry.key, entry.attempt)
        done, again = (entry.handler + 1, 1), (entry.handler, entry.attempt + 1)
        self._may_stop = word == STOP
        if word in (OK, SKIP, STOP, ABORT_RUN):
            self._position = done
        elif word == EXIT:
            self.verdict = word
        elif word == AGAIN and entry.attempt < AGAIN_ATTEMPTS:
            self._position = again
        else:
            assert entry.callback is not None
            action = schedule.decide(word, entry.callback, entry.attempt, self.given_up)
            if action is Action.LOG:
                self.given_up += 1
                self._position = done
            elif action is Action.RETRY:
                self._position = again
            elif action is Action.RECONNECT:
                self._position = again
                if schedule.mode == "lossy":
                    # It may never come again, and then another event is next.
                    self._current = None
                    self.abandoned[_counted_by(entry)] = again
            else:
                self.verdict = word


def _counted_by(entry: Entry) -> Any:
    """Say what the attempts are counted by: the id, where there is one, whatever the content."""
    return entry.identity if entry.id is None else (entry.callback, entry.id)


def check_order(schedule: Schedule, keys: List[Key], acked: List[Key], losses: int) -> None:
    """Check what was acknowledged, in all runs together, against the job's log.

    Args:
        schedule: The schedule.
        keys: What the log holds, in order.
        acked: What was acknowledged, in order.
        losses: How often the server itself lost, changed or moved an event.

    Raises:
        Wrong: An event is missing, came twice or came out of order.
    """
    numbers = [key for key in acked if key != END]
    if END in acked[:-1]:
        raise Wrong(f"acknowledged {acked}")
    if schedule.mode != "lossy":
        if numbers != keys[: len(numbers)]:
            raise Wrong(f"acknowledged {acked}\nthe log holds {keys}")
        return
    repeats = len(numbers) - len(set(numbers))
    descents = sum(after < before for before, after in zip(numbers, numbers[1:]))
    if max(repeats, descents) > losses:
        raise Wrong(f"{repeats} repeated, {descents} out of order, {losses} faults: {acked}")
    if set(numbers) - set(keys):
        raise Wrong(f"acknowledged {acked}\nthe log holds {keys}")


def check_complete(schedule: Schedule, keys: List[Key], acked: List[Key], losses: int) -> None:
    """Check that a run which came to the job's end has missed nothing.

    Raises:
        Wrong: An event is missing.
    """
    missing = [key for key in keys if key not in acked]
    allowed = losses if schedule.mode == "lossy" else 0
    if len(missing) > allowed or acked[-1:] != [END]:
        raise Wrong(f"never acknowledged: {missing}; faults that lose events: {losses}: {acked}")
