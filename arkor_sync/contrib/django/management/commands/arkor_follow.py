"""`manage.py arkor_follow`: follows the runs that are not finished. Runs on the caller's thread."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from arkor_sync.contrib.django.conf import arkor_settings
from arkor_sync.contrib.django.following import SiteFollower
from arkor_sync.errors import ArkorError


class Command(BaseCommand):
    """Follows runs until SIGTERM or SIGINT, then hands them over and exits with 0."""

    help = (
        "Follow the runs that are not finished, call their callbacks, and settle submissions whose "
        "process has died. Start as many as you like: they share the runs. SIGTERM and SIGINT hand "
        "the runs over, and it exits with 0."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--max-runs", type=int, help="how many runs it follows at most")
        parser.add_argument(
            "--until-done", action="store_true", help="exit when no run is left to follow"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Follow."""
        try:
            follower = SiteFollower(arkor_settings(), options["until_done"], options["max_runs"])
            follower.run(self.stdout.write)
        except ArkorError as error:
            raise CommandError(str(error)) from error
