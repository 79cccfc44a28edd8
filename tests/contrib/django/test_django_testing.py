"""What a site's own tests use: following inside of a TestCase, and the fixture of pytest."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Iterator

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import TestCase, TransactionTestCase
from django_site import DEFAULT, TRAINING, arkor_with, empty_site, on_event

from arkor_sync import ArkorUsageError
from arkor_sync.contrib.django import follow_now, submit
from arkor_sync.contrib.django.conf import arkor_settings
from arkor_sync.contrib.django.models import Lease, Metric, Run
from arkor_sync.contrib.django.store import shared_store


@pytest.fixture(autouse=True, scope="module")
def _module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with empty_site(DEFAULT, tmp_path_factory):
        yield


@pytest.fixture(autouse=True)
def _no_callbacks() -> Iterator[None]:
    on_event.clear()
    yield
    shared_store(arkor_settings()).close()


def write(name: str, ctx: Any) -> None:
    Group.objects.create(name=f"{name} {getattr(ctx, 'step', '')}")


@pytest.mark.usefixtures("arkor_django")
class TestInATestCase(TestCase):
    def test_a_run_is_submitted_and_followed_in_the_transaction_of_the_test(self) -> None:
        on_event[:] = [write]
        with self.captureOnCommitCallbacks(execute=True):
            run = submit(**TRAINING)
            assert run.status == "submitting"
        assert run.status == "submitted"
        assert follow_now(run) is run
        assert (run.status, run.step) == ("completed", 10)
        assert Group.objects.count() == Metric.objects.count() + 2 == 12
        assert Lease.objects.get().epoch == 1
        assert connection.in_atomic_block

    def test_nothing_of_it_is_left_for_the_next_test(self) -> None:
        assert not Run.objects.exists()
        assert not Lease.objects.exists()

    def test_a_run_whose_commit_never_comes_is_submitted_too(self) -> None:
        assert follow_now(submit(**TRAINING)).status == "completed"

    def test_a_run_that_cannot_be_submitted_from_its_row_says_what_to_do(self) -> None:
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        run = submit(**{**TRAINING, "dataset": [{"messages": messages}] * 9})
        with pytest.raises(ArkorUsageError, match="captureOnCommitCallbacks"):
            follow_now(run)

    def test_an_error_of_a_callback_fails_the_test_and_leaves_its_transaction(self) -> None:
        def fail(name: str, ctx: Any) -> None:
            write(name, ctx)
            if getattr(ctx, "step", 0) == 3:
                raise ZeroDivisionError

        on_event[:] = [fail]
        run = submit(**TRAINING)
        with pytest.raises(ZeroDivisionError):
            follow_now(run)
        assert run.error.startswith("ZeroDivisionError")
        assert Group.objects.count() == 3

    def test_with_a_policy_that_repeats(self) -> None:
        failures = [1, 2]

        def fail(name: str, ctx: Any) -> None:
            write(name, ctx)
            if getattr(ctx, "step", 0) == 3 and failures:
                failures.pop()
                raise ConnectionError

        on_event[:] = [fail]
        with arkor_with.used(ERROR_POLICY="django_site.retrying"):
            assert follow_now(submit(**TRAINING)).status == "completed"
        assert Group.objects.count() == 12


@pytest.mark.usefixtures("arkor_django")
class TestInATransactionTestCase(TransactionTestCase):
    def test_a_run_is_committed(self) -> None:
        run = submit(**TRAINING)
        assert run.status == "submitted"
        assert follow_now(run).status == "completed"


SITE_TEST = """
import pytest
from arkor_sync.contrib.django import follow_now, submit

@pytest.mark.django_db
def test_it_trains(arkor_django, {commits}):
    from arkor_sync import HuggingFaceDataset
    with {commits}(execute=True):
        run = submit(name="x", model="unsloth/gemma-4-E4B-it", max_steps=3,
                     dataset=HuggingFaceDataset("emulator/sample"))
    assert follow_now(run).status == "completed"
    assert run.step == 3
"""


@pytest.mark.slow
def test_with_pytest_django(pytester: pytest.Pytester) -> None:
    if find_spec("pytest_django") is None:
        pytest.skip("pytest-django is not installed")
    pytester.makepyfile(
        site_settings="""
SECRET_KEY = "x"
INSTALLED_APPS = ["arkor_sync.contrib.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
""",
        test_site=SITE_TEST.format(commits="django_capture_on_commit_callbacks"),
    )
    done = pytester.runpytest_subprocess("--ds=site_settings", "-n", "0", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=1)
