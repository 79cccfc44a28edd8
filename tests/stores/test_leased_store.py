"""Leases with a fence, renewed together: what every store for several machines owes its runs."""

from __future__ import annotations

import os
import threading
from typing import Any, Iterator, List

import pytest

from arkor_sync import (
    ArkorUsageError,
    CursorStoreError,
    ErrorPolicy,
    LeaseHeldError,
    LeaseLostError,
    SavedCursor,
    StoreUnavailableError,
)
from arkor_sync.stores.backend import Save
from arkor_sync.stores.base import encode_cursor
from arkor_sync.stores.leased import LeasedStore
from support.fake_cloud import Hold, completed, logs, make_run
from support.forking import fork
from support.memory_backend import MemoryBackend
from support.run_threads import has_ended, named
from support.waiting import PATIENCE, Background, until

JOB = "job-1"
TTL = 1.0


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def stores(backend: MemoryBackend) -> Iterator[Any]:
    """Make stores of one server, as if each were another process."""
    made: List[LeasedStore] = []

    def make(ttl: float = 60.0) -> LeasedStore:
        made.append(LeasedStore(backend, ttl=ttl))
        return made[-1]

    yield make
    for store in made:
        store.close()
    until(lambda: not named("arkor-renew"))


def lost(*_: Any) -> None:
    raise AssertionError("the lease was lost")


def test_the_second_reservation_is_refused_and_names_the_first(stores: Any) -> None:
    one, two = stores(), stores()
    first = one.reserve(JOB, lost)
    assert first.epoch == 1
    for store in (one, two):
        with pytest.raises(LeaseHeldError, match=f"process {os.getpid()}"):
            store.reserve(JOB, lost)
    first.release()
    first.release()
    assert two.reserve(JOB, lost).epoch == 2


def test_a_position_is_kept_and_given_to_the_next(stores: Any) -> None:
    one, two = stores(), stores()
    reservation = one.reserve(JOB, lost)
    reservation.save(SavedCursor("7", 7, state={"mine": 1}))
    reservation.release()
    saved = two.reserve(JOB, lost).saved
    assert (saved.acknowledged_id, saved.delivered, saved.state) == ("7", 7, {"mine": 1})
    assert two.load(JOB).acknowledged_id == "7"


def test_a_holder_that_was_taken_over_is_refused_and_told_once(
    backend: MemoryBackend, stores: Any
) -> None:
    told: List[LeaseLostError] = []
    old = stores().reserve(JOB, told.append)
    backend.ahead = 61.0  # the old one was frozen meanwhile
    new = stores().reserve(JOB, lost)
    new.save(SavedCursor("8", 8))
    for _ in range(2):
        with pytest.raises(LeaseLostError, match="another process has taken it over"):
            old.save(SavedCursor("7", 7))
    assert len(told) == 1
    old.release()
    assert stores().load(JOB).acknowledged_id == "8"
    assert backend.leases[JOB][1] == 2, "giving the old lease back ends no newer one"
    new.save(SavedCursor("9", 9))


def test_all_leases_are_renewed_in_one_call_by_one_thread(
    backend: MemoryBackend, stores: Any
) -> None:
    store = stores(TTL)
    reservations = [store.reserve(f"job-{number}", lost) for number in range(50)]
    until(lambda: backend.calls.count("renew") >= 3)
    assert len(named("arkor-renew")) == 1
    assert all(expires > backend.now() for _, _, expires in backend.leases.values())
    for each in reservations:
        each.save(SavedCursor("1", 1))
        each.release()
    until(lambda: not named("arkor-renew"))


def test_a_lease_that_cannot_be_renewed_is_given_up_before_it_ends(
    backend: MemoryBackend, stores: Any, caplog: pytest.LogCaptureFixture
) -> None:
    is_lost = threading.Event()
    ended: List[float] = []

    def on_lost(error: LeaseLostError) -> None:
        ended.append(backend.leases[JOB][2] - backend.now())
        is_lost.set()

    reservation = stores(TTL).reserve(JOB, on_lost)
    backend.down = True
    assert is_lost.wait(PATIENCE)
    assert ended[0] > 0, "the server still has the lease"
    assert caplog.text.count("leases could not be renewed: the memory is down") == 1
    backend.down = False
    with pytest.raises(LeaseLostError, match="could not be renewed in time"):
        reservation.save(SavedCursor("1", 1))


