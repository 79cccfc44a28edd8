"""A Django site that submits a job for each key: WSGI, for any server; as a script, `manage.py`."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import Any, Dict, Optional

import django
from django.conf import settings
from fleet_schedule import CONNECTIONS, TTL
from psycopg.conninfo import conninfo_to_dict

_place = conninfo_to_dict(os.environ["FLEET_STORE"].replace("+psycopg", ""))

settings.configure(
    SECRET_KEY="of-tests",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["arkor_sync.contrib.django"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _place["dbname"],
            "USER": _place["user"],
            "HOST": _place["host"],
            "ATOMIC_REQUESTS": True,
        }
    },
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    # Of what a view raises, Django writes nothing by itself.
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"all": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["all"]},
    },
    # A process that follows has two connections beside those of its slots.
    ARKOR={"CALLBACKS": f"{__name__}.callbacks", "TTL": TTL, "SLOTS": CONNECTIONS - 2},
)
django.setup()

from django.core.management import (  # noqa: E402
    CommandError,
    call_command,
    execute_from_command_line,
)
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from arkor_sync import Callbacks, HuggingFaceDataset, LeaseHeldError  # noqa: E402
from arkor_sync import submitting as core  # noqa: E402
from arkor_sync.contrib.django import following, submitting  # noqa: E402
from arkor_sync.contrib.django.models import Run  # noqa: E402

# What waits for the end of another process's time waits for seconds here, not for minutes.
core.submit = submitting.submit_once = partial(core.submit, request_limit=2.0, settle_time=3.0)
core.LOOK = submitting.LEFT_AFTER = 5.0
following.RECOVER_EVERY = 1.0

EFFECT = (
    "INSERT INTO effect (job, event, epoch) "
    "SELECT %(job)s, %(event)s, epoch FROM arkor_position WHERE job_id = %(job)s"
)
NAMES = ("started", "log", "checkpoint", "completed", "failed", "cancelled")


def callbacks(run: Run) -> Callbacks:
    """Return callbacks that write the effect of an event into the event's transaction."""
    return Callbacks(**{f"on_{name}": write for name in NAMES})


def write(ctx: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(EFFECT, {"job": ctx.job.id, "event": ctx.event.id})


def train(request: Any) -> JsonResponse:
    """Submit a job for a key. It is sent after the answer was made: a later answer has its id."""
    answer = {"pid": os.getpid(), "job": ""}
    if "key" in request.GET:
        run = submitting.submit(
            key=request.GET["key"],
            name="web",
            model="unsloth/gemma-4-E4B-it",
            dataset=HuggingFaceDataset("arkorlab/triage-demo"),
        )
        answer["job"] = run.job_id or ""
        if run.status == Run.Status.UNKNOWN:
            answer["error"] = "SubmissionUnknownError"
    return JsonResponse(answer)


urlpatterns = [path("", train)]
application = get_wsgi_application()


def settle(jobs: Dict[str, Optional[str]]) -> None:
    """Say what became of submissions, without a process for each; one that is held is left out."""
    for key, job_id in jobs.items():
        try:
            call_command("arkor_recover", settle=key, job=job_id)
        except CommandError as error:
            if not isinstance(error.__cause__, LeaseHeldError):
                raise


if __name__ == "__main__":
    if sys.argv[1] == "settle":
        settle(json.loads(sys.argv[2]))
    else:
        execute_from_command_line(sys.argv)
