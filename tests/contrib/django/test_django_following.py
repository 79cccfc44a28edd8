"""Following the runs of a site: each effect once, few connections, whatever the database does."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List

import pytest
from django.contrib.auth.models import Group
from django.db import connections, transaction
from django_site import BOTH, DEFAULT, POSTGRES, TRAINING, arkor_with, on_event

from arkor_sync.contrib.django import signals, submit
from arkor_sync.contrib.django.conf import arkor_settings
from arkor_sync.contrib.django.following import SiteFollower
from arkor_sync.contrib.django.models import Lease, Metric, Position, Run
from arkor_sync.contrib.django.store import shared_store
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.postgres import postgres
from support.waiting import PATIENCE, Background, until

on_both = pytest.mark.parametrize("site", BOTH, indirect=True)
on_postgres = pytest.mark.parametrize("site", [POSTGRES], indirect=True)


@contextmanager
def followed(until_done: bool = True, **changed: Any) -> Iterator[SiteFollower]:
    """Follow the runs of the site as `arkor_follow` does, and to their ends."""
    following = SiteFollower(arkor_with(**changed), until_done=until_done)
    running = Background(following.run, lambda line: None)
    try:
        yield following
        if until_done:
            running.result()
    finally:
        following.follower.stop()
        running.result()


def run_all(**changed: Any) -> None:
    with followed(**changed):
        pass


def effects(site: str) -> List[str]:
    """Return what the callbacks have written; the database refuses to have one of them twice."""
    return sorted(Group.objects.using(site).values_list("name", flat=True))


@pytest.fixture(autouse=True)
def _no_effects(site: str) -> Iterator[None]:
    yield
    Group.objects.using(site).all().delete()
    connections.close_all()


def write_effect(site: str) -> Any:
    def write(name: str, ctx: Any) -> None:
        step = getattr(ctx, "step", "")
        Group.objects.using(site).create(name=f"{ctx.job.id} {name} {step}")

    return write


def expected(jobs: List[str], steps: int) -> List[str]:
    names = ["on_started ", "on_completed ", *(f"on_log {n}" for n in range(1, steps + 1))]
    return sorted(f"{job} {name}" for job in jobs for name in names)


@on_both
def test_the_row_the_metrics_and_the_position_tell_the_run(site: str, arkor: Emulator) -> None:
    run = submit(**TRAINING)
    run_all()
    run.refresh_from_db()
    assert (run.status, run.step, run.loss, run.error) == ("completed", 10, 2.016327, "")
    assert run.started_at <= run.ended_at
    metrics = Metric.objects.using(site).filter(run=run).order_by("step")
    assert [each.step for each in metrics] == list(range(1, 11))
    assert Position.objects.using(site).get().finished
    assert Lease.objects.using(site).get().epoch == 1


@on_both
def test_a_callback_that_fails_has_no_effect_until_it_succeeds(site: str, arkor: Emulator) -> None:
    failed: List[int] = []

    def fail_after_writing(name: str, ctx: Any) -> None:
        if name == "on_log" and ctx.step in (3, 7) and failed.count(ctx.step) < 2:
            failed.append(Run.objects.using(site).get().step)
            raise ConnectionError("the mail server is away")

    on_event[:] = [write_effect(site), fail_after_writing]
    run = submit(**TRAINING)
    with followed(ERROR_POLICY="django_site.retrying"):
        pass
    assert failed == [3, 3, 7, 7]  # the row was ahead inside, and was taken back
    assert effects(site) == expected([run.job_id], 10)
    assert Metric.objects.using(site).count() == 10


@on_both
def test_an_error_ends_the_run_and_stands_in_its_row(site: str, arkor: Emulator) -> None:
    def fail(name: str, ctx: Any) -> None:
        if name == "on_log" and ctx.step == 3 and not over.is_set():
            raise ConnectionError("token=verysecret")

    over = threading.Event()
    on_event[:] = [write_effect(site), fail]
    run = submit(**TRAINING)
    with followed():
        until(lambda: Run.objects.using(site).get().error)
        run.refresh_from_db()
        assert (run.status, run.step) == ("running", 2)
        assert run.error.startswith("ConnectionError: token=")
        assert "verysecret" not in run.error
        over.set()  # it is tried again after a moment
    assert effects(site) == expected([run.job_id], 10)


@on_both
def test_signals_are_sent_in_the_transaction_and_an_error_of_a_receiver_undoes_it(
    site: str, arkor: Emulator
) -> None:
    told: List[Any] = []

    def on_log(sender: Any, run: Run, ctx: Any, **_: Any) -> None:
        assert connections[site].in_atomic_block
        told.append((sender, run.step, ctx.step))
        if told.count((Run, 4, 4)) == 1 and ctx.step == 4:
            raise ConnectionError

    def on_completed(sender: Any, run: Run, **_: Any) -> None:
        told.append(run.status)

    signals.run_log.connect(on_log)
    signals.run_completed.connect(on_completed)
    try:
        submit(**TRAINING)
        run_all(ERROR_POLICY="django_site.retrying")
    finally:
        signals.run_log.disconnect(on_log)
        signals.run_completed.disconnect(on_completed)
    steps = [1, 2, 3, 4, *range(4, 11)]
    assert told == [*((Run, step, step) for step in steps), "completed"]
    assert Metric.objects.using(site).count() == 10


@on_both
@pytest.mark.parametrize("arkor", [ScriptedEngine(fails_at=4)], indirect=True)
def test_a_failed_job_says_why(site: str, arkor: Emulator) -> None:
    run = submit(**TRAINING)
    run_all()
    run.refresh_from_db()
    assert (run.status, run.step, run.error) == ("failed", 3, "CUDA out of memory")


@on_both
def test_a_job_that_the_cloud_does_not_have_says_so_in_its_row(site: str, arkor: Emulator) -> None:
    run = submit(**TRAINING)
    rows = Run.objects.using(site).filter(pk=run.pk)
    rows.update(job_id="00000000-0000-4000-8000-000000000001")
    with followed(until_done=False):
        until(lambda: "has no such job" in rows.get().error)
        assert rows.get().status == "submitted"
        assert "another project" not in rows.get().error
    rows.update(intent=rows.get().intent.rpartition("-")[0] + "-ffffff", error="")
    with followed(until_done=False):
        until(lambda: "submitted to another project or cloud than ARKOR names" in rows.get().error)
    rows.update(job_id=run.job_id)
    run_all()
    assert (rows.get().status, rows.get().error) == ("completed", "")


@on_both
def test_a_callback_stops_the_job(site: str, arkor: Emulator) -> None:
    from arkor_sync import StopTraining

    def stop(name: str, ctx: Any) -> None:
        if name == "on_log" and ctx.step == 5:
            raise StopTraining("good enough")

    on_event[:] = [stop]
    with Emulator(engine=ScriptedEngine(silent_at=5)) as silent:
        changed = {"BASE_URL": silent.url, "TOKEN": silent.token}
        with arkor_with.used(**changed):
            run = submit(**TRAINING)
            run_all(**changed)
    run.refresh_from_db()
    assert (run.status, run.error, run.step) == ("cancelled", "good enough", 5)


@on_both
@pytest.mark.parametrize(
    "arkor",
    [
        ScriptedEngine(
            events=[
                {"type": "training.started"},
                {"type": "training.log", "step": 10**30, "loss": 1.0},
                {"type": "training.log", "step": 1, "loss": None},
                {"type": "training.log", "step": 2, "loss": 10**400},
                ({"type": "training.log", "step": 3, "loss": 0.5, "evalLoss": 1e300}, None),
                ({"type": "training.log", "step": 3, "loss": 0.5, "evalLoss": 1e300}, None),
                {"type": "training.failed", "error": "\0 \ud800 \u202e token=abcdef123456"},
            ]
        )
    ],
    indirect=True,
)
def test_what_no_column_can_hold_does_not_end_the_run(site: str, arkor: Emulator) -> None:
    run = submit(**TRAINING)
    run_all()
    run.refresh_from_db()
    assert run.status == "failed"
    assert "abcdef" not in run.error
    metrics = list(Metric.objects.using(site).order_by("id").values_list("step", "loss"))
    assert metrics[:2] == [(1, None), (2, None)]
    assert {step for step, _ in metrics[2:]} == {3}


@on_postgres
@pytest.mark.slow
def test_seventy_runs_have_six_connections(site: str, arkor: Emulator) -> None:
    seen: List[int] = []

    def count(name: str, ctx: Any) -> None:
        with connections[site].cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            )
            seen.append(cursor.fetchone()[0])

    on_event[:] = [write_effect(site), count]
    runs = [submit(**TRAINING) for _ in range(70)]
    connections.close_all()
    shared_store(arkor_settings()).close()  # the web's, which has its own process elsewhere
    run_all()
    # The server still counts a connection for a moment after it was closed.
    at_most = sorted(seen)[len(seen) * 9 // 10]
    assert at_most <= arkor_settings().slots + 2
    assert max(seen) <= 2 * arkor_settings().slots
    assert effects(site) == expected([run.job_id for run in runs], 10)
    assert set(Run.objects.using(site).values_list("status", flat=True)) == {"completed"}


@on_postgres
def test_a_pool_of_four_that_the_site_uses_up_stops_no_run(site: str, arkor: Emulator) -> None:
    if not hasattr(connections[site], "close_pool"):
        pytest.skip("this Django has no pools")
    runs = [submit(**TRAINING) for _ in range(4)]
    connections.close_all()
    options: Dict[str, Any] = connections.settings[site]["OPTIONS"]
    options["pool"] = {"min_size": 1, "max_size": 4, "timeout": 2}
    in_use, over = threading.Barrier(5), threading.Event()

    def use_one() -> None:
        with transaction.atomic(using=site):
            Run.objects.using(site).count()
            in_use.wait(PATIENCE)
            over.wait(PATIENCE)
        connections.close_all()

    requests = [Background(use_one) for _ in range(4)]
    try:
        in_use.wait(PATIENCE)
        run_all()
        over.set()
        for each in requests:
            each.result()
    finally:
        over.set()
        connections[site].close_pool()
        del options["pool"]
        connections.close_all()
    for run in runs:
        run.refresh_from_db()
        assert (run.status, run.error) == ("completed", "")


@on_postgres
@pytest.mark.slow
@pytest.mark.parametrize("arkor", [ScriptedEngine(manual=True)], indirect=True)
def test_a_database_that_is_restarted_stops_no_run(site: str, arkor: Emulator) -> None:
    on_event[:] = [write_effect(site)]
    runs = [submit(**TRAINING) for _ in range(8)]
    connections.close_all()
    jobs = [run.job_id for run in runs]
    with followed():
        for job in jobs:
            arkor.step(job, 4)
        until(lambda: Metric.objects.using(site).count() == 3 * len(jobs))
        connections.close_all()
        server = postgres()
        server.stop(signal.SIGINT)  # in order: SIGQUIT loses commits of a server without fsync
        for job in jobs:
            arkor.step(job, 4)  # they are delivered while there is no database
        server.start()
        for job in jobs:
            arkor.step(job, 100)
    assert effects(site) == expected(jobs, 10)
    assert Metric.objects.using(site).count() == 10 * len(jobs)
    assert set(Run.objects.using(site).values_list("status", flat=True)) == {"completed"}


def test_runs_that_read_and_then_write_at_the_same_time_do_not_lock_sqlite(
    site: str, arkor: Emulator
) -> None:
    assert site == DEFAULT

    def read_then_write(name: str, ctx: Any) -> None:
        Group.objects.using(site).count()
        threading.Event().wait(0.002)
        write_effect(site)(name, ctx)

    on_event[:] = [read_then_write]
    runs = [submit(**TRAINING) for _ in range(8)]
    run_all()
    assert effects(site) == expected([run.job_id for run in runs], 10)
    assert set(Run.objects.using(site).values_list("status", "error")) == {("completed", "")}


@on_postgres
@pytest.mark.slow
def test_a_callback_may_take_longer_than_a_lease_lasts(site: str, arkor: Emulator) -> None:
    def wait_past_the_lease(name: str, ctx: Any) -> None:
        if name == "on_log" and ctx.step == 5:
            first = Lease.objects.using(site).get().expires

            def renewed() -> bool:
                return Lease.objects.using(site).get().expires > first + 2.0

            until(renewed)

    on_event[:] = [write_effect(site), wait_past_the_lease]
    run = submit(**TRAINING)
    run_all(TTL=1.0)
    assert effects(site) == expected([run.job_id], 10)
    assert Lease.objects.using(site).get().epoch == 1


@on_postgres
@pytest.mark.parametrize("arkor", [ScriptedEngine(manual=True)], indirect=True)
def test_two_processes_share_the_runs_and_a_stop_hands_them_over(
    site: str, arkor: Emulator
) -> None:
    on_event[:] = [write_effect(site)]
    runs = [submit(**TRAINING) for _ in range(6)]
    jobs = [run.job_id for run in runs]
    with followed() as second:
        with followed(until_done=False) as first:
            until(lambda: len(first.follower.runs) == len(second.follower.runs) == 3)
            for job in jobs:
                arkor.step(job, 5)
            until(lambda: Metric.objects.using(site).count() == 4 * len(jobs))
        for job in jobs:
            arkor.step(job, 100)
    assert effects(site) == expected(jobs, 10)
