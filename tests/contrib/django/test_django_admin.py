"""The admin of runs: to be read and cancelled, by whoever may, with everything escaped."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django_site import TRAINING

from arkor_sync.contrib.django import submit
from arkor_sync.contrib.django.models import Metric, Run
from arkor_sync.emulator import Emulator, ScriptedEngine

EVIL = "<script>alert('x')</script> & \u202e"
LIST = "/admin/arkor/run/"


def client_of(*permissions: str, superuser: bool = False) -> Client:
    user = User.objects.create(username="somebody", is_staff=True, is_superuser=superuser)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def run(site: str) -> Run:
    made = Run.objects.create(
        key="k", name=EVIL, job_id="job-1", status="running", step=3, loss=0.123456, error=EVIL,
        config={"model": EVIL},
    )  # fmt: skip
    Metric.objects.bulk_create(
        Metric(run=made, event=str(n), step=n, loss=1 / (n + 1), eval_loss=None) for n in range(40)
    )
    return made


def test_a_run_has_its_curve_and_shows_nothing_unescaped(run: Run) -> None:
    client = client_of("view_run")
    listed, shown = page(client, LIST), page(client, f"{LIST}{run.pk}/change/")
    for each in (listed, shown):
        assert "<script>alert" not in each
        assert "&lt;script&gt;alert" in each
    assert "0.1235" in listed
    assert '<svg xmlns="http://www.w3.org/2000/svg" class="arkor-chart arkor-auto"' in shown
    assert len(re.findall(r"L\d", shown)) >= 39
    assert "html[data-theme=dark] .arkor-auto .paper{" in shown
    assert "<input" not in shown.split('id="content-main"')[1].replace('<input type="hidden"', "")


def test_a_run_of_many_metrics_is_drawn_from_a_part(run: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr("arkor_sync.contrib.django.admin._DRAWN", 10)
    shown = page(client_of("view_run"), f"{LIST}{run.pk}/change/")
    assert 5 <= len(re.findall(r"L\d+\.\d \d+\.\d", shown)) <= 25


def test_nobody_adds_changes_or_deletes_a_run(run: Run) -> None:
    client = client_of(superuser=True)
    for url in (f"{LIST}add/", f"{LIST}{run.pk}/delete/"):
        assert client.get(url).status_code == 403
    assert client.post(f"{LIST}{run.pk}/change/", {"name": "new"}).status_code == 403
    assert "delete_selected" not in page(client, LIST)
    run.refresh_from_db()
    assert run.name == EVIL


def cancel(client: Client, *runs: Run) -> str:
    selected = {"action": "cancel", "_selected_action": [run.pk for run in runs]}
    answer = client.post(LIST, selected, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("arkor", [ScriptedEngine(manual=True)], indirect=True)
def test_whoever_may_change_runs_may_cancel_them(site: str, arkor: Emulator) -> None:
    run = submit(**TRAINING)
    viewer = client_of("view_run")
    assert "Cancel the selected runs" not in page(viewer, LIST)
    cancel(viewer, run)
    assert arkor.client().jobs.get(run.job_id).status != "cancelled"
    User.objects.all().delete()
    client = client_of("change_run")
    assert "Cancel the selected runs" in page(client, LIST)
    assert "The cloud was asked to cancel: support" in cancel(client, run)
    assert arkor.client().jobs.get(run.job_id).status == "cancelled"
    assert LogEntry.objects.get().object_id == str(run.pk)


def test_what_cannot_be_cancelled_is_told(run: Run, arkor: Emulator) -> None:
    client = client_of("change_run")
    told = cancel(client, run)  # the cloud does not know it
    assert "is not cancelled" in told
    assert "<script>alert" not in told
    Run.objects.update(status="completed")
    assert "is not cancelled: it has ended" in cancel(client, run)
    Run.objects.update(status="submitting", job_id=None)
    assert "is not cancelled: it has no job" in cancel(client, run)
