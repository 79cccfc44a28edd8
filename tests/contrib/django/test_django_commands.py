"""The commands of `manage.py`, and processes of the site that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Dict, List

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone
from django_site import BOTH, DEFAULT, TRAINING

from arkor_sync.contrib.django import submit
from arkor_sync.contrib.django.models import Lease, Metric, Position, Run
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.ending import ends_with_us
from support.waiting import PATIENCE, until

SHOP = Path(__file__).with_name("django_shop.py")


def told(*command: Any, **options: Any) -> str:
    output = StringIO()
    call_command(*command, stdout=output, **options)
    return output.getvalue().strip()


@pytest.mark.parametrize("site", BOTH, indirect=True)
def test_old_runs_are_pruned_in_parts_with_all_that_belongs_to_them(site: str) -> None:
    def make(number: int, status: str, days: int) -> None:
        run = Run.objects.using(site).create(
            key=str(number),
            job_id=f"job-{number}",
            status=status,
            ended_at=timezone.now() - timedelta(days=days),
        )
        rows = [Metric(run=run, event=str(step), step=step) for step in range(7)]
        Metric.objects.using(site).bulk_create(rows)
        for model in (Lease, Position):
            model.objects.using(site).create(job_id=run.job_id)

    statuses = ("completed", "failed", "cancelled", "refused", "lost")
    for number in range(10):
        make(number, statuses[number % 5], 100)
    make(10, "completed", 80)
    make(11, "running", 100)
    make(12, "completed", 100)  # its last callback has not returned
    held = Lease.objects.using(site).filter(job_id="job-12")
    held.update(owner="process 1", expires=time.time() + 60)
    assert told("arkor_prune", dry_run=True) == "10 runs and 70 metrics would be deleted"
    assert Run.objects.using(site).count() == 13
    assert told("arkor_prune", batch=4) == "10 runs and 70 metrics were deleted"
    assert set(Run.objects.using(site).values_list("key", flat=True)) == {"10", "11", "12"}
    for model in (Lease, Position):
        left = set(model.objects.using(site).values_list("pk", flat=True))
        assert left == {"job-10", "job-11", "job-12"}
    assert Metric.objects.using(site).count() == 21
    assert told("arkor_prune") == "0 runs and 0 metrics were deleted"
    for wrong in ({"days": -1}, {"batch": 0}):
        with pytest.raises(CommandError, match="--days from 0"):
            call_command("arkor_prune", **wrong)


def test_a_submission_that_nobody_can_settle_needs_a_person(site: str, arkor: Emulator) -> None:
    assert told("arkor_recover") == "nothing to settle"
    for _ in range(19):  # with that of the run, as many as a list may be cut at
        arkor.create_job()
    run = submit(key="order", **TRAINING)
    intent = Run.objects.get().intent.replace("support", "another name")
    Run.objects.update(status="submitting", job_id=None, submit_expires=0.0, intent=intent)
    output = StringIO()
    with pytest.raises(CommandError, match="1 of them are unknown"):
        call_command("arkor_recover", stdout=output)
    assert f"run {run.pk} (order) was submitting, and is unknown: the list of jobs has 20" in (
        output.getvalue()
    )
    assert told("arkor_recover", settle="order", job=run.job_id) == "order is settled"
    run.refresh_from_db()
    assert run.status == "submitted"
    with pytest.raises(CommandError, match="give --settle KEY"):
        call_command("arkor_recover", job="x")
    with pytest.raises(CommandError, match="no submission"):
        call_command("arkor_recover", settle="none")


@pytest.mark.parametrize("site", BOTH, indirect=True)
@pytest.mark.parametrize(
    ("change", "undo"),
    [
        ("ALTER TABLE {run} RENAME TO away", "ALTER TABLE away RENAME TO {run}"),
        (
            "ALTER TABLE {run} RENAME COLUMN status TO away",
            "ALTER TABLE {run} RENAME COLUMN away TO status",
        ),
    ],
    ids=["no table", "no column"],
)
def test_without_its_tables_a_command_says_how_to_make_them(
    site: str, arkor: Emulator, change: str, undo: str
) -> None:
    option = "" if site == DEFAULT else f" --database {site}"
    with connections[site].cursor() as cursor:
        cursor.execute(change.format(run=Run._meta.db_table))
        try:
            for command in ("arkor_recover", "arkor_prune"):
                with pytest.raises(CommandError, match=f"run: manage.py migrate{option} \\("):
                    call_command(command)
        finally:
            cursor.execute(undo.format(run=Run._meta.db_table))


def shop_command(arkor: Emulator, *command: str) -> List[str]:
    configured: Dict[str, str] = {
        "BASE_URL": arkor.url,
        "TOKEN": arkor.token,
        "PROJECT": f"{arkor.org_slug}/{arkor.project_slug}",
    }
    database = connections.settings[DEFAULT]["NAME"]
    return [sys.executable, str(SHOP), database, json.dumps(configured), *command]


@pytest.mark.slow
def test_twenty_five_orders_whose_processes_are_killed_are_twenty_five_jobs(
    site: str, arkor: Emulator
) -> None:
    for _ in range(26):  # so that at no moment there are as many as a list may be cut at
        arkor.create_job()
    points = ("before", "committed", "opened", "sent", "closed")
    orders = [(f"order-{number}", points[number % 5]) for number in range(25)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for attempt in (orders, orders, [("order-0", "")]):
        subprocess.run(
            shop_command(arkor, "submit", json.dumps(attempt)),
            env=environment,
            check=True,
            timeout=2 * PATIENCE,
        )
        Run.objects.update(submit_opened=0.0, submit_expires=0.0)  # the time to settle is over
    for key in (f"order-{number}" for number in range(0, 25, 5)):
        assert submit(key=key, **TRAINING).status == "submitted"
    told("arkor_recover")
    jobs = arkor.client().jobs.list()
    names = sorted(each.name for each in jobs if each.name != "job")
    assert names == sorted(f"support [{key}]" for key, _ in orders)
    assert set(Run.objects.values_list("status", flat=True)) == {"submitted"}


@pytest.mark.slow
@pytest.mark.parametrize("arkor", [ScriptedEngine(manual=True)], indirect=True)
def test_sigterm_hands_the_runs_over_and_is_no_error(site: str, arkor: Emulator) -> None:
    run = submit(**TRAINING)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ends_with_us(shop_command(arkor, "arkor_follow"))
    with subprocess.Popen(command, env=environment) as process:
        try:
            arkor.step(run.job_id, 4)
            until(lambda: Metric.objects.count() == 3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    lease = Lease.objects.get()
    assert lease.expires <= Position.objects.get().saved_at + PATIENCE
    arkor.step(run.job_id, 100)
    call_command("arkor_follow", "--until-done", stdout=StringIO())
    run.refresh_from_db()
    assert (run.status, Metric.objects.count(), Lease.objects.get().epoch) == ("completed", 10, 2)


def test_a_setting_that_cannot_work_is_one_line(site: str) -> None:
    from django.test.utils import override_settings

    with override_settings(ARKOR={"TTL": 0}):
        for command in ("arkor_follow", "arkor_recover", "arkor_prune"):
            with pytest.raises(CommandError, match=r"ARKOR\['TTL'\]"):
                call_command(command)
