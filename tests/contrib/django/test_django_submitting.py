"""Submitting in a site: the row is committed before anything is sent, and one key is one job."""

from __future__ import annotations

import threading
from contextlib import suppress
from io import StringIO
from typing import Any, List

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test import RequestFactory
from django.test.utils import override_settings
from django_site import BOTH, TRAINING

from arkor_sync import ArkorUsageError, BlobDataset
from arkor_sync.contrib.django import DjangoCursorStore, submit, using_arkor
from arkor_sync.contrib.django.conf import arkor_settings
from arkor_sync.contrib.django.connections import ServerTime
from arkor_sync.contrib.django.models import Run
from arkor_sync.contrib.django.submitting import LEFT_AFTER, recover
from arkor_sync.emulator import Emulator, Fault
from support.waiting import Background

pytestmark = pytest.mark.parametrize("site", BOTH, indirect=True)


def paid(arkor: Emulator) -> List[str]:
    """Return the names of the jobs that the cloud has."""
    return [each.name for each in arkor.client().jobs.list()]


def rows(site: str) -> Any:
    return Run.objects.using(site)


def test_outside_of_a_transaction_it_is_submitted_at_once(site: str, arkor: Emulator) -> None:
    run = submit(key="order-1", **TRAINING)
    assert (run.status, run.name) == ("submitted", "support")
    assert paid(arkor) == ["support [order-1]"]
    stored = rows(site).get()
    assert stored.job_id == run.job_id == arkor.client().jobs.list()[0].id
    assert stored.config["maxSteps"] == 10
    assert stored.complete


def test_nothing_is_sent_before_the_commit_and_nothing_after_a_rollback(
    site: str, arkor: Emulator
) -> None:
    with transaction.atomic(using=site):
        run = submit(**TRAINING)
        assert run.status == "submitting"
        assert paid(arkor) == []
    assert (run.status, len(paid(arkor))) == ("submitted", 1)
    with suppress(ZeroDivisionError), transaction.atomic(using=site):
        submit(**TRAINING)
        raise ZeroDivisionError
    with transaction.atomic(using=site):
        submit(**TRAINING)
        transaction.set_rollback(True, using=site)
    assert len(paid(arkor)) == rows(site).count() == 1


def test_with_atomic_requests_a_view_that_fails_pays_nothing(site: str, arkor: Emulator) -> None:
    """The way of a request through Django's handler, with ATOMIC_REQUESTS."""
    from django.core.handlers.base import BaseHandler

    def view(request: Any) -> Any:
        submit(key=request.GET["key"], **TRAINING)
        assert paid(arkor) == before
        if "fail" in request.GET:
            raise ZeroDivisionError

    configured = connections.settings[site]
    configured["ATOMIC_REQUESTS"] = True
    connections[site].settings_dict["ATOMIC_REQUESTS"] = True
    try:
        made = BaseHandler().make_view_atomic(view)
        before: List[str] = []
        with pytest.raises(ZeroDivisionError):
            made(RequestFactory().get("/?key=a&fail=1"))
        assert paid(arkor) == []
        assert not rows(site).exists()
        made(RequestFactory().get("/?key=b"))
        assert paid(arkor) == ["support [b]"]
        assert rows(site).get().status == "submitted"
    finally:
        configured["ATOMIC_REQUESTS"] = False
        connections[site].settings_dict["ATOMIC_REQUESTS"] = False


def test_one_key_is_one_job_and_without_a_key_each_call_is_one(site: str, arkor: Emulator) -> None:
    first = submit(key="order", **TRAINING)
    again = submit(key="order", **TRAINING)
    assert (again.pk, again.job_id) == (first.pk, first.job_id)
    submit(**TRAINING)
    submit(**TRAINING)
    assert len(paid(arkor)) == rows(site).count() == 3
    for changed in ({"max_steps": 11}, {"name": "another"}):
        with pytest.raises(
            ArkorUsageError, match=r"key: got 'order', which was used for 'support'"
        ):
            submit(key="order", **{**TRAINING, **changed})


def test_many_threads_with_one_key_make_one_job(site: str, arkor: Emulator) -> None:
    barrier = threading.Barrier(6)

    def click() -> int:
        barrier.wait(30)
        try:
            return int(submit(key="double", **TRAINING).pk)
        finally:
            connections.close_all()

    clicks = [Background(click) for _ in range(6)]
    assert len({each.result() for each in clicks}) == 1
    assert paid(arkor) == ["support [double]"]


def test_what_the_cloud_refuses_is_in_the_row(site: str, arkor: Emulator) -> None:
    arkor.faults.add(Fault("status", route="create_job", status=422))
    run = submit(key="refused", **TRAINING)
    assert run.status == "refused"
    assert run.error.startswith("422")
    assert submit(key="refused", **TRAINING).status == "refused"
    assert paid(arkor) == []


