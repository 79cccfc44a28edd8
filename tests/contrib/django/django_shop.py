"""A process of the site, which a test kills: `django_shop.py DATABASE SETTINGS COMMAND [ORDERS]`.

`submit` submits orders, each in a child that is killed at a point; others are those of `manage.py`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import django_site
from django.conf import settings
from django.core.management import call_command
from django.db import connections, transaction

from arkor_sync.cloud.jobs import Jobs
from arkor_sync.contrib.django import submit
from arkor_sync.contrib.django import submitting as module
from arkor_sync.contrib.django.backend import DjangoBackend


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(owner: Any, name: str) -> None:
    called = getattr(owner, name)

    def call(*args: Any, **more: Any) -> Any:
        called(*args, **more)
        die()

    setattr(owner, name, call)


def submit_until(key: str, point: str) -> None:
    if point == "committed":
        module.submit_now = die  # type: ignore[assignment]
    elif point == "opened":
        die_after(DjangoBackend, "open_submission")
    elif point == "sent":
        die_after(Jobs, "create")
    elif point == "closed":
        die_after(DjangoBackend, "close_submission")
    with transaction.atomic():
        submit(key=key, **django_site.TRAINING)
        if point == "before":
            die()


if __name__ == "__main__":
    database, configured, command, *rest = sys.argv[1:]
    connections.settings["default"]["NAME"] = database
    settings.ARKOR = json.loads(configured)
    if command != "submit":
        call_command(command, *rest)
        sys.exit()
    # One process for each order, without the time that Python takes to start.
    for key, point in json.loads(rest[0]):
        child = os.fork()
        if child == 0:
            submit_until(key, point)
            os._exit(0)
        os.waitpid(child, 0)
