"""For the tests of a site: a local Arkor, and following a run inside of a test. Any thread.

    class TrainingTest(TestCase):
        def test_the_button_trains(self):
            with Emulator() as arkor, using_arkor(arkor):
                with self.captureOnCommitCallbacks(execute=True):
                    self.client.post("/train/")
                run = follow_now(Run.objects.get())
                self.assertEqual(run.status, "completed")

With pytest, the fixture `arkor_django` of arkor_sync is a local Arkor that the site uses.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, Optional

from django.db import connections, transaction
from django.test.utils import override_settings

from arkor_sync._follow import follow
from arkor_sync.contrib.django.conf import arkor_settings
from arkor_sync.contrib.django.connections import Slots
from arkor_sync.contrib.django.following import recorded
from arkor_sync.contrib.django.models import Run
from arkor_sync.contrib.django.store import DjangoCursorStore, policy_of, shared_store
from arkor_sync.contrib.django.submitting import submit_now
from arkor_sync.errors import ArkorUsageError
from arkor_sync.options import RunOptions
from arkor_sync.trainer import Trainer

_TTL = 3600.0  # seconds; longer than a test


class _Lent:
    """The connection of a thread that waits, which other threads use one after the other."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @contextmanager
    def transaction(self, *_: Any) -> Iterator[None]:
        """Enter a savepoint of the transaction that it is in."""
        connection = self._connection
        connection.inc_thread_sharing()
        connections[connection.alias] = connection
        try:
            with transaction.atomic(using=connection.alias):
                yield
        finally:
            del connections[connection.alias]
            connection.dec_thread_sharing()

    def close(self) -> None:
        """Do nothing: it is the test's."""


class _TestStore(DjangoCursorStore):
    """A store on a connection that a test lends. Its leases are not renewed, which takes a thread.

    Args:
        database: The alias.
        lent: The connection.
    """

    def __init__(self, database: str, lent: Any) -> None:
        super().__init__(database, _TTL)
        self.backend.lend(lent)

    def _start_renewing(self) -> None:
        pass


@contextmanager
def using_arkor(arkor: Any) -> Iterator[Any]:
    """Have the site use a local Arkor, until the context ends.

    Args:
        arkor: An `Emulator` that runs.
    """
    from django.conf import settings

    own = {
        "BASE_URL": arkor.url,
        "TOKEN": arkor.token,
        "PROJECT": f"{arkor.org_slug}/{arkor.project_slug}",
    }
    with override_settings(ARKOR={**getattr(settings, "ARKOR", {}), **own}):
        yield arkor


def follow_now(run: Run, timeout: Optional[float] = 60.0) -> Run:
    """Follow a run to its end, here and now, with all its callbacks; submit it before if need be.

    The callbacks run in the test's own transaction, where there is one, each event in a savepoint.
    So a `TestCase` sees what they write, and undoes it at its end.

    Args:
        run: The run.
        timeout: Seconds that it may take; None for no limit.

    Returns:
        The same run, as it is now.

    Raises:
        Exception: What a callback raised, and the error policy did not let go; or `WaitTimeout`.
    """
    configured = arkor_settings()
    client = configured.client()
    if run.job_id is None:
        if not run.complete:
            raise ArkorUsageError(
                f"run {run.pk} is not submitted, and its row does not hold all that is sent; "
                "submit it in the test: with self.captureOnCommitCallbacks(execute=True): ..."
            )
        trainer = Trainer(run.name, run.config, client, RunOptions())
        submit_now(run, trainer, shared_store(configured))
        if run.job_id is None:
            raise ArkorUsageError(
                f"run {run.pk} is not submitted: it is {run.status} ({run.error})"
            )
    connection = connections[configured.database]
    slots = Slots(configured.database, configured.slots)
    store = DjangoCursorStore(configured.database)
    around: Any = slots
    if connection.in_atomic_block:
        lent = _Lent(connection)
        store, around = _TestStore(configured.database, lent), lent.transaction
    following = follow(
        run.job_id,
        callbacks=recorded(run.job_id, configured.callbacks_of(run), store),
        error_policy=policy_of(configured.policy()),
        client=client,
        cursor_store=store,
        around=around,
    )
    try:
        with following:
            following.wait(timeout)
    finally:
        store.close()
        slots.close()
        run.refresh_from_db(using=configured.database)
    return run
