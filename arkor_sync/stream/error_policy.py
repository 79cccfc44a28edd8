"""What happens when a callback raises. Pure.

The worker thread counts and asks; the policy only answers. That makes a policy a value: frozen,
comparable, safe to share between runs and threads, and testable without a stream.
"""

import dataclasses
import enum
from typing import Callable, FrozenSet, Iterable, NamedTuple, Optional, Tuple, Type, Union

from arkor_sync._common.arguments import MAX_SECONDS, check, is_seconds, refusal
from arkor_sync.stream.events import CALLBACK_NAMES, RunEvent, TrainingEvent, unknown_callback

CURSOR_STORE = "cursor_store"
"""What a policy knows saving a position by, beside the names of the callbacks."""


class Action(enum.Enum):
    """What the worker thread does about one failure of one callback."""

    LOG = "log"
    """Record it, give the event up for this callback, go on."""
    RETRY = "retry"
    """Call again with the event in hand. Later events wait."""
    RECONNECT = "reconnect"
    """Drop what is queued, and ask the cloud again for all after the last acknowledged event."""
    ABORT = "abort"
    """Stop following; `wait()` raises the callback's exception. The cloud's job goes on."""
    CANCEL = "cancel"
    """ABORT, and ask the cloud to stop the job."""


_REPEATS: FrozenSet[Action] = frozenset({Action.RETRY, Action.RECONNECT})


@dataclasses.dataclass(frozen=True)
class Failure:
    """One failed call of one callback: what a policy decides on.

    Attributes:
        error: What the callback, or the future that it returned, raised.
        callback: Its name: `"on_log"` and so on; `"cursor_store"` if the position could not be
            saved after the event's callbacks.
        event: The event that it was called for.
        attempt: How often this callback was called for this event, this call included. It is
            counted by event, so it survives a reconnect.
        given_up: How many failures the run has logged away so far.
    """

    error: Exception
    callback: str
    event: Union[TrainingEvent, RunEvent]
    attempt: int = 1
    given_up: int = 0


