"""The even shares: pure, and a fleet of processes that decide by them in turns."""

from __future__ import annotations

import random
from typing import Dict, List, Set, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync._follower_shares import plan, shares_of

NAMES = [f"process-{number}" for number in range(6)]
fleets = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)


@given(st.integers(0, 200), fleets, st.integers(1, 300), st.randoms(use_true_random=False))
def test_shares_are_even_and_whole(
    jobs: int, names: List[str], most: int, draw: random.Random
) -> None:
    counts = {name: draw.randrange(100) for name in names}
    shares = shares_of(jobs, counts, most)
    assert set(shares) == set(names)
    assert sum(shares.values()) == min(jobs, most * len(names))
    assert max(shares.values()) - min(shares.values()) <= 1
    # What cannot be divided goes to who has most.
    assert all(shares[a] >= shares[b] or counts[a] <= counts[b] for a in names for b in names)


class Fleet:
    """Processes that follow jobs, and see each other at once."""

    def __init__(self, jobs: int) -> None:
        self.free: Set[str] = {f"job-{number:03}" for number in range(jobs)}
        self.held: Dict[str, List[str]] = {}
        self.moved = 0

    def join(self, name: str) -> None:
        self.held[name] = []

    def die(self, name: str) -> None:
        self.free |= set(self.held.pop(name))

    def turn(self, most: int, left: Set[str]) -> None:
        """Let each process decide once, from what all see now."""
        counts = {name: len(jobs) for name, jobs in self.held.items()}
        plans = {
            name: plan(name, counts, self.free - left, self.free & left, most) for name in self.held
        }
        for name, decided in plans.items():
            assert not (decided.take and decided.give)
            for job in decided.take:
                if job in self.free:  # the lease
                    self.free.remove(job)
                    self.held[name].append(job)
            for _ in range(decided.give):
                self.free.add(self.held[name].pop())
                self.moved += 1

    def settle(self, most: int, left: bool = False) -> None:
        for _ in range(20):
            before = {name: list(jobs) for name, jobs in self.held.items()}
            self.turn(most, set(self.free) if left else set())
            if before == self.held:
                return
        raise AssertionError("the jobs move for ever")

    def counts(self) -> List[int]:
        return sorted(len(jobs) for jobs in self.held.values())


@given(
    st.integers(0, 120),
    st.lists(st.tuples(st.booleans(), st.sampled_from(NAMES)), max_size=12),
    st.integers(1, 150),
)
def test_whoever_joins_and_leaves_the_jobs_are_followed_and_even(
    jobs: int, changes: List[Tuple[bool, str]], most: int
) -> None:
    fleet = Fleet(jobs)
    fleet.join(NAMES[0])
    fleet.settle(most)
    for joins, name in changes:
        if joins and name not in fleet.held:
            fleet.join(name)
        elif not joins and name in fleet.held and len(fleet.held) > 1:
            fleet.die(name)
        fleet.settle(most)
        counts = fleet.counts()
        assert sum(counts) == min(jobs, most * len(counts))
        assert counts[-1] - counts[0] <= 1


@given(st.integers(0, 120), st.integers(1, 5))
def test_only_what_moves_pauses(jobs: int, processes: int) -> None:
    fleet = Fleet(jobs)
    for name in NAMES[:processes]:
        fleet.join(name)
        fleet.settle(jobs + 1)
    before, fleet.moved = dict(fleet.held), 0
    fleet.join("the new one")
    fleet.settle(jobs + 1)
    assert fleet.moved == len(fleet.held["the new one"]) == jobs // (len(before) + 1)
    for name in before:
        assert fleet.held[name] == before[name][: len(fleet.held[name])]  # the newest moved


@given(st.integers(0, 60), st.integers(1, 4))
def test_a_fleet_that_is_even_changes_nothing(jobs: int, processes: int) -> None:
    fleet = Fleet(jobs)
    for name in NAMES[:processes]:
        fleet.join(name)
    fleet.settle(jobs + 1)
    before, fleet.moved = {name: list(held) for name, held in fleet.held.items()}, 0
    fleet.turn(jobs + 1, set())
    assert (fleet.held, fleet.moved) == (before, 0)


def test_two_processes_do_not_try_the_same_free_jobs() -> None:
    free = [f"job-{number}" for number in range(10)]
    counts = {"a": 2, "b": 0, "c": 4}  # 16 jobs: the shares are 5, 5 and 6
    taken = [plan(name, counts, free, [], 100).take for name in counts]
    assert [len(each) for each in taken] == [3, 5, 2]
    assert sorted(job for each in taken for job in each) == sorted(free)


def test_what_was_left_is_for_everyone_with_room() -> None:
    left = [f"job-{number}" for number in range(10)]
    a = plan("a", {"a": 5, "b": 0}, [], left, 100).take
    b = plan("b", {"a": 5, "b": 0}, [], left, 100).take
    assert sorted(a) == sorted(b) == left
    assert a != b
    assert len(plan("a", {"a": 5, "b": 0}, [], left, 7).take) == 2


@pytest.mark.parametrize("free", [0, 3, 5, 9])
def test_nothing_is_given_back_for_which_there_are_free_jobs(free: int) -> None:
    jobs = [f"job-{number}" for number in range(free)]
    given = plan("a", {"a": 10, "b": 0}, jobs, [], 100).give
    assert given == {0: 5, 3: 3, 5: 2, 9: 0}[free]
