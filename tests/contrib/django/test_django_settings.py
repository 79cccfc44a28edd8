"""The setting `ARKOR`, the system checks, and what the app does not do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Dict, List

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connections
from django.test.utils import override_settings
from django_site import DEFAULT, POSTGRES, settings

from arkor_sync import ArkorUsageError
from arkor_sync.contrib.django.checks import check_arkor
from arkor_sync.contrib.django.conf import arkor_settings

GOOD: Dict[str, Any] = {"PROJECT": "org/project", "BASE_URL": "http://127.0.0.1:1"}


def ids(**given: Any) -> List[str]:
    with override_settings(ARKOR={**GOOD, **given}):
        return [str(each.id) for each in check_arkor()]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"PROJEKT": "a/b"},
            r"ARKOR: got the key str 'PROJEKT'; give only .*did you mean 'PROJECT'",
        ),
        ({"PROJECT": "org"}, r"ARKOR\['PROJECT'\]: got str 'org'; give 'organisation/project'"),
        (
            {"DATABASE": "none"},
            r"ARKOR\['DATABASE'\]: got str 'none'; give one of DATABASES: default",
        ),
        ({"TTL": 0}, r"ARKOR\['TTL'\]: got int 0; give seconds from 1 to 3600"),
        ({"TTL": True}, r"ARKOR\['TTL'\]: got bool True"),
        ({"SLOTS": 0}, r"ARKOR\['SLOTS'\]: got int 0; give a whole number from 1"),
        ({"MAX_RUNS": 1.5}, r"ARKOR\['MAX_RUNS'\]: got float 1.5"),
        ({"BASE_URL": ""}, r"ARKOR\['BASE_URL'\]: got str ''"),
        ({"CALLBACKS": 7}, r"ARKOR\['CALLBACKS'\]: got int 7; give a text"),
        ([], r"ARKOR: got .*; give a dict"),
    ],
)
def test_a_setting_that_cannot_work_is_a_clear_error(given: Any, told: str) -> None:
    with override_settings(ARKOR=given):
        with pytest.raises(ArkorUsageError, match=told):
            arkor_settings()
        (found,) = check_arkor()
        assert found.id == "arkor.E001"
        assert found in run_checks()


def test_a_token_that_cannot_work_is_not_shown() -> None:
    with override_settings(ARKOR={"TOKEN": [b"verysecret"]}), pytest.raises(ArkorUsageError) as it:
        arkor_settings()
    assert "verysecret" not in str(it.value)


def test_good_settings_have_no_complaint() -> None:
    with override_settings(DEBUG=True):
        assert ids() == []
    assert ids(DATABASE=POSTGRES) == []


def test_each_check_finds_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids() == ["arkor.W002"]  # SQLite without DEBUG
    assert ids(CALLBACKS="none.at_all") == ["arkor.E002", "arkor.W002"]
    assert ids(CALLBACKS="django_site.TRAINING") == ["arkor.E002", "arkor.W002"]
    assert ids(ERROR_POLICY="django_site.TRAINING") == ["arkor.E003", "arkor.W002"]
    assert ids(ERROR_POLICY="django_site.retrying", DATABASE=POSTGRES) == []
    with override_settings(DEBUG=True):
        assert ids(BASE_URL="https://api.arkor.ai") == ["arkor.W004"]
        assert ids(BASE_URL=None) == ["arkor.W004"]
        monkeypatch.setenv("ARKOR_CLOUD_API_URL", "http://127.0.0.1:1")
        assert ids(BASE_URL=None) == []
    assert ids(BASE_URL="https://api.arkor.ai", DATABASE=POSTGRES) == []


def test_no_project_is_told_unless_the_environment_names_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ids(PROJECT=None, DATABASE=POSTGRES) == ["arkor.W001"]
    monkeypatch.setenv("ARKOR_ORG", "org")
    assert ids(PROJECT=None, DATABASE=POSTGRES) == ["arkor.E005"]
    monkeypatch.setenv("ARKOR_PROJECT", "project")
    assert ids(PROJECT=None, DATABASE=POSTGRES) == []


@pytest.mark.parametrize(
    ("pool", "slots", "found"),
    [
        (True, 4, []),
        (True, 5, ["arkor.W003"]),
        ({"min_size": 2, "max_size": 3}, 4, ["arkor.W003"]),
        ({"max_size": 9}, 4, []),
        (False, 50, []),
    ],
)
def test_a_pool_that_is_too_small_is_told(pool: Any, slots: int, found: List[str]) -> None:
    options = connections[POSTGRES].settings_dict["OPTIONS"]
    options["pool"] = pool
    try:
        assert ids(DATABASE=POSTGRES, SLOTS=slots) == found
    finally:
        del options["pool"]


def test_the_migrations_are_complete(site: str) -> None:
    assert site == DEFAULT
    call_command("makemigrations", "arkor", check=True, dry_run=True, verbosity=0)


def test_without_django_the_error_has_the_command_that_installs_it() -> None:
    code = """
import sys
sys.modules["django"] = None
import arkor_sync.contrib
try:
    import arkor_sync.contrib.django
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        "arkor_sync.contrib.django needs the extra 'django': pip install 'Django>=4.2'"
        in done.stdout
    )


def test_the_app_starts_no_thread_and_asks_no_database_when_it_is_loaded() -> None:
    code = """
import threading
from django.conf import settings
settings.configure(INSTALLED_APPS=["arkor_sync.contrib.django"], DATABASES={
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere/at/all"}})
import django
django.setup()
import arkor_sync.contrib.django.models
from arkor_sync.contrib.django import submit, DjangoCursorStore
from django.db import connections
print(threading.active_count(), [each.connection for each in connections.all()])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 [None]\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import arkor_sync.contrib.django as app

    assert {"submit", "DjangoCursorStore", "follow_now", "using_arkor"} <= set(dir(app))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        app.nothing  # noqa: B018
    assert settings.configured
