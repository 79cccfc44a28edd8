"""The settings of the site. In production the database is PostgreSQL."""

import os
from pathlib import Path

from django import VERSION

FOLDER = Path(os.environ.get("SITE_FOLDER", Path(__file__).parent))

SECRET_KEY = "only for this example"  # noqa: S105
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "urls"
STATIC_URL = "/static/"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "arkor_sync.contrib.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "site.sqlite3",
        # Two processes write. A transaction that reads first would fail where it has to wait: it
        # begins as a writer, which an older Django cannot do; there no request is one.
        "ATOMIC_REQUESTS": VERSION >= (5, 1),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"} if VERSION >= (5, 1) else {},
    }
}

# The cloud and the project come from the environment: ARKOR_CLOUD_API_URL, ARKOR_TOKEN, ARKOR_ORG
# and ARKOR_PROJECT.
ARKOR = {"CALLBACKS": "training.callbacks"}
