"""Follows the runs of the site that are not finished, in this process. Any thread."""

from __future__ import annotations

from typing import Any, Callable, List, Optional

from django.utils import timezone

from arkor_sync._common.locks import Flag
from arkor_sync._common.log import get_logger
from arkor_sync._common.text import safe_line
from arkor_sync._common.threads import OwnThread
from arkor_sync._submission_search import fits, parts_of_row, scope_of
from arkor_sync.contrib.django.backend import storable
from arkor_sync.contrib.django.conf import ArkorSettings
from arkor_sync.contrib.django.connections import Slots
from arkor_sync.contrib.django.models import Run
from arkor_sync.contrib.django.recording import RunRecorder
from arkor_sync.contrib.django.store import DjangoCursorStore, policy_of
from arkor_sync.contrib.django.submitting import recover
from arkor_sync.errors import NotFoundError, text_of
from arkor_sync.follower import Follower

logger = get_logger("arkor_sync.contrib.django")

RECOVER_EVERY = 30.0  # seconds
_NOT_FOUND = "the cloud has no such job, and is asked again now and then: "
_OTHER_SCOPE = "it was submitted to another project or cloud than ARKOR names now: "


def recorded(job_id: str, callbacks: Any, store: DjangoCursorStore) -> List[Any]:
    """Return the callbacks of a job: those that keep its row, then the program's."""
    return [RunRecorder(job_id, store.backend.alias, store.owner), callbacks]


class SiteFollower:
    """Follows the runs that are not finished, and settles submissions whose process has died.

    Args:
        configured: The settings.
        until_done: Whether to stop when no run is left to follow.
        max_runs: How many jobs this process follows at most; the default is that of the settings.
    """

    def __init__(
        self,
        configured: ArkorSettings,
        until_done: bool = False,
        max_runs: Optional[int] = None,
    ) -> None:
        self._configured = configured
        self._until_done = until_done
        self._store = DjangoCursorStore(configured.database, configured.ttl)
        self._client = configured.client()
        self._slots = Slots(configured.database, configured.slots)
        self._stopped = Flag()
        self.follower = Follower(
            self._unfinished,
            self._callbacks_of,
            store=self._store,
            around=self._slots,
            max_runs=configured.max_runs if max_runs is None else max_runs,
            poll=1.0,
            error_policy=policy_of(configured.policy()),
            client=self._client,
        )
        self.follower._on_missing = self._say_missing

    def run(self, told: Callable[[str], Any]) -> None:
        """Follow until SIGTERM or SIGINT comes, hand all runs over, and return.

        Args:
            told: Called with lines for people.
        """
        recovering = OwnThread(self._recover_until_stopped, "arkor-recover")
        recovering.start()
        told(f"following runs as {self._store.owner}")
        try:
            self.follower.run()
        finally:
            self._stopped.set()
            recovering.join(self._configured.ttl)
            self._store.close()
            self._slots.close()
        told("stopped; all runs are handed over")

    def _unfinished(self) -> List[str]:
        rows = Run.objects.using(self._configured.database)
        with self._store.backend.transaction(reads=True):
            followed = rows.filter(status__in=Run.FOLLOWED, job_id__isnull=False)
            ids = list(followed.order_by("pk").values_list("job_id", flat=True))
            ended = self._until_done and not rows.exclude(status__in=Run.ENDED).exists()
        if ended:
            self.follower.stop()
        return ids

    def _callbacks_of(self, job_id: str) -> Any:
        with self._slots.borrowed():
            rows = Run.objects.using(self._configured.database).filter(job_id=job_id)
            rows.filter(error__startswith=_NOT_FOUND).update(error="")
            run = rows.get()
            return recorded(job_id, self._configured.callbacks_of(run), self._store)

    def _say_missing(self, job_id: str, error: NotFoundError) -> None:
        """Write it to the row: such as a job of another project, or of a cloud that was reset."""
        with self._slots.borrowed():
            rows = Run.objects.using(self._configured.database).filter(job_id=job_id)
            scope = parts_of_row(rows.get().intent)[1]
            other = "" if fits(scope, scope_of(self._client)) else _OTHER_SCOPE
            text = storable(safe_line(f"{_NOT_FOUND}{other}{text_of(error)}"))
            rows.exclude(error=text).update(error=text, updated_at=timezone.now())

    def _recover_until_stopped(self) -> None:
        while True:
            try:
                for each in recover(self._configured, self._store, self._client):
                    if each.run.status != each.before:
                        logger.info(
                            "run %s was %s, and is %s", each.run.pk, *each[1:], each.run.status
                        )
            except Exception as error:  # the store or the cloud is away; it is tried again
                what = "submissions are not settled now: %s: %s"
                logger.warning(what, type(error).__name__, text_of(error))
            if self._stopped.wait(RECOVER_EVERY):
                return
