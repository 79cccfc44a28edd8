"""Submits runs: the row is committed before anything is sent. Runs on the caller's thread."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from arkor_sync._common.arguments import refusal
from arkor_sync._common.log import get_logger
from arkor_sync._common.secret import HIDDEN, Secret, hide_secrets
from arkor_sync._common.text import safe_line
from arkor_sync._submission_row import ELSEWHERE, NOT_CREATED
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.training_data import Records
from arkor_sync.contrib.django.backend import storable
from arkor_sync.contrib.django.conf import ArkorSettings, arkor_settings
from arkor_sync.contrib.django.connections import ServerTime
from arkor_sync.contrib.django.models import Run
from arkor_sync.contrib.django.store import DjangoCursorStore, shared_store
from arkor_sync.errors import ArkorError, LeaseHeldError, text_of
from arkor_sync.options import RunOptions
from arkor_sync.stores.backend import SUBMITTING
from arkor_sync.submitting import check_key, recover_submissions
from arkor_sync.submitting import submit as submit_once
from arkor_sync.trainer import Trainer, create_trainer

logger = get_logger("arkor_sync.contrib.django")

_UNSETTLED = (Run.Status.SUBMITTING, Run.Status.UNKNOWN)
_OF_WHO_FOLLOWS = {
    "callbacks": "name a function in ARKOR['CALLBACKS']",
    "error_policy": "name one in ARKOR['ERROR_POLICY']",
    "cursor_store": "the database of the site is",
    "around": "each event has a transaction",
}
_LOST = (
    "the process that was to submit it ended before it was sent, and not all that is sent is kept "
    "here: there is a secret or data in it. Call submit() with the same key"
)

OF_ANOTHER = (
    "it was submitted to another project or cloud than ARKOR names now, and is left alone: name "
    "that one again, or look there, and call arkor_recover --settle KEY (with --job ID for its job)"
)

LEFT_AFTER = 120.0
"""Seconds after which whoever wrote a row, and has not begun to submit it, is taken for dead."""


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
    for name in _OF_WHO_FOLLOWS:
        if name in training:
            wanted = "nothing; " + _OF_WHO_FOLLOWS[name]
            got = f"{name}, which is for the process that follows"
            raise refusal(name, training[name], wanted, got=got)
    training.setdefault("client", configured.client())
    trainer = create_trainer(**training)
    key = secrets.token_hex(8) if key is None else key
    check_key(key)
    config, complete = without_secrets(trainer.config)
    rows = Run.objects.using(configured.database)
    values = {
        "name": storable(trainer.name),
        "config": config,
        "complete": complete,
        "submit_opened": ServerTime(),
    }
    run, created = rows.get_or_create(key=key, defaults=values)
    if not created and (run.name, run.config) != (values["name"], config):
        got = f"{key!r}, which was used for {run.name!r} with another name or configuration"
        raise refusal("key", key, "the same name and configuration again, or another key", got=got)
    if run.status in _UNSETTLED or run.status == Run.Status.LOST:
        action = partial(submit_now, run, trainer, shared_store(configured))
        transaction.on_commit(action, using=configured.database)
    return run


def submit_now(run: Run, trainer: Trainer, store: DjangoCursorStore) -> None:
    """Submit the job of a committed row. An error of the cloud is in the row, and in the log."""
    alias = store.backend.alias
    problem = ""
    try:
        submit_once(trainer, key=run.key, store=store, timeout=0)
    except LeaseHeldError:
        pass  # another process is submitting it
    except ArkorError as error:
        logger.warning("run %s (%s) is not submitted: %s", run.pk, run.name, text_of(error))
        problem = storable(safe_line(text_of(error)))
    with store.backend.transaction():
        if problem:
            rows = Run.objects.using(alias).filter(pk=run.pk, job_id=None)
            rows.exclude(status=Run.Status.UNKNOWN).update(error=problem)
        run.refresh_from_db(using=alias)


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
    store, client = store or shared_store(configured), client or configured.client()
    rows = Run.objects.using(configured.database)
    reading = partial(store.backend.transaction, reads=True)

    def trainer_for(key: str) -> Optional[Trainer]:
        with reading():
            run = rows.get(key=key)
        return Trainer(run.name, run.config, client, RunOptions()) if run.complete else None

    with reading():
        before = {run.pk: run.status for run in rows.filter(status__in=_UNSETTLED)}
    if not before:
        return []
    settled = recover_submissions(store, client, trainer_for=trainer_for)
    elsewhere = [each.key for each in settled if each.detail == ELSEWHERE]
    not_sent = Q(key__in=[each.key for each in settled if each.detail == NOT_CREATED])
    # No process has begun to submit these, and none will.
    left = Q(intent="", submit_opened__lte=ServerTime() - LEFT_AFTER)
    with reading():
        unsent = list(rows.filter(left, status=SUBMITTING, complete=True))
    for run in unsent:
        submit_now(run, Trainer(run.name, run.config, client, RunOptions()), store)
    with store.backend.transaction():
        rows.filter(not_sent | left, status=SUBMITTING, complete=False).update(
            status=Run.Status.LOST, ended_at=timezone.now(), error=_LOST
        )
        rows.filter(key__in=elsewhere, status__in=_UNSETTLED).update(error=OF_ANOTHER)
        return [Recovered(run, before[run.pk]) for run in rows.filter(pk__in=before).order_by("pk")]


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