class Decision(NamedTuple):
    """A policy's answer.

    Attributes:
        action: What to do.
        max_delay: Seconds. The worker waits a random time between none and this before a repeat.
        exhausted: Whether a rule or the budget wanted otherwise, but had no attempts left.
        spent_budget: The policy's budget, where it is the reason of the answer; else None.
    """

    action: Action
    max_delay: float = 0.0
    exhausted: bool = False
    spent_budget: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a policy. `ErrorPolicy.on` builds it and documents the fields."""

    do: Action
    errors: Tuple[Type[Exception], ...] = (Exception,)
    callbacks: Tuple[str, ...] = ()
    when: Optional[Callable[[Failure], bool]] = None
    attempts: int = 1
    base: float = 0.5
    cap: float = 30.0
    then: Action = Action.ABORT

    def __post_init__(self) -> None:
        object.__setattr__(self, "errors", tuple(self.errors))
        object.__setattr__(self, "callbacks", tuple(self.callbacks))
        for error in self.errors:
            fits = isinstance(error, type) and issubclass(error, Exception)
            check("errors", error, fits, "exception classes")
        for name in self.callbacks:
            if name != CURSOR_STORE and name not in CALLBACK_NAMES:
                raise unknown_callback(name)
        for name, action in (("do", self.do), ("then", self.then)):
            check(name, action, isinstance(action, Action), "an Action such as Action.LOG")
        fits = self.when is None or callable(self.when)
        check("when", self.when, fits, "a function of a Failure, or None")
        fits = isinstance(self.attempts, int) and self.attempts >= 1
        check("attempts", self.attempts, fits, "a whole number, 1 or more")
        if self.do in _REPEATS and self.attempts < 2:
            wanted = (
                f"2 or more for {self.do}, the first call included; a repeat without a bound may "
                "never end"
            )
            raise refusal("attempts", self.attempts, wanted)
        if self.do not in _REPEATS and self.attempts != 1:
            wanted = f"1, or leave it out, for {self.do}: it does not repeat the call"
            raise refusal("attempts", self.attempts, wanted)
        if self.then in _REPEATS:
            wanted = "LOG, ABORT or CANCEL, which end the repeats"
            raise refusal("then", self.then, wanted, got=str(self.then))
        for name, seconds in (("base", self.base), ("cap", self.cap)):
            check_delay(name, seconds)

    def decide(self, failure: Failure) -> Optional[Decision]:
        """Answer, or return None where this rule has no opinion."""
        if not isinstance(failure.error, self.errors):
            return None
        if self.callbacks and failure.callback not in self.callbacks:
            return None
        if self.when is not None and not self.when(failure):
            return None
        if self.do not in _REPEATS:
            return Decision(self.do)
        if failure.attempt >= self.attempts:
            return Decision(self.then, exhausted=True)
        # The exponent is bounded: a float overflows after a thousand doublings.
        return Decision(self.do, min(self.cap, self.base * 2 ** min(failure.attempt - 1, 32)))


@dataclasses.dataclass(frozen=True)
class ErrorPolicy:
    """Decides what a callback's exception does to the run. It is immutable, and may be shared.

    The first rule with an opinion wins; `otherwise` answers for the rest. The worker thread asks
    it, once for each failed call. Only `Exception`s get here: a `SystemExit` or `KeyboardInterrupt`
    in a callback ends the run and surfaces in `wait()`.

    It also decides about a position that the cursor store could not save. LOG goes on, and the next
    event saves it; RETRY and RECONNECT save it again.

    Args:
        rules: In order. `on()` appends one.
        otherwise: The answer where no rule has one.
        budget: How many failures may be logged away in one run before the next one aborts it.
            None for no bound.
        dead_letter: Called with each `Failure` that is logged away, on the worker thread, before
            the event is acknowledged. If it raises, the run is aborted.
    """

    rules: Tuple[Rule, ...] = ()
    otherwise: Action = Action.ABORT
    budget: Optional[int] = 100
    dead_letter: Optional[Callable[[Failure], None]] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        for rule in self.rules:
            check("rules", rule, isinstance(rule, Rule), "Rule objects, as on() makes them")
        is_action = isinstance(self.otherwise, Action)
        check("otherwise", self.otherwise, is_action, "an Action such as Action.LOG")
        if self.otherwise in _REPEATS:
            wanted = (
                "LOG, ABORT or CANCEL; for a repeat use ErrorPolicy.reconnect(), or "
                "on(Exception, do=..., attempts=...)"
            )
            raise refusal("otherwise", self.otherwise, wanted, got=str(self.otherwise))
        fits = self.budget is None or (isinstance(self.budget, int) and self.budget >= 0)
        check("budget", self.budget, fits, "a whole number, 0 or more, or None")
        fits = self.dead_letter is None or callable(self.dead_letter)
        check("dead_letter", self.dead_letter, fits, "a function of a Failure, or None")

    @classmethod
    def abort(cls) -> "ErrorPolicy":
        """Stop following at the first exception; `wait()` raises it. This is the default."""
        return cls()

    @classmethod
    def log(cls, budget: Optional[int] = 100) -> "ErrorPolicy":
        """Log each exception and go on, until `budget` of them were logged."""
        return cls(otherwise=Action.LOG, budget=budget)

    @classmethod
    def reconnect(cls, attempts: int = 5, then: Action = Action.ABORT) -> "ErrorPolicy":
        """Reopen the stream and have the event delivered again, `attempts` deliveries in all."""
        return cls().on(Exception, do=Action.RECONNECT, attempts=attempts, then=then)

    def on(
        self,
        *errors: Type[Exception],
        do: Action,
        callbacks: Iterable[str] = (),
        when: Optional[Callable[[Failure], bool]] = None,
        attempts: int = 1,
        base: float = 0.5,
        cap: float = 30.0,
        then: Action = Action.ABORT,
    ) -> "ErrorPolicy":
        """Return a policy with one more rule, after those it has.

        Args:
            errors: Exception classes; none means `Exception`.
            do: What to do.
            callbacks: Only for these: `"on_log"` and so on; `"cursor_store"` is saving the
                position. Empty means all.
            when: Only where this function of the `Failure` is true.
            attempts: For RETRY and RECONNECT: calls in all, the first included.
            base: Seconds. The longest wait before the second call; it doubles with each.
            cap: Seconds. The longest wait of all.
            then: For RETRY and RECONNECT: what to do when the attempts are used up.

        Raises:
            ArkorUsageError: The rule could repeat for ever, or an argument is not what it should
                be. It is also a `ValueError`.
        """
        names = (callbacks,) if isinstance(callbacks, str) else tuple(callbacks)
        rule = Rule(do, errors or (Exception,), names, when, attempts, base, cap, then)
        return dataclasses.replace(self, rules=(*self.rules, rule))

    def decide(self, failure: Failure) -> Decision:
        """Answer for one failure. The same failure always gets the same answer."""
        answers = (rule.decide(failure) for rule in self.rules)
        decision = next((answer for answer in answers if answer), Decision(self.otherwise))
        spent = self.budget is not None and failure.given_up >= self.budget
        if decision.action is Action.LOG and spent:
            return Decision(Action.ABORT, exhausted=True, spent_budget=self.budget)
        return decision


def check_delay(name: str, seconds: float) -> None:
    """Refuse a delay that no thread can wait for."""
    check(name, seconds, is_seconds(seconds), f"seconds from 0 to {MAX_SECONDS:,}")


class Skip(Exception):
    """Raise it in a callback: done with this event, and nothing is wrong. It is not logged.

    The event's other callbacks are called all the same.
    """


class Redeliver(Exception):
    """Raise it in a callback: call me again with the same event.

    Args:
        delay: Seconds to wait before the next call.
        attempts: Calls in all, the first included. After the last one the exception is an error
            like any other, and the policy decides.

    Raises:
        ArkorUsageError: A value that cannot work. It is also a `ValueError`.
    """

    def __init__(self, delay: float = 0.0, attempts: int = 10) -> None:
        check_delay("delay", delay)
        fits = type(attempts) is int and attempts >= 2
        check("attempts", attempts, fits, "a whole number, 2 or more")
        self.delay = delay
        self.attempts = attempts
        super().__init__(delay, attempts)


class StopTraining(Exception):
    """Raise it in a callback: cancel the cloud's job and end the run, on purpose.

    `wait()` returns a result with status `cancelled` and this reason; nothing is raised. Where the
    job has ended already, or is past cancelling, it is followed to its own end. Where the cloud
    cannot be asked, that error ends the run.

    Args:
        reason: Why, for the result.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)
