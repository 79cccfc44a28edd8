"""What every backend owes a store for several machines: written once, held by each of them."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from arkor_sync import (
    CursorStoreError,
    LeaseHeldError,
    RedisCursorStore,
    SavedCursor,
    SQLCursorStore,
)
from arkor_sync.stores.backend import (
    REFUSED,
    SUBMITTED,
    SUBMITTING,
    UNKNOWN,
    Backend,
    Save,
)
from arkor_sync.stores.base import encode_cursor
from support.extras import need
from support.memory_backend import MemoryBackend
from support.postgres import postgres
from support.waiting import Background, until

JOB = "job-1"
LONG, SHORT = 60.0, 0.05  # seconds; a short lease ends while a test waits for that
MakeBackend = Callable[[], Any]


def memory_backends(_: Any) -> Iterator[MakeBackend]:
    """All are one object: it is the server, too."""
    backend = MemoryBackend()
    yield lambda: backend


def sqlite_backends(fixture: Callable[[str], Any]) -> Iterator[MakeBackend]:
    yield from sql_backends(f"sqlite:///{fixture('tmp_path') / 'store.db'}")


def postgresql_backends(_: Any) -> Iterator[MakeBackend]:
    server = postgres()
    url = server.new_database()
    yield from sql_backends(url)
    server.drop_database(url)


def redis_backends(fixture: Callable[[str], Any]) -> Iterator[MakeBackend]:
    need("redis")
    url = fixture("valkey").url
    stores: List[RedisCursorStore] = []

    def make() -> Any:
        stores.append(RedisCursorStore(url))
        return stores[-1].backend

    yield make
    for store in stores:
        store.close()


def sql_backends(url: str) -> Iterator[MakeBackend]:
    need("sqlalchemy")
    stores: List[SQLCursorStore] = []

    def make() -> Any:
        stores.append(SQLCursorStore(url))
        if len(stores) == 1:
            stores[0].create_tables()
        return stores[-1].backend

    yield make
    for store in stores:
        store.close()


# Each yields a function that makes a backend, as another process would, of one server.
BACKENDS: Dict[str, Callable[[Callable[[str], Any]], Iterator[MakeBackend]]] = {
    "memory": memory_backends,
    "sqlite": sqlite_backends,
    "postgresql": postgresql_backends,
    "redis": redis_backends,
}


@pytest.fixture(params=BACKENDS)
def make_backend(request: pytest.FixtureRequest) -> Iterator[MakeBackend]:
    yield from BACKENDS[request.param](request.getfixturevalue)


@pytest.fixture
def backend(make_backend: MakeBackend) -> Backend:
    made: Backend = make_backend()
    return made


@pytest.fixture
def other(backend: Backend, make_backend: MakeBackend) -> Backend:
    """The backend of another process."""
    made: Backend = make_backend()
    return made


def text(number: int, job_id: str = JOB, **fields: Any) -> str:
    return encode_cursor(job_id, SavedCursor(str(number), number, **fields))


def save(number: int, epoch: int, job_id: str = JOB, owner: str = "one") -> Save:
    return Save(job_id, epoch, text(number, job_id), False, owner)


def take_when_free(backend: Backend, owner: str, job_id: str = JOB, ttl: float = LONG) -> Any:
    """Take a lease as soon as the former one has ended."""

    def take() -> Any:
        try:
            return backend.take(job_id, owner, ttl)
        except LeaseHeldError:
            return None

    return until(take)


# Leases.


def test_one_at_a_time_has_a_lease_and_it_is_told_who_has_it(
    backend: Backend, other: Backend
) -> None:
    assert backend.take(JOB, "process one", LONG) == (1, None)
    for each in (backend, other):
        with pytest.raises(LeaseHeldError, match="process one") as caught:
            each.take(JOB, "process two", LONG)
        assert JOB in str(caught.value)
    assert other.take("job-2", "process two", LONG).epoch == 1


def test_a_lease_that_was_given_back_is_free_at_once_and_has_a_higher_epoch(
    backend: Backend, other: Backend
) -> None:
    backend.take(JOB, "one", LONG)
    backend.release(JOB, "one", 1)
    assert other.take(JOB, "two", LONG).epoch == 2
    backend.release(JOB, "one", 1)  # that of the earlier epoch: it ends nothing
    with pytest.raises(LeaseHeldError):
        backend.take(JOB, "one", LONG)


def test_a_lease_that_is_not_renewed_ends(backend: Backend, other: Backend) -> None:
    backend.take(JOB, "one", SHORT)
    assert take_when_free(other, "two").epoch == 2


def test_a_renewed_lease_does_not_end(backend: Backend, other: Backend) -> None:
    backend.take(JOB, "one", 1.0)
    assert backend.renew([(JOB, 1)], "one", LONG) == {JOB}
    (holder,) = other.holders([JOB])
    assert 1.0 < holder.expires_in <= LONG


def test_of_many_leases_those_are_renewed_that_are_still_held(
    backend: Backend, other: Backend
) -> None:
    jobs = [f"job-{number}" for number in range(5)]
    for job in jobs:
        backend.take(job, "one", LONG)
    backend.release("job-1", "one", 1)  # free
    backend.release("job-2", "one", 1)
    other.take("job-2", "two", LONG)  # another's
    leases = [(job, 1) for job in jobs]
    leases[3] = ("job-3", 7)  # of another epoch
    leases.append(("job-none", 1))
    assert backend.renew(leases, "one", LONG) == {"job-0", "job-4"}
    assert backend.renew(leases, "three", LONG) == set()
    assert backend.renew([], "one", LONG) == set()
    assert backend.take("job-1", "one", LONG).epoch == 2, "it was renewed, and had been given back"


def test_a_lease_that_has_ended_is_not_renewed(backend: Backend) -> None:
    backend.take(JOB, "one", SHORT)
    until(lambda: backend.holders([JOB])[0].expires_in <= 0)
    assert backend.renew([(JOB, 1)], "one", LONG) == set()


def test_of_many_who_take_a_lease_at_a_time_one_gets_it(make_backend: MakeBackend) -> None:
    def take(owner: str) -> Any:
        try:
            return backends[owner].take(JOB, owner, LONG)
        except LeaseHeldError:
            return None

    backends = {f"process {number}": make_backend() for number in range(8)}
    for epoch in range(1, 4):
        threads = {owner: Background(take, owner) for owner in backends}
        got = {owner: each.result() for owner, each in threads.items() if each.result()}
        assert [taken.epoch for taken in got.values()] == [epoch]
        (owner,) = got
        backends[owner].release(JOB, owner, epoch)


# Positions.


def test_what_was_saved_is_there_for_the_next(backend: Backend, other: Backend) -> None:
    assert backend.load(JOB) is None
    backend.take(JOB, "one", LONG)
    assert backend.load(JOB) is None
    assert backend.save([save(1, 1)]) == set()
    assert other.load(JOB) == text(1)
    backend.release(JOB, "one", 1)
    assert other.take(JOB, "two", LONG) == (2, text(1))
    assert other.save([save(2, 2, owner="two")]) == set()
    assert backend.load(JOB) == text(2)


def test_a_holder_that_was_taken_over_is_refused(backend: Backend, other: Backend) -> None:
    backend.take(JOB, "one", SHORT)
    taken = take_when_free(other, "two")
    assert backend.save([save(7, 1)]) == {JOB}
    assert other.load(JOB) is None
    assert other.save([save(8, taken.epoch, owner="two")]) == set()
    assert backend.save([save(9, 1)]) == {JOB}
    assert backend.load(JOB) == text(8)


def test_a_save_of_a_job_that_nobody_has_taken_is_refused(backend: Backend) -> None:
    backend.take(JOB, "one", LONG)
    assert backend.save([save(1, 1), save(1, 2, "job-2")]) == {"job-2"}
    assert backend.load("job-2") is None


def test_a_save_after_the_lease_has_ended_counts_while_nobody_has_taken_it_over(
    backend: Backend,
) -> None:
    backend.take(JOB, "one", SHORT)
    until(lambda: backend.holders([JOB])[0].expires_in <= 0)
    assert backend.save([save(1, 1)]) == set()
    assert take_when_free(backend, "two") == (2, text(1))


def test_in_a_batch_those_are_saved_that_are_not_refused(backend: Backend, other: Backend) -> None:
    jobs = [f"job-{number:03}" for number in range(120)]
    for job in jobs:
        backend.take(job, "one", LONG)
    backend.release("job-077", "one", 1)
    other.take("job-077", "two", LONG)
    assert backend.save([save(5, 1, job) for job in reversed(jobs)]) == {"job-077"}
    for job in jobs:
        assert other.load(job) == (None if job == "job-077" else text(5, job))
    assert backend.save([]) == set()


def test_any_text_that_json_has_is_kept(backend: Backend) -> None:
    state = {"a": "é 中 \U0001f600 \x00 \ud800 ' \" \\ %s :name {x}", "b": "x" * 100_000}
    whole = text(1, state=state)
    backend.take(JOB, "one", LONG)
    assert backend.save([Save(JOB, 1, whole, True, "one")]) == set()
    import json

    kept = backend.load(JOB)
    assert kept is not None
    assert json.loads(kept) == json.loads(whole)


@pytest.mark.parametrize("stored", ['{"version": 99}', "[]", "nothing"])
def test_what_cannot_be_used_is_not_touched(backend: Backend, other: Backend, stored: str) -> None:
    backend.take(JOB, "one", LONG)
    backend.save([Save(JOB, 1, stored, False, "one")])
    backend.release(JOB, "one", 1)
    before = other.holders([JOB])[0]._replace(expires_in=0, saved_ago=0)
    with pytest.raises(CursorStoreError, match="version 99" if "99" in stored else "saved cursor"):
        other.take(JOB, "two", LONG)
    assert other.load(JOB) == stored
    assert other.holders([JOB])[0]._replace(expires_in=0, saved_ago=0) == before
    assert other.holders([JOB])[0].expires_in <= 0


def test_who_follows_what_can_be_looked_up(backend: Backend, other: Backend) -> None:
    backend.take("job-2", "one", LONG)
    backend.take(JOB, "one", LONG)
    backend.save([Save(JOB, 1, text(1), True, "one")])
    found = {each.job_id: each for each in other.holders(None)}
    assert set(found) == {JOB, "job-2"}
    assert {each.job_id for each in other.holders([JOB, "job-2", "none"])} == {JOB, "job-2"}
    assert [each.job_id for each in other.holders([JOB])] == [JOB]
    first, second = found[JOB], found["job-2"]
    assert (first.owner, first.epoch, first.finished) == ("one", 1, True)
    assert first.saved_ago is not None
    assert 0 <= first.saved_ago < LONG
    assert 0 < first.expires_in <= LONG
    assert (second.saved_ago, second.finished) == (None, False)
    assert other.holders([]) == []


# Members.


def test_those_who_follow_know_of_each_other(backend: Backend, other: Backend) -> None:
    assert backend.members() == []
    assert [each.owner for each in backend.join("one", LONG)] == ["one"]
    assert sorted(each.owner for each in other.join("two", LONG)) == ["one", "two"]
    assert all(0 < each.expires_in <= LONG for each in backend.members())
    backend.leave("one")
    backend.leave("one")
    assert [each.owner for each in backend.members()] == ["two"]


def test_who_is_not_heard_of_is_no_longer_counted(backend: Backend, other: Backend) -> None:
    backend.join("one", SHORT)
    other.join("two", LONG)
    until(lambda: [each.owner for each in other.members()] == ["two"])
    assert [each.owner for each in other.join("two", LONG)] == ["two"]
    assert sorted(each.owner for each in backend.join("one", LONG)) == ["one", "two"]


# Submissions.


def test_an_intent_is_written_down_once(backend: Backend, other: Backend) -> None:
    first = backend.open_submission("key", "name", "one", LONG)
    assert first[:6] == ("key", "name", SUBMITTING, None, None, 1)
    assert first.mine
    second = other.open_submission("key", "another name", "two", LONG)
    assert second[:6] == ("key", "name", SUBMITTING, None, None, 1)
    assert not second.mine
    assert 0 < second.expires_in <= LONG
    assert 0 <= second.age < LONG


def test_what_became_of_an_intent_is_kept(backend: Backend, other: Backend) -> None:
    backend.open_submission("key", "name", "one", LONG)
    assert backend.close_submission("key", "one", 1, SUBMITTED, job_id=JOB)
    found = other.open_submission("key", "name", "two", LONG)
    assert (found.status, found.job_id, found.mine, found.epoch) == (SUBMITTED, JOB, False, 1)
    assert found.expires_in <= 0


def test_an_intent_whose_process_has_died_is_taken_over(backend: Backend, other: Backend) -> None:
    backend.open_submission("key", "name", "one", SHORT)
    found = until(lambda: _mine(other.open_submission("key", "name", "two", LONG)))
    assert (found.status, found.epoch) == (SUBMITTING, 2)
    assert not backend.close_submission("key", "one", 1, SUBMITTED, job_id="late")
    assert not backend.close_submission("key", "one", 2, SUBMITTED, job_id="late")
    assert other.close_submission("key", "two", 2, UNKNOWN, detail="the list is cut off \ud800")
    again = backend.open_submission("key", "name", "one", LONG)
    assert (again.status, again.epoch, again.mine) == (UNKNOWN, 3, True)
    assert again.detail is not None
    assert again.detail.startswith("the list is cut off")


def _mine(intent: Any) -> Any:
    return intent if intent.mine else None


def test_of_many_who_submit_with_one_key_one_does(make_backend: MakeBackend) -> None:
    backends: List[Tuple[str, Any]] = [(f"process {number}", make_backend()) for number in range(8)]
    threads = [
        Background(backend.open_submission, "key", "name", owner, LONG)
        for owner, backend in backends
    ]
    assert sum(each.result().mine for each in threads) == 1


def test_intents_are_listed_by_status_the_oldest_first(backend: Backend, other: Backend) -> None:
    for number in range(4):
        backend.open_submission(f"key-{number}", "name", "one", LONG)
    backend.close_submission("key-1", "one", 1, REFUSED, detail="no")
    backend.close_submission("key-3", "one", 1, UNKNOWN)
    found = other.submissions([SUBMITTING, UNKNOWN])
    assert sorted(each.key for each in found) == ["key-0", "key-2", "key-3"]
    ages = [each.age for each in found]
    assert ages == sorted(ages, reverse=True)
    assert not any(each.mine for each in found)
    (refused,) = other.submissions([REFUSED])
    assert (refused.key, refused.detail) == ("key-1", "no")
    assert other.submissions([]) == []


def test_an_intent_is_forgotten_unless_there_is_a_job_or_a_request(
    backend: Backend, other: Backend
) -> None:
    for key in ("open", "submitted", "refused"):
        backend.open_submission(key, "name", "one", LONG)
    backend.close_submission("submitted", "one", 1, SUBMITTED, job_id=JOB)
    backend.close_submission("refused", "one", 1, REFUSED)
    forgotten = {key: other.forget_submission(key) for key in ("open", "submitted", "refused", "?")}
    assert forgotten == {"open": False, "submitted": False, "refused": True, "?": False}
    assert other.open_submission("refused", "name", "two", LONG).mine


# Jobs that are finished.


def submit_and_follow(backend: Backend, job_id: str, finished: bool) -> None:
    backend.open_submission(f"key of {job_id}", "name", "one", LONG)
    backend.close_submission(f"key of {job_id}", "one", 1, SUBMITTED, job_id=job_id)
    epoch = backend.take(job_id, "one", LONG).epoch
    assert backend.save([save(7, epoch, job_id)._replace(finished=finished)]) == set()


def test_of_what_was_submitted_only_the_unfinished_is_read(
    backend: Backend, other: Backend
) -> None:
    for number in range(4):
        submit_and_follow(backend, f"job-{number}", finished=number in (0, 2))
    backend.open_submission("open", "name", "one", LONG)
    backend.open_submission("new", "name", "one", LONG)
    backend.close_submission("new", "one", 1, SUBMITTED, job_id="new")  # nobody has followed it
    for _ in range(2):
        found = [(each.key, each.job_id) for each in other.unfinished_submissions()]
        assert found == [("key of job-1", "job-1"), ("key of job-3", "job-3"), ("new", "new")]
    assert len(other.submissions([SUBMITTED])) == 5
    again = other.open_submission("key of job-0", "name", "two", LONG)
    assert (again.status, again.job_id, again.mine) == (SUBMITTED, "job-0", False)


@pytest.mark.parametrize("listed", [False, True], ids=["", "listed before"])
def test_what_was_finished_long_ago_is_removed_with_its_submission_and_nothing_else(
    backend: Backend, other: Backend, listed: bool
) -> None:
    for job_id in ("old", "held", "unfinished"):
        submit_and_follow(backend, job_id, finished=job_id != "unfinished")
    for job_id in ("old", "unfinished"):
        backend.release(job_id, "one", 1)
    for key, status in (("open", None), ("refused", REFUSED), ("unknown", UNKNOWN)):
        backend.open_submission(key, "name", "one", LONG)
        if status is not None:
            backend.close_submission(key, "one", 1, status)
    if listed:
        assert len(other.unfinished_submissions()) == 1
    assert other.prune(LONG) == 0
    until(lambda: other.prune(0.0) == 1)
    assert other.prune(0.0) == 0
    assert {each.job_id for each in backend.holders(None)} == {"held", "unfinished"}
    assert backend.load("old") is None
    left = backend.submissions([SUBMITTED, SUBMITTING, REFUSED, UNKNOWN])
    kept = {"key of held", "key of unfinished", "open", "refused", "unknown"}
    assert {each.key for each in left} == kept
    assert other.open_submission("key of old", "name", "two", LONG).mine  # it is a new one
    assert backend.take("old", "one", LONG) == (1, None)


# The process.


def test_a_closed_backend_works_again_when_it_is_asked(backend: Backend) -> None:
    backend.take(JOB, "one", LONG)
    backend.close()
    assert backend.save([save(1, 1)]) == set()
    assert not backend.joined
