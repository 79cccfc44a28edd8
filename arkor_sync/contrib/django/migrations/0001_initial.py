"""The tables of the app, as they were at first. Runs on the caller's thread."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes them."""

    initial = True

    dependencies = ()

    operations = (
        migrations.CreateModel(
            name="Lease",
            fields=[
                ("job_id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("owner", models.TextField(default="")),
                ("epoch", models.BigIntegerField(default=0)),
                ("expires", models.FloatField(default=0.0)),
            ],
        ),
        migrations.CreateModel(
            name="Member",
            fields=[
                ("owner", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("expires", models.FloatField()),
            ],
        ),
        migrations.CreateModel(
            name="Position",
            fields=[
                ("job_id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("epoch", models.BigIntegerField(default=0)),
                ("text", models.TextField(null=True)),
                ("finished", models.BooleanField(default=False)),
                ("saved_at", models.FloatField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Run",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "key",
                    models.CharField(
                        help_text="The program's name for it: for each key there is one job.",
                        max_length=255,
                        unique=True,
                    ),
                ),
                ("name", models.TextField(help_text="The job's name.")),
                (
                    "config",
                    models.JSONField(default=dict, help_text="What to train, without secrets."),
                ),
                (
                    "complete",
                    models.BooleanField(
                        default=True,
                        help_text="Whether the configuration holds all that is sent.",
                    ),
                ),
                ("job_id", models.CharField(blank=True, max_length=255, null=True, unique=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("submitting", "Submitting"),
                            ("submitted", "Submitted"),
                            ("running", "Running"),
                            ("completed", "Completed"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("refused", "Refused"),
                            ("unknown", "Unknown"),
                            ("lost", "Lost"),
                        ],
                        db_index=True,
                        default="submitting",
                        max_length=20,
                    ),
                ),
                ("step", models.BigIntegerField(blank=True, null=True)),
                ("loss", models.FloatField(blank=True, null=True)),
                ("error", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, db_index=True, null=True)),
                ("intent", models.TextField(blank=True, default="", editable=False)),
                ("submitter", models.TextField(blank=True, default="", editable=False)),
                ("submit_epoch", models.BigIntegerField(default=0, editable=False)),
                ("submit_opened", models.FloatField(default=0.0, editable=False)),
                ("submit_expires", models.FloatField(default=0.0, editable=False)),
            ],
            options={
                "ordering": ("-created_at", "-pk"),
            },
        ),
        migrations.CreateModel(
            name="Metric",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("event", models.CharField(max_length=32)),
                ("step", models.BigIntegerField()),
                ("loss", models.FloatField(null=True)),
                ("eval_loss", models.FloatField(null=True)),
                ("learning_rate", models.FloatField(null=True)),
                ("epoch", models.FloatField(null=True)),
                ("samples_per_second", models.FloatField(null=True)),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="metrics",
                        to="arkor.run",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("run", "event"), name="arkor_metric_of_event")
                ],
            },
        ),
    )
