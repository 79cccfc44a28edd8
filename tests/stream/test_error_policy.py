"""The error policy: a table of what it answers, and the proof that every repeat ends."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.errors import ArkorUsageError
from arkor_sync.stream.error_policy import (
    Action,
    Decision,
    ErrorPolicy,
    Failure,
    Redeliver,
    Rule,
    Skip,
    StopTraining,
)
from arkor_sync.stream.events import CALLBACK_NAMES, TrainingEvent

LOG, RETRY, RECONNECT, ABORT, CANCEL = Action
EVENT = TrainingEvent("training.log", {"type": "training.log", "step": 1}, "1")


def failure(
    error: Optional[Exception] = None,
    callback: str = "on_log",
    attempt: int = 1,
    given_up: int = 0,
) -> Failure:
    return Failure(error or ValueError("no"), callback, EVENT, attempt, given_up)


def late(failed: Failure) -> bool:
    return failed.attempt > 2


POLICY = (
    ErrorPolicy(budget=10)
    .on(KeyError, do=LOG, callbacks=["on_log", "on_failed"])
    .on(ConnectionError, TimeoutError, do=RETRY, attempts=3, base=1.0, cap=1.5, then=LOG)
    .on(LookupError, do=CANCEL)
    .on(ValueError, do=ABORT, when=late)
    .on(ValueError, do=RECONNECT, attempts=9, base=2.0, cap=100.0, then=CANCEL)
)

TABLE: List[Any] = [
    ("a class and a callback that match", failure(KeyError()), Decision(LOG)),
    ("another of its callbacks", failure(KeyError(), "on_failed"), Decision(LOG)),
    ("a callback that does not: the next rule", failure(KeyError(), "on_started"), CANCEL),
    ("a subclass matches", failure(IndexError()), CANCEL),
    ("a retry, first", failure(TimeoutError()), Decision(RETRY, 1.0)),
    ("a retry, second, capped", failure(ConnectionResetError(), attempt=2), Decision(RETRY, 1.5)),
    ("a retry, exhausted", failure(TimeoutError(), attempt=3), Decision(LOG, exhausted=True)),
    ("a retry, long exhausted", failure(TimeoutError(), attempt=99), Decision(LOG, exhausted=True)),
    ("when says no", failure(attempt=2), Decision(RECONNECT, 4.0)),
    ("when says yes", failure(attempt=3), ABORT),
    ("no rule", failure(RuntimeError()), ABORT),
    ("within the budget", failure(KeyError(), given_up=9), LOG),
    ("the budget is spent", failure(KeyError(), given_up=10), Decision(ABORT, 0, True, 10)),
    (
        "the budget is spent where a repeat would end in LOG",
        failure(TimeoutError(), attempt=3, given_up=10),
        Decision(ABORT, exhausted=True, spent_budget=10),
    ),
    (
        "a spent budget does not touch a repeat",
        failure(TimeoutError(), given_up=10),
        Decision(RETRY, 1.0),
    ),
    ("nor a cancel", failure(IndexError(), given_up=11), CANCEL),
]


@pytest.mark.parametrize(
    ("failed", "answer"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_table(failed: Failure, answer: Any) -> None:
    expected = Decision(answer) if isinstance(answer, Action) else answer
    assert POLICY.decide(failed) == expected
    assert POLICY.decide(failed) == expected  # it keeps no count


@pytest.mark.parametrize("first", list(Action))
@pytest.mark.parametrize("second", list(Action))
def test_the_first_rule_with_an_opinion_wins(first: Action, second: Action) -> None:
    def attempts(action: Action) -> int:
        return 2 if action in (RETRY, RECONNECT) else 1

    policy = (
        ErrorPolicy(otherwise=CANCEL)
        .on(KeyError, do=first, attempts=attempts(first))
        .on(do=second, attempts=attempts(second))
    )
    assert policy.decide(failure(KeyError())).action is first
    assert policy.decide(failure(ValueError())).action is second


def test_on_without_classes_means_every_exception() -> None:
    policy = ErrorPolicy().on(do=LOG)
    assert policy.decide(failure(RuntimeError())).action is LOG
    assert policy.rules[0].errors == (Exception,)


def test_one_callback_may_be_given_as_text() -> None:
    policy = ErrorPolicy().on(do=LOG, callbacks="on_failed")
    assert policy.decide(failure(callback="on_failed")).action is LOG
    assert policy.decide(failure(callback="on_log")).action is ABORT


def test_the_presets() -> None:
    assert ErrorPolicy.abort() == ErrorPolicy()
    assert ErrorPolicy.abort().decide(failure()) == Decision(ABORT)
    assert ErrorPolicy.log().decide(failure(given_up=99)) == Decision(LOG)
    assert ErrorPolicy.log().decide(failure(given_up=100)) == Decision(ABORT, 0, True, 100)
    assert ErrorPolicy.log(budget=None).decide(failure(given_up=10**9)) == Decision(LOG)
    assert ErrorPolicy.log(budget=0).decide(failure()) == Decision(ABORT, 0, True, 0)
    again = ErrorPolicy.reconnect(attempts=3, then=LOG)
    assert again.decide(failure(attempt=2)).action is RECONNECT
    assert again.decide(failure(attempt=3)) == Decision(LOG, exhausted=True)
    assert ErrorPolicy.reconnect().decide(failure(attempt=5)) == Decision(ABORT, exhausted=True)


def test_delays_double_up_to_the_cap_and_never_overflow() -> None:
    policy = ErrorPolicy().on(do=RETRY, attempts=6000)
    delays = [policy.decide(failure(attempt=n)).max_delay for n in (1, 2, 3, 6, 7, 8, 5000)]
    assert delays == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0, 30.0]
    whole = ErrorPolicy().on(do=RETRY, attempts=6000, base=1, cap=10**6)
    assert whole.decide(failure(attempt=5000)).max_delay == 10**6


def test_a_zero_base_or_cap_means_no_delay() -> None:
    for settings in ({"base": 0.0}, {"cap": 0.0}):
        policy = ErrorPolicy().on(do=RECONNECT, attempts=6000, **settings)  # type: ignore[arg-type]
        assert policy.decide(failure(attempt=5000)).max_delay == 0.0


UNBOUNDED: Dict[str, Callable[[], Any]] = {
    "RETRY without attempts": lambda: ErrorPolicy().on(do=RETRY),
    "RECONNECT without attempts": lambda: ErrorPolicy().on(do=RECONNECT),
    "attempts of one": lambda: ErrorPolicy().on(do=RETRY, attempts=1),
    "attempts of none": lambda: ErrorPolicy().on(do=RETRY, attempts=0),
    "fewer than none": lambda: ErrorPolicy().on(do=RETRY, attempts=-1),
    "None for no bound": lambda: ErrorPolicy().on(do=RETRY, attempts=None),  # type: ignore[arg-type]
    "infinity": lambda: ErrorPolicy().on(do=RETRY, attempts=float("inf")),  # type: ignore[arg-type]
    "a repeat after the repeats": lambda: ErrorPolicy().on(do=RETRY, attempts=2, then=RECONNECT),
    "the same repeat again": lambda: ErrorPolicy().on(do=RETRY, attempts=2, then=RETRY),
    "otherwise RETRY": lambda: ErrorPolicy(otherwise=RETRY),
    "otherwise RECONNECT": lambda: ErrorPolicy(otherwise=RECONNECT),
    "replace otherwise": lambda: dataclasses.replace(ErrorPolicy(), otherwise=RETRY),
    "a bare rule": lambda: Rule(RETRY),
    "a preset of one": lambda: ErrorPolicy.reconnect(attempts=1),
    "a preset with a repeat": lambda: ErrorPolicy.reconnect(then=RETRY),
}
WHAT_WOULD_DO = ("give 2 or more", "whole number, 1 or more", "LOG, ABORT or CANCEL", "on(")


@pytest.mark.parametrize("build", UNBOUNDED.values(), ids=UNBOUNDED.keys())
def test_a_repeat_without_a_bound_cannot_be_built(build: Callable[[], Any]) -> None:
    with pytest.raises(ValueError) as caught:
        build()
    assert isinstance(caught.value, ArkorUsageError)
    assert any(hint in str(caught.value) for hint in WHAT_WOULD_DO)


REFUSED: Dict[str, Any] = {
    "an instance": (lambda: ErrorPolicy().on(ValueError(), do=LOG), "exception classes"),  # type: ignore[arg-type]
    "a tuple": (lambda: ErrorPolicy().on((KeyError,), do=LOG), "exception classes"),  # type: ignore[arg-type]
    "an exit": (lambda: ErrorPolicy().on(SystemExit, do=LOG), "exception classes"),  # type: ignore[arg-type]
    "Ctrl-C": (lambda: ErrorPolicy().on(KeyboardInterrupt, do=LOG), "classes"),  # type: ignore[arg-type]
    "a text": (lambda: ErrorPolicy().on(do="log"), "Action.LOG"),  # type: ignore[arg-type]
    "then a text": (lambda: ErrorPolicy().on(do=LOG, then="log"), "then: got str 'log'"),  # type: ignore[arg-type]
    "a callback": (lambda: ErrorPolicy().on(do=LOG, callbacks=["on_logs"]), "'on_log'"),
    "attempts": (lambda: ErrorPolicy().on(do=LOG, attempts=2), "does not repeat"),
    "when": (lambda: ErrorPolicy().on(do=LOG, when=True), "function of a Failure"),  # type: ignore[arg-type]
    "base": (lambda: ErrorPolicy().on(do=RETRY, attempts=2, base=-1), "seconds from 0"),
    "cap": (lambda: ErrorPolicy().on(do=RETRY, attempts=2, cap=float("nan")), "seconds"),
    "rules": (lambda: ErrorPolicy(rules=("LOG",)), "Rule objects"),  # type: ignore[arg-type]
    "otherwise": (lambda: ErrorPolicy(otherwise="log"), "otherwise: got str 'log'"),  # type: ignore[arg-type]
    "budget": (lambda: ErrorPolicy(budget=-1), "0 or more, or None"),
    "budget text": (lambda: ErrorPolicy(budget="1"), "0 or more, or None"),  # type: ignore[arg-type]
    "dead letter": (lambda: ErrorPolicy(dead_letter="file"), "a function"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("build", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_work_is_refused_when_the_policy_is_built(
    build: Callable[[], Any], text: str
) -> None:
    with pytest.raises(ArkorUsageError) as caught:
        build()
    assert text in str(caught.value)


ERRORS = [ValueError, KeyError, LookupError, OSError, ConnectionError, Exception]
PREDICATES: List[Optional[Callable[[Failure], bool]]] = [
    None,
    lambda failed: failed.attempt % 2 == 0,
    lambda failed: failed.attempt % 2 == 1,
    lambda failed: failed.given_up > 3,
    lambda failed: isinstance(failed.error, OSError),
]
rules = st.builds(
    Rule,
    do=st.just(LOG) | st.just(ABORT) | st.just(CANCEL),
    errors=st.lists(st.sampled_from(ERRORS), min_size=1, max_size=2).map(tuple),
    callbacks=st.lists(st.sampled_from(sorted(CALLBACK_NAMES)), max_size=2).map(tuple),
    when=st.sampled_from(PREDICATES),
) | st.builds(
    Rule,
    do=st.just(RETRY) | st.just(RECONNECT),
    errors=st.lists(st.sampled_from(ERRORS), min_size=1, max_size=2).map(tuple),
    callbacks=st.lists(st.sampled_from(sorted(CALLBACK_NAMES)), max_size=2).map(tuple),
    when=st.sampled_from(PREDICATES),
    attempts=st.integers(2, 40),
    base=st.floats(0, 1e6),
    cap=st.floats(0, 1e6),
    then=st.sampled_from([LOG, ABORT, CANCEL]),
)
policies = st.builds(
    ErrorPolicy,
    rules=st.lists(rules, max_size=5).map(tuple),
    otherwise=st.sampled_from([LOG, ABORT, CANCEL]),
    budget=st.none() | st.integers(0, 5),
)


def decisions_for_one_event(
    policy: ErrorPolicy, errors: Iterator[Exception], callback: str, given_up: int
) -> List[Decision]:
    """Be a worker whose callback fails every time: count, ask, and obey."""
    decisions: List[Decision] = []
    attempt = 1
    while True:
        failed = Failure(next(errors), callback, EVENT, attempt, given_up)
        decisions.append(policy.decide(failed))
        if decisions[-1].action not in (RETRY, RECONNECT):
            return decisions
        attempt += 1


@given(policies, st.data())
def test_whatever_fails_every_event_ends_after_a_bounded_number_of_calls(
    policy: ErrorPolicy, data: st.DataObject
) -> None:
    bound = max((rule.attempts for rule in policy.rules), default=1)
    picked = data.draw(st.lists(st.sampled_from(ERRORS), min_size=1, max_size=4))
    endless = (picked[n % len(picked)]("no") for n in range(10**9))
    given_up = 0
    for _ in range(10):
        decisions = decisions_for_one_event(policy, endless, "on_log", given_up)
        assert len(decisions) <= bound
        assert all(0 <= decision.max_delay <= 1e6 for decision in decisions)
        if decisions[-1].action is not LOG:
            return
        given_up += 1
    assert policy.budget is None or given_up <= policy.budget


@given(policies, st.sampled_from(ERRORS), st.integers(1, 6000), st.integers(0, 10))
def test_a_decision_depends_on_nothing_but_the_failure(
    policy: ErrorPolicy, error: Any, attempt: int, given_up: int
) -> None:
    failed = failure(error("no"), attempt=attempt, given_up=given_up)
    equal = ErrorPolicy(policy.rules, policy.otherwise, policy.budget)
    assert policy.decide(failed) == policy.decide(failed) == equal.decide(failed)


def test_a_policy_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        POLICY.budget = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        POLICY.rules[0].do = ABORT  # type: ignore[misc]
    longer = POLICY.on(do=CANCEL)
    assert len(longer.rules) == len(POLICY.rules) + 1
    assert longer != POLICY
    assert len({POLICY, longer, ErrorPolicy(POLICY.rules, budget=10)}) == 2
    again = pickle.loads(pickle.dumps(POLICY))
    assert again == POLICY
    assert hash(again) == hash(POLICY)
    assert again.decide(failure(attempt=3)) == Decision(ABORT)
    assert ErrorPolicy(rules=list(POLICY.rules), budget=10) == POLICY  # type: ignore[arg-type]


def test_on_keeps_what_the_policy_has() -> None:
    letters: List[Failure] = []
    policy = ErrorPolicy(otherwise=LOG, budget=7, dead_letter=letters.append).on(do=ABORT)
    assert (policy.otherwise, policy.budget, policy.dead_letter) == (LOG, 7, letters.append)
    policy.decide(failure())
    assert letters == []  # deciding has no effects


@pytest.mark.parametrize(
    "word", [Skip(), Redeliver(2.5, attempts=4), StopTraining("it diverged"), StopTraining()]
)
def test_the_words_for_callbacks_survive_pickling(word: Exception) -> None:
    again = pickle.loads(pickle.dumps(word))
    assert type(again) is type(word)
    assert again.args == word.args
    assert again.__dict__ == word.__dict__


def test_the_words_hold_what_they_were_given() -> None:
    assert (Redeliver().delay, Redeliver().attempts) == (0.0, 10)
    assert (Redeliver(5).delay, Redeliver(5, 2).attempts) == (5, 2)
    assert StopTraining("it diverged").reason == "it diverged"
    assert str(StopTraining("it diverged")) == "it diverged"
    for word in (Skip, Redeliver, StopTraining):
        assert issubclass(word, Exception)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"delay": -1}, "^delay: got .*; give seconds from 0"),
        ({"delay": float("nan")}, "^delay: got .*; give seconds from 0"),
        ({"attempts": 1}, "^attempts: got .*; give a whole number, 2 or more"),
        ({"attempts": 0}, "^attempts: got .*; give a whole number, 2 or more"),
    ],
)
def test_a_redelivery_that_cannot_work_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(ArkorUsageError, match=text):
        Redeliver(**arguments)


@pytest.mark.parametrize(
    "more", [{"attempts": float("inf")}, {"delay": float("inf")}, {"attempts": float("nan")}]
)
def test_a_redelivery_without_a_bound_is_refused(more: Dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"got float (inf|nan)"):
        Redeliver(**more)


def test_a_delay_that_no_clock_can_wait_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^base: got .*; give seconds from 0"):
        ErrorPolicy().on(do=Action.RETRY, attempts=2, base=float("inf"), cap=float("inf"))