def test_a_cloud_that_is_away_leaves_a_row_that_is_submitted_later(
    site: str, arkor: Emulator
) -> None:
    with arkor.refusing():
        run = submit(key="later", **TRAINING)
        assert run.status == "submitting"
        assert "refused" in run.error
    rows(site).update(submit_opened=ServerTime() - LEFT_AFTER)
    (settled,) = recover(arkor_settings())
    assert (settled.before, settled.run.status, settled.run.error) == (
        "submitting",
        "submitted",
        "",
    )
    assert paid(arkor) == ["support [later]"]
    assert recover(arkor_settings()) == []


def write_row(site: str, key: str, **more: Any) -> Run:
    """Leave a row as a process does that dies right after the commit."""
    with transaction.atomic(using=site):
        run = submit(key=key, **{**TRAINING, **more})
        connections[site].run_on_commit.clear()
    return run


def test_a_row_whose_process_died_before_it_was_sent_is_submitted(
    site: str, arkor: Emulator
) -> None:
    write_row(site, "died")
    (young,) = recover(arkor_settings())
    assert (young.run.status, paid(arkor)) == ("submitting", [])  # its process may be about to
    rows(site).update(submit_opened=ServerTime() - LEFT_AFTER)
    (settled,) = recover(arkor_settings())
    assert settled.run.status == "submitted"
    assert paid(arkor) == ["support [died]"]


def test_a_recovery_has_no_connections_beside_those_of_its_store(
    site: str, arkor: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_row(site, "died")
    monkeypatch.delattr("arkor_sync.contrib.django.submitting.shared_store")
    rows(site).update(submit_opened=ServerTime() - LEFT_AFTER)
    store = DjangoCursorStore()
    (settled,) = recover(arkor_settings(), store)
    store.close()
    assert settled.run.status == "submitted"


def test_a_row_that_lacks_a_secret_is_lost_until_it_is_submitted_again(
    site: str, arkor: Emulator
) -> None:
    data = BlobDataset("https://example.com/data.jsonl?sig=verysecret", token="topsecret")
    run = write_row(site, "secret", dataset=data)
    assert "secret" not in str(run.config)
    assert not run.complete
    rows(site).update(submit_opened=ServerTime() - LEFT_AFTER)
    (settled,) = recover(arkor_settings())
    assert settled.run.status == "lost"
    assert "submit() with the same key" in settled.run.error
    assert paid(arkor) == []
    again = submit(key="secret", **{**TRAINING, "dataset": data})
    assert (again.status, again.error) == ("submitted", "")
    assert paid(arkor) == ["support [secret]"]


def test_a_job_whose_answer_was_lost_is_found_by_its_name(site: str, arkor: Emulator) -> None:
    arkor.faults.add(Fault("reset_peer", route="create_job"))
    run = submit(key="lost", **TRAINING)
    assert run.status == "submitting"
    assert "may have been created" in run.error
    rows(site).update(submit_expires=0.0)
    (settled,) = recover(arkor_settings())
    assert settled.run.status == "submitted"
    assert len(paid(arkor)) == 1


def test_what_another_project_may_have_is_not_sent_to_the_one_of_a_corrected_setting(
    site: str, arkor: Emulator
) -> None:
    arkor.faults.add(Fault("reset_peer", route="create_job"))
    submit(key="order", **TRAINING)
    rows(site).update(submit_expires=0.0)
    first = arkor_settings()
    with Emulator() as corrected, using_arkor(corrected):
        with pytest.raises(CommandError, match="1 of them are of another project or cloud"):
            call_command("arkor_recover", stdout=StringIO())
        run = submit(key="order", **TRAINING)
        assert run.status == "submitting"
        assert "in another project or cloud" in run.error
        (left,) = recover(arkor_settings())
        assert (left.run.status, left.run.job_id) == ("submitting", None)
        assert left.run.error.startswith("it was submitted to another project or cloud than ARKOR")
        assert corrected.requests == []
    (settled,) = recover(first)
    assert (settled.run.status, settled.run.error) == ("submitted", "")
    assert paid(arkor) == ["support [order]"]


def test_arguments_that_are_for_who_follows_are_refused(site: str, arkor: Emulator) -> None:
    for name in ("callbacks", "error_policy", "around", "cursor_store"):
        with pytest.raises(ArkorUsageError, match=f"{name}: got {name}, which is for"):
            submit(**{name: None}, **TRAINING)
    with pytest.raises(ArkorUsageError, match="model"):
        submit(**{**TRAINING, "model": "none"})
    with pytest.raises(ArkorUsageError, match="key"):
        submit(key="", **TRAINING)
    assert not rows(site).exists()


def test_records_are_not_kept_in_the_row(site: str, arkor: Emulator) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    run = submit(**{**TRAINING, "dataset": [{"messages": messages}] * 20})
    assert run.status == "submitted"
    assert not run.complete
    assert "Hello" not in str(run.config)


def test_a_token_in_the_settings_is_never_shown(site: str, arkor: Emulator) -> None:
    with override_settings(ARKOR={"DATABASE": site, "TOKEN": "ark_live_verysecret"}):
        assert "verysecret" not in repr(arkor_settings())
    assert arkor.token not in repr(arkor_settings())
