"""The URLs of a site with Studio; `django_studio_urls.py ADDRESS` is its `runserver`."""

from __future__ import annotations

import os
import sys

import django_site
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.http import HttpRequest
from django.urls import path

from arkor_sync.contrib.django.studio import studio_urls


def may_use_studio(request: HttpRequest, changes: bool) -> bool:
    return bool(request.user.has_perm("arkor.change_run" if changes else "arkor.view_run"))


urlpatterns = [path("arkor/", studio_urls(may_use_studio))]


if "STUDIO_DATABASE" in os.environ:  # it is the module of a server
    connections.settings[django_site.DEFAULT]["NAME"] = os.environ["STUDIO_DATABASE"]
    connections.settings[django_site.DEFAULT]["ATOMIC_REQUESTS"] = True
    settings.ROOT_URLCONF = "django_studio_urls"
    settings.DEBUG = True
    application = get_wsgi_application()

if __name__ == "__main__":
    call_command("runserver", "--noreload", sys.argv[1])
