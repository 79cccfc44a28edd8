"""Submits runs: the row is committed before anything is sent. Runs on the caller's thread."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from django.db import transaction
from django.utils import timezone

from arkor_sync._common.arguments import refusal
from arkor_sync._common.log import get_logger
from arkor_sync._common.secret import HIDDEN, Secret, hide_secrets
from arkor_sync._common.text import safe_line
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.training_data import Records
from arkor_sync.contrib.django.backend import storable
from arkor_sync.contrib.django.conf import ArkorSettings, arkor_settings
from arkor_sync.contrib.django.connections import ServerTime
from arkor_sync.contrib.django.models import Run
from arkor_sync.contrib.django.store import DjangoCursorStore, shared_store
from arkor_sync.errors import ArkorError, text_of
from arkor_sync.options import RunOptions
from arkor_sync.submitting import recover_submissions, submit as submit_once
from arkor_sync.trainer import Trainer, create_trainer

logger = get_logger("arkor_sync.contrib.django")

LEFT_AFTER = 120.0
"""Seconds after which a row that no process has begun to submit is left by the one that wrote it."""


def submit(*, key: Optional[str] = None, **training: Any) -> Run:
    """Write the row of a run, and submit its job when the transaction is committed.

    If the transaction rolls back, there is no row, and nothing is sent. Outside of a transaction
    the job is submitted at once. It is not followed here: `manage.py arkor_follow` does that.

    Args:
        key: The program's name for it, such as the id of an order: for each key there is one job,
            however often it is submitted. None makes a new one for each call.
        training: `name`, `model`, `dataset` and so on, as for `arkor_sync.create_trainer`.

    Returns:
        The run. Its `status` says what became of it: `submitted`; `refused` (`error` says why);
        or `submitting` or `unknown`, if the cloud could not be reached. `manage.py arkor_follow`
        and `arkor_recover` settle that.

    Raises:
        ArkorUsageError: An argument cannot work. Nothing is written.
    """
    configured = arkor_settings()
    for name in ("callbacks", "error_policy", "cursor_store", "around"):
        if name in training:
            wanted = f"ARKOR[{name.upper()!r}]" if name in ("callbacks", "error_policy") else "nothing"
            got = f"{name}, which is for the process that follows"
            raise refusal(name, training[name], wanted, got=got)
    training.setdefault("client", configured.client())
    trainer = create_trainer(**training)
    key = secrets.token_hex(8) if key is None else key
    _check_key(key)
    config, complete = without_secrets(trainer.config)
    rows = Run.objects.using(configured.database)
    values = {
        "name": storable(trainer.name),
        "config": config,
        "complete": complete,
        "submit_opened": ServerTime(),
    }
    run, _ = rows.get_or_create(key=key, defaults=values)
    if run.status in (Run.Status.SUBMITTING, Run.Status.UNKNOWN, Run.Status.LOST):
        action = partial(_submit_now, run, trainer, configured)
        transaction.on_commit(action, using=configured.database)
    return run


def _submit_now(run: Run, trainer: Trainer, configured: ArkorSettings) -> None:
    """Submit the job of a committed row. An error of the cloud is in the row, and in the log."""
    try:
        submit_once(trainer, key=run.key, store=shared_store(configured))
    except ArkorError as error:
        logger.warning("run %s (%s) is not submitted: %s", run.pk, run.name, text_of(error))
        rows = Run.objects.using(configured.database).filter(pk=run.pk, error="")
        rows.update(error=storable(safe_line(text_of(error))))
    run.refresh_from_db(using=configured.database)


class Recovered(NamedTuple):
    """What a recovery did with one run.

    Attributes:
        run: The run as it is now.
        before: Its status before.
    """

    run: Run
    before: str


def recover(
    configured: ArkorSettings,
    store: Optional[DjangoCursorStore] = None,
    client: Optional[CloudApiClient] = None,
) -> List[Recovered]:
    """Settle the submissions of processes that died, and those that the cloud did not answer.

    A job that was created is found by its name. Where there is certainly none, it is submitted from
    the row. A row that does not hold all that is sent, because of a secret, is `lost` then.
    """
    store = store or shared_store(configured)
    client = client or configured.client()
    rows = Run.objects.using(configured.database)
    unsettled = (Run.Status.SUBMITTING, Run.Status.UNKNOWN)
    before = dict(rows.filter(status__in=unsettled).values_list("pk", "status"))
    if not before:
        return []

    def trainer_for(key: str) -> Optional[Trainer]:
        run = rows.get(key=key)
        if not run.complete:
            return None
        return Trainer(run.name, run.config, client, RunOptions())

    settled = recover_submissions(store, client, trainer_for=trainer_for)
    left = rows.filter(intent="", status=Run.Status.SUBMITTING)
    for run in left.filter(submit_opened__lte=ServerTime() - LEFT_AFTER, complete=True):
        trainer = trainer_for(run.key)
        if trainer is not None:
            _submit_now(run, trainer, configured)
    never_sent = [each.key for each in settled if each.status == Run.Status.SUBMITTING]
    gone = rows.filter(key__in=never_sent) | left.filter(
        submit_opened__lte=ServerTime() - LEFT_AFTER
    )
    gone.filter(complete=False, status=Run.Status.SUBMITTING).update(
        status=Run.Status.LOST,
        ended_at=timezone.now(),
        error="the process that submitted it died before it was sent, and its configuration has a "
        "secret or data that is not kept here; submit it again with the same key",
    )
    now = rows.filter(pk__in=before).order_by("pk")
    return [Recovered(run, before[run.pk]) for run in now]


def without_secrets(config: Any) -> Tuple[Dict[str, Any], bool]:
    """Return a job's configuration without secrets, and whether that is all of it."""
    hidden = [False]

    def copy(value: Any) -> Any:
        if isinstance(value, Secret):
            hidden[0] = True
            return HIDDEN
        if isinstance(value, Records):
            hidden[0] = True
            return repr(value)
        if isinstance(value, dict):
            return {storable(str(name)): copy(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [copy(each) for each in value]
        if isinstance(value, str) and storable(value) != value:
            hidden[0] = True
            return storable(value)
        return value

    return copy(hide_secrets(config)), not hidden[0]
