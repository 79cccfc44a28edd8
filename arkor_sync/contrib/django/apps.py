"""The Django app. Runs on the caller's thread."""

from __future__ import annotations

from django.apps import AppConfig


class ArkorConfig(AppConfig):
    """The app `arkor`. It starts nothing: `manage.py arkor_follow` does."""

    name = "arkor_sync.contrib.django"
    label = "arkor"
    verbose_name = "Arkor"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from arkor_sync.contrib.django import checks  # noqa: F401
