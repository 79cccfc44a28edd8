"""The delays between connections: how they grow, how they vary, where they end."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from typing import Any, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync.errors import ArkorUsageError
from arkor_sync.stream.reconnect import ReconnectPolicy


def first(policy: ReconnectPolicy, count: int, base: Optional[float] = None) -> List[float]:
    return list(itertools.islice(policy.delays(base), count))


def test_delays_double_from_the_base_to_the_cap() -> None:
    assert first(ReconnectPolicy(), 8) == [1, 2, 4, 8, 16, 32, 60, 60]
    assert first(ReconnectPolicy(base=0.5, cap=3), 5) == [0.5, 1, 2, 3, 3]


def test_a_base_beyond_the_cap_is_cut() -> None:
    assert first(ReconnectPolicy(base=5, cap=2), 3) == [2, 2, 2]
    assert first(ReconnectPolicy(), 3, base=1000) == [60, 60, 60]


def test_the_streams_retry_takes_the_place_of_the_base() -> None:
    policy = ReconnectPolicy()
    assert first(policy, 5, base=3.0) == [3, 6, 12, 24, 48]
    assert first(policy, 3, base=0.25) == [0.25, 0.5, 1]


def test_no_base_means_no_delay() -> None:
    assert first(ReconnectPolicy(base=0), 5) == [0] * 5
    assert first(ReconnectPolicy(), 5, base=0) == [0] * 5
    assert first(ReconnectPolicy(base=0), 3, base=2) == [2, 4, 8]


def test_no_cap_to_speak_of_means_no_delay() -> None:
    assert first(ReconnectPolicy(cap=0), 3) == [0, 0, 0]


def test_each_outage_begins_anew() -> None:
    policy = ReconnectPolicy()
    assert first(policy, 4) == first(policy, 4)


@pytest.mark.parametrize("cap", [60.0, 60, 1e9, 10**9])
@pytest.mark.parametrize("base", [1, 0.001, 1e-9])
def test_an_outage_of_thousands_of_failures_does_not_overflow(base: float, cap: float) -> None:
    delays = first(ReconnectPolicy(base=base, cap=cap), 5000)
    assert delays[-1] == cap
    assert delays == sorted(delays)


DELAYS = st.floats(0, 1e6)
DRAWS = st.floats(0, 1)


@given(DELAYS, DRAWS, DELAYS, DRAWS)
def test_jitter_stays_within_its_share_and_the_cap(
    delay: float, draw: float, cap: float, jitter: float
) -> None:
    policy = ReconnectPolicy(cap=cap, jitter=jitter)
    varied = policy.jittered(delay, draw)
    assert 0 <= varied <= cap
    slack = 1e-9 * (1 + delay)
    assert varied <= delay * (1 + jitter) + slack
    assert varied >= min(cap, delay * (1 - jitter)) - slack


@given(DELAYS, DRAWS)
def test_without_jitter_the_delay_is_kept(delay: float, draw: float) -> None:
    assert ReconnectPolicy(jitter=0, cap=1e6).jittered(delay, draw) == delay


def test_the_default_jitter_is_a_quarter_in_both_directions() -> None:
    policy = ReconnectPolicy()
    assert [policy.jittered(4.0, draw) for draw in (0.0, 0.5, 1.0)] == [3.0, 4.0, 5.0]
    assert [policy.jittered(60.0, draw) for draw in (0.0, 0.5, 1.0)] == [45.0, 60.0, 60.0]


@pytest.mark.parametrize("name", ["base", "cap", "idle_timeout", "connect_timeout", "jitter"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), None, "1", True, [1]], ids=repr)
def test_a_value_that_cannot_work_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got .*; give ") as caught:
        ReconnectPolicy(**{name: value})
    assert isinstance(caught.value, ArkorUsageError)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["idle_timeout", "connect_timeout"])
def test_a_timeout_of_none_at_all_is_refused(name: str) -> None:
    with pytest.raises(ArkorUsageError, match="above 0"):
        ReconnectPolicy(**{name: 0})  # type: ignore[arg-type]


def test_the_jitter_is_a_share() -> None:
    with pytest.raises(ArkorUsageError, match="got int 25; give a number from 0 to 1"):
        ReconnectPolicy(jitter=25)
    assert ReconnectPolicy(jitter=1).jittered(2, 0.0) == 0


@pytest.mark.parametrize("value", [-1, 1.5, "3", float("inf")], ids=repr)
def test_max_attempts_is_a_whole_number_or_none(value: Any) -> None:
    with pytest.raises(ArkorUsageError, match="whole number, 0 or more, or None"):
        ReconnectPolicy(max_attempts=value)
    assert ReconnectPolicy(max_attempts=0).max_attempts == 0
    assert ReconnectPolicy(max_attempts=None).max_attempts is None


def test_a_policy_is_a_value() -> None:
    policy = ReconnectPolicy(base=2, permanent=[404, 410, 404])  # type: ignore[arg-type]
    assert policy.permanent == {404, 410}
    assert policy == ReconnectPolicy(base=2, permanent=frozenset({410, 404}))
    assert hash(policy) == hash(dataclasses.replace(policy))
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.base = 3  # type: ignore[misc]


def test_the_defaults_are_those_that_the_documentation_names() -> None:
    policy = ReconnectPolicy()
    assert policy.permanent == {401, 403, 410, 426}
    assert 404 not in policy.permanent
    assert (policy.idle_timeout, policy.connect_timeout, policy.max_attempts) == (45, 10, None)


def test_a_base_too_small_to_double_does_not_overflow() -> None:
    delays = ReconnectPolicy(base=5e-324, jitter=0).delays()
    assert {next(delays) for _ in range(5000)} == {0.0}
