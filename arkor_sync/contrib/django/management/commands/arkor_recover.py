"""`manage.py arkor_recover`: settles submissions. Runs on the caller's thread."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from arkor_sync.contrib.django.conf import arkor_settings
from arkor_sync.contrib.django.models import Run
from arkor_sync.contrib.django.submitting import recover
from arkor_sync.errors import ArkorError


class Command(BaseCommand):
    """Settles the submissions of processes that died, and those that the cloud did not answer."""

    help = (
        "Settle the submissions of processes that died: a job that was created is found by its "
        "name, and one that was not is submitted. arkor_follow does the same every half minute. It "
        "exits with 1 if one is left that nobody can settle but a person."
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Settle them, and print a line for each."""
        try:
            settled = recover(arkor_settings())
        except ArkorError as error:
            raise CommandError(str(error)) from error
        unknown = 0
        for run, before in settled:
            unknown += run.status == Run.Status.UNKNOWN
            why = f": {run.error}" if run.error else ""
            self.stdout.write(f"run {run.pk} ({run.key}) was {before}, and is {run.status}{why}")
        if not settled:
            self.stdout.write("nothing to settle")
        if unknown:
            raise CommandError(
                f"{unknown} of them are unknown: look for the job in the cloud, then call "
                "arkor_sync.settle_submission"
            )