def test_a_server_that_comes_back_in_time_loses_nothing(
    backend: MemoryBackend, stores: Any, caplog: pytest.LogCaptureFixture
) -> None:
    reservation = stores(30.0).reserve(JOB, lost)
    backend.down = True
    saving = threading.Thread(target=reservation.save, args=(SavedCursor("1", 1),))
    saving.start()
    until(lambda: backend.calls.count("save") >= 3)
    backend.down = False
    saving.join(PATIENCE)
    assert not saving.is_alive()
    assert caplog.text.count("does not answer yet") == 1
    assert stores().load(JOB).acknowledged_id == "1"


def test_saves_of_many_threads_go_into_few_transactions(
    backend: MemoryBackend, stores: Any
) -> None:
    store = stores()
    reservations = [store.reserve(f"job-{number}", lost) for number in range(8)]
    begin, entered, go_on = threading.Barrier(8), threading.Event(), threading.Event()
    commit = backend.save

    def slow(saves: Any) -> Any:
        entered.set()
        assert go_on.wait(PATIENCE)
        return commit(saves)

    store.batching._commit = slow

    def work(reservation: Any) -> None:
        begin.wait(PATIENCE)
        reservation.save(SavedCursor("1", 1))

    threads = [threading.Thread(target=work, args=(each,)) for each in reservations]
    for thread in threads:
        thread.start()
    assert entered.wait(PATIENCE)
    until(lambda: len(store.batching._waiting) == 7)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert [len(batch) for batch in backend.batches] == [1, 7]


