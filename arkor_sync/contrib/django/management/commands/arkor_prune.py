"""`manage.py arkor_prune`: deletes old runs. Runs on the caller's thread."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, List

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, transaction
from django.utils import timezone

from arkor_sync.contrib.django.backend import error_of, is_held
from arkor_sync.contrib.django.conf import arkor_settings
from arkor_sync.contrib.django.models import Lease, Metric, Position, Run
from arkor_sync.errors import ArkorError


class Command(BaseCommand):
    """Deletes runs that ended long ago, with their metrics and positions, in small transactions.

    A run that a process still follows is left alone.
    """

    help = "Delete the runs that ended so many days ago, with their metrics and positions."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--days", type=int, default=90, help="the default is 90")
        parser.add_argument("--dry-run", action="store_true", help="only say how many")
        parser.add_argument(
            "--batch", type=int, default=1000, help="rows in one transaction; the default is 1000"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Delete them."""
        days, batch = options["days"], options["batch"]
        if days < 0 or batch < 1:
            raise CommandError("give --days from 0, and --batch from 1")
        try:
            alias = arkor_settings().database
        except ArkorError as error:
            raise CommandError(str(error)) from error
        try:
            self._prune(alias, days, batch, options["dry_run"])
        except Error as error:
            raise CommandError(str(error_of(error, alias))) from error

    def _prune(self, alias: str, days: int, batch: int, is_dry_run: bool) -> None:
        old = Run.objects.using(alias).filter(
            ~is_held(alias),
            status__in=Run.ENDED,
            ended_at__lt=timezone.now() - timedelta(days=days),
        )
        if is_dry_run:
            metrics = Metric.objects.using(alias).filter(run__in=old).count()
            self.stdout.write(f"{old.count()} runs and {metrics} metrics would be deleted")
            return
        runs = metrics = 0
        while True:
            part = list(old.order_by("pk").values_list("pk", "job_id")[:batch])
            if not part:
                break
            metrics += self._delete_metrics(alias, [pk for pk, _ in part], batch)
            jobs = [job_id for _, job_id in part if job_id is not None]
            with transaction.atomic(using=alias):
                for model in (Lease, Position):
                    model.objects.using(alias).filter(job_id__in=jobs).delete()
                Run.objects.using(alias).filter(pk__in=[pk for pk, _ in part]).delete()
            runs += len(part)
        self.stdout.write(f"{runs} runs and {metrics} metrics were deleted")

    def _delete_metrics(self, alias: str, runs: List[int], batch: int) -> int:
        rows = Metric.objects.using(alias)
        deleted = 0
        while True:
            part = list(rows.filter(run_id__in=runs).values_list("pk", flat=True)[:batch])
            if not part:
                return deleted
            deleted += rows.filter(pk__in=part).delete()[0]
