"""The tables: runs and their metrics, and what the processes that follow agree on. Any thread.

`Lease` and `Position` have rows of their own, so that a renewal never waits for the transaction
around a callback. Their times are seconds since 1970 on the database server's clock.
"""

from __future__ import annotations

from typing import Any, Dict

from django.db import models

from arkor_sync.stores.backend import REFUSED, SUBMITTED, SUBMITTING, UNKNOWN

LONGEST_KEY = 255


class Run(models.Model):
    """A job that the site has submitted, or is about to."""

    class Status(models.TextChoices):
        """What is known of it. Those from `refused` on are final, but for `unknown`."""

        SUBMITTING = SUBMITTING
        SUBMITTED = SUBMITTED
        RUNNING = "running"
        COMPLETED = "completed"
        FAILED = "failed"
        CANCELLED = "cancelled"
        REFUSED = REFUSED
        UNKNOWN = UNKNOWN
        LOST = "lost"

    FOLLOWED = (Status.SUBMITTED, Status.RUNNING)
    ENDED = (
        Status.COMPLETED,
        Status.FAILED,
        Status.CANCELLED,
        Status.REFUSED,
        Status.LOST,
    )

    key = models.CharField(
        max_length=LONGEST_KEY,
        unique=True,
        help_text="The program's name for it: for each key there is one job.",
    )
    name = models.TextField(help_text="The job's name.")
    config = models.JSONField(default=dict, help_text="What to train, without secrets.")
    complete = models.BooleanField(
        default=True,
        help_text="Whether the configuration holds all that is sent.",
    )
    job_id = models.CharField(max_length=LONGEST_KEY, unique=True, null=True, blank=True)
    status = models.CharField(
        max_length=20, choices=Status.choices, default=Status.SUBMITTING, db_index=True
    )
    step = models.BigIntegerField(null=True, blank=True)
    loss = models.FloatField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True, db_index=True)
    # What the submission has written down, and who submits it at this moment; times as in `Lease`.
    intent = models.TextField(blank=True, default="", editable=False)
    submitter = models.TextField(blank=True, default="", editable=False)
    submit_epoch = models.BigIntegerField(default=0, editable=False)
    submit_opened = models.FloatField(default=0.0, editable=False)
    submit_expires = models.FloatField(default=0.0, editable=False)

    class Meta:  # noqa: D106
        ordering = ("-created_at", "-pk")

    def __str__(self) -> str:
        return f"{self.name} ({self.status})"

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in self.ENDED


class Metric(models.Model):
    """The metrics of one log event of a run."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="metrics")
    event = models.CharField(max_length=32)
    step = models.BigIntegerField()
    loss = models.FloatField(null=True)
    eval_loss = models.FloatField(null=True)
    learning_rate = models.FloatField(null=True)
    epoch = models.FloatField(null=True)
    samples_per_second = models.FloatField(null=True)

    class Meta:  # noqa: D106
        constraints = (
            models.UniqueConstraint(fields=("run", "event"), name="arkor_metric_of_event"),
        )

    def __str__(self) -> str:
        return f"step {self.step}"

    def as_event(self) -> Dict[str, Any]:
        """Return it as the cloud sends it, for charts."""
        sent = {
            "step": self.step,
            "loss": self.loss,
            "evalLoss": self.eval_loss,
            "learningRate": self.learning_rate,
            "epoch": self.epoch,
            "samplesPerSecond": self.samples_per_second,
        }
        return {name: value for name, value in sent.items() if value is not None}


class Lease(models.Model):
    """Who follows a job, until when, and how many leases there have been."""

    job_id = models.CharField(max_length=LONGEST_KEY, primary_key=True)
    owner = models.TextField(default="")
    epoch = models.BigIntegerField(default=0)
    expires = models.FloatField(default=0.0)


class Position(models.Model):
    """How far the callbacks of a job are, and the epoch of the lease that may write it."""

    job_id = models.CharField(max_length=LONGEST_KEY, primary_key=True)
    epoch = models.BigIntegerField(default=0)
    text = models.TextField(null=True)
    finished = models.BooleanField(default=False)
    saved_at = models.FloatField(null=True)


class Member(models.Model):
    """A process that follows jobs."""

    owner = models.CharField(max_length=LONGEST_KEY, primary_key=True)
    expires = models.FloatField()
