"""`manage.py arkor_recover`: settles submissions. Runs on the caller's thread."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from arkor_sync.contrib.django.conf import arkor_settings
from arkor_sync.contrib.django.models import Run
from arkor_sync.contrib.django.store import shared_store
from arkor_sync.contrib.django.submitting import OF_ANOTHER, recover
from arkor_sync.errors import ArkorError
from arkor_sync.submitting import settle_submission


class Command(BaseCommand):
    """Settles the submissions of processes that died, and those that the cloud did not answer."""

    help = (
        "Settle the submissions of processes that died: a job that was created is found by its "
        "name, and one that was not is submitted. arkor_follow does the same every half minute. It "
        "exits with 1 if one is left that nobody can settle but a person."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--settle", metavar="KEY", help="say what became of this submission")
        parser.add_argument("--job", metavar="ID", help="its job; without it there is none")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Settle them, and print a line for each."""
        if options["job"] and not options["settle"]:
            raise CommandError("--job says which job it is: give --settle KEY, too")
        try:
            configured = arkor_settings()
            if options["settle"]:
                settle_submission(shared_store(configured), options["settle"], options["job"])
                self.stdout.write(f"{options['settle']} is settled")
                return
            settled = recover(configured)
        except ArkorError as error:
            raise CommandError(str(error)) from error
        unknown = elsewhere = 0
        for run, before in settled:
            elsewhere += run.error == OF_ANOTHER
            unknown += run.status == Run.Status.UNKNOWN
            why = f": {run.error}" if run.error else ""
            self.stdout.write(f"run {run.pk} ({run.key}) was {before}, and is {run.status}{why}")
        if not settled:
            self.stdout.write("nothing to settle")
        if elsewhere:
            raise CommandError(f"{elsewhere} of them are of another project or cloud")
        if unknown:
            raise CommandError(
                f"{unknown} of them are unknown: look for the job in the cloud, then call it with "
                "--settle KEY --job ID, or without --job if there is none"
            )