def test_an_exception_of_the_programs_logging_does_not_end_the_renewing(
    backend: MemoryBackend, stores: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores(TTL)

    def broken(_: Any) -> None:  # what ends a run writes to the log
        raise OSError("no space left for the log")

    store.reserve("job-1", broken)
    store.reserve("job-2", lost)
    _, epoch, expires = backend.leases["job-1"]
    backend.leases["job-1"] = ("another process", epoch + 1, expires)
    until(lambda: "renewing leases failed, and goes on" in caplog.text)
    backend.calls.clear()
    until(lambda: backend.calls.count("renew") >= 4)
    assert backend.leases["job-2"][2] > backend.now()
    assert store.reserve("job-3", lost).epoch == 1


def test_an_interrupted_commit_ends_no_other_run(backend: MemoryBackend, stores: Any) -> None:
    store = stores()
    entered, go_on = threading.Event(), threading.Event()
    batches: List[int] = []

    def commit(saves: Any) -> Any:
        batches.append(len(saves))
        if len(batches) == 1:
            entered.set()
            assert go_on.wait(PATIENCE)
        if len(batches) == 2:
            raise SystemExit  # such as one that is set for the thread from outside
        return backend.save(saves)

    store.batching._commit = commit
    ended: List[str] = []

    def save(job_id: str) -> None:
        try:
            store.reserve(job_id, lost).save(SavedCursor("1", 1))
            ended.append("saved")
        except BaseException as error:
            ended.append(type(error).__name__)

    threads = [Background(save, "job-1")]
    assert entered.wait(PATIENCE)
    threads += [Background(save, job_id) for job_id in ("job-2", "job-3")]
    until(lambda: len(store.batching._waiting) == 2)
    go_on.set()
    for each in threads:
        each.result()
    assert sorted(ended) == ["SystemExit", "saved", "saved"]
    assert batches == [1, 2, 1]


def test_a_refused_save_in_a_batch_refuses_no_other(backend: MemoryBackend, stores: Any) -> None:
    store = stores()
    store.reserve("a", lost), store.reserve("b", lost)
    text = encode_cursor("a", SavedCursor("1", 1))
    assert backend.save([Save("a", 9, text, False), Save("b", 1, text, False)]) == {"a"}
    assert store.load("a") == SavedCursor()


def test_a_save_in_the_programs_transaction_belongs_to_it(
    backend: MemoryBackend, stores: Any
) -> None:
    store = stores()
    reservation = store.reserve(JOB, lost)

    def undone() -> None:
        with backend.transaction():
            reservation.save(SavedCursor("1", 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    assert store.load(JOB) == SavedCursor()
    backend.down = True
    with pytest.raises(StoreUnavailableError), backend.transaction():
        reservation.save(SavedCursor("1", 1))  # at once: its transaction is broken


def test_what_another_version_stored_is_refused_and_left_untouched(
    backend: MemoryBackend, stores: Any
) -> None:
    for text, why in (('{"version": 99}', "upgrade arkor_sync"), ("[]", "not a saved cursor")):
        backend.positions[JOB] = (0, text, False, None)
        backend.leases.clear()
        with pytest.raises(CursorStoreError, match=why):
            stores().reserve(JOB, lost)
        assert backend.positions[JOB][1] == text
        assert backend.leases == {}


@pytest.mark.parametrize("ttl", [0, 0.5, 4000, "15", True, None, float("nan")])
def test_a_time_to_live_that_cannot_work_is_refused(backend: MemoryBackend, ttl: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"ttl: got .*; give seconds from 1 to 3600"):
        LeasedStore(backend, ttl=ttl)


def test_a_fork_frees_nothing_and_renews_nothing(backend: MemoryBackend, stores: Any) -> None:
    store = stores()
    reservation = store.reserve(JOB, lost)
    owner = store.owner

    def child() -> None:
        assert store.owner != owner
        assert store._reservations == {}
        before = list(backend.calls)
        reservation.release()
        assert backend.calls == before

    assert fork(child)() == 0
    reservation.save(SavedCursor("1", 1))
    assert store.owner == owner


# With a run


def test_a_run_whose_lease_is_lost_ends_with_that(backend: MemoryBackend, stores: Any) -> None:
    run, _ = make_run(
        [logs(1, 2), Hold()],
        callbacks={"on_log": lambda ctx: None},
        cursor_store=stores(TTL),
        error_policy=ErrorPolicy.log(),
    )
    run.start()
    until(lambda: run.health().delivered == 2)
    backend.leases[JOB] = ("another", 2, backend.now() + 60)
    backend.positions[JOB] = (2, *backend.positions[JOB][1:])
    with pytest.raises(LeaseLostError, match="epoch 1"):
        run.wait(PATIENCE)
    assert has_ended(run)
    assert backend.leases[JOB][0] == "another"


def test_a_lease_may_be_lost_before_the_run_is_made(backend: MemoryBackend) -> None:
    class Late(LeasedStore):
        """The server's answer came when the lease had nearly ended."""

        def reserve(self, job_id: str, on_lost: Any) -> Any:
            reservation = super().reserve(job_id, on_lost)
            reservation.lose("the lease could not be renewed in time")
            return reservation

    seen: List[int] = []
    store = Late(backend)
    run, _ = make_run(
        [logs(1, 2), Hold()],
        callbacks={"on_log": lambda ctx: seen.append(ctx.step)},
        cursor_store=store,
        error_policy=ErrorPolicy.log(),
    )
    with pytest.raises(LeaseLostError, match="could not be renewed in time"):
        run.start().wait(PATIENCE)
    assert has_ended(run)
    assert seen == []
    store.close()


def test_no_policy_hides_a_lost_lease(backend: MemoryBackend, stores: Any) -> None:
    seen: List[int] = []

    def on_log(ctx: Any) -> None:
        seen.append(ctx.step)
        if ctx.step == 2:
            backend.positions[JOB] = (2, *backend.positions[JOB][1:])

    run, _ = make_run(
        [logs(1, 3) + completed()],
        callbacks={"on_log": on_log},
        cursor_store=stores(),
        error_policy=ErrorPolicy.log(),
    )
    with pytest.raises(LeaseLostError):
        run.start().wait(PATIENCE)
    assert seen == [1, 2]


def test_the_next_run_goes_on_where_the_position_is(backend: MemoryBackend, stores: Any) -> None:
    run, _ = make_run([logs(1, 2), Hold()], cursor_store=stores(), callbacks={})
    run.start()
    until(lambda: run.health().delivered == 2)
    with pytest.raises(LeaseHeldError):
        make_run([], cursor_store=stores())
    run.close()
    again, jobs = make_run([logs(3, 4) + completed()], cursor_store=stores(), callbacks={})
    assert again.start().wait(PATIENCE).status == "completed"
    assert jobs.resumed == ["2"]
    assert backend.positions[JOB][2] is True
    assert [epoch for _, epoch, _ in backend.leases.values()] == [2]


def test_a_lease_is_waited_for(backend: MemoryBackend, stores: Any) -> None:
    first = stores().reserve(JOB, lost)
    releasing = threading.Timer(0.05, first.release)
    releasing.start()
    run, _ = make_run([completed()], cursor_store=stores(), lease_wait=PATIENCE)
    assert run.start().wait(PATIENCE).status == "completed"
    releasing.join()


def test_only_so_long(stores: Any) -> None:
    stores().reserve(JOB, lost)
    with pytest.raises(LeaseHeldError):
        make_run([completed()], cursor_store=stores(), lease_wait=0.01)
