"""Ending a program at a signal as Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import signal
from typing import Any, List

import pytest

from arkor_sync import ArkorUsageError, exit_on
from support.waiting import Background

ONE, TWO = signal.SIGUSR1, signal.SIGUSR2


def handlers() -> List[Any]:
    return [signal.getsignal(number) for number in (ONE, TWO, signal.SIGTERM)]


@pytest.mark.parametrize("number", [ONE, TWO, int(TWO)])
def test_each_signal_ends_the_program_with_its_own_code(number: int) -> None:
    before = handlers()
    with pytest.raises(SystemExit) as caught, exit_on(ONE, TWO):
        signal.raise_signal(number)
    assert caught.value.code == 128 + number
    assert handlers() == before


def test_sigterm_is_the_default() -> None:
    before = handlers()
    with pytest.raises(SystemExit) as caught, exit_on():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 143
    assert handlers() == before


def test_the_former_handlers_are_back_afterwards_also_of_one_inside_another() -> None:
    seen: List[int] = []
    before = signal.signal(ONE, lambda number, _: seen.append(number))
    try:
        with exit_on(ONE, ONE):
            outer = signal.getsignal(ONE)
            with exit_on(ONE):
                assert signal.getsignal(ONE) is not outer
            assert signal.getsignal(ONE) is outer
        signal.raise_signal(ONE)
        assert seen == [ONE]
    finally:
        signal.signal(ONE, before)


def test_a_second_signal_does_not_disturb_the_end_that_the_first_has_begun() -> None:
    done: List[str] = []

    class Inner:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            signal.raise_signal(TWO)
            done.append("exit")

    def work() -> None:
        try:
            signal.raise_signal(ONE)
        except SystemExit:
            signal.raise_signal(ONE)
            try:
                raise ValueError("while it ends")
            except ValueError:
                signal.raise_signal(ONE)
            done.append("except")
            raise
        finally:
            signal.raise_signal(TWO)
            done.append("finally")

    with pytest.raises(SystemExit) as caught, exit_on(ONE, TWO), Inner():
        work()
    assert caught.value.code == 128 + ONE
    assert done == ["except", "finally", "exit"]


def test_a_program_that_swallows_the_first_is_ended_by_the_next() -> None:
    def work() -> None:
        with contextlib.suppress(SystemExit):
            signal.raise_signal(ONE)
        signal.raise_signal(TWO)

    with pytest.raises(SystemExit) as caught, exit_on(ONE, TWO):
        work()
    assert caught.value.code == 128 + TWO


@pytest.mark.parametrize(
    "given",
    [0, -1, 4711, True, "SIGTERM", None, 15.0, signal.SIGKILL, signal.SIGSTOP],
    ids=str,
)
def test_what_is_no_signal_or_cannot_be_handled_is_refused(given: Any) -> None:
    before = handlers()
    with pytest.raises(ArkorUsageError, match=r"^signals: got .*; give signals such as signal\."):
        exit_on(signal.SIGTERM, given)
    assert handlers() == before


def test_outside_of_the_main_thread_it_is_refused() -> None:
    def enter() -> None:
        with exit_on():
            raise AssertionError("it was entered")

    before = handlers()
    with pytest.raises(ArkorUsageError, match="main thread"):
        Background(enter).result()
    assert handlers() == before
