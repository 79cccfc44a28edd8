"""The jobs of the project, asked for once for all who look. Any thread."""

from __future__ import annotations

import dataclasses
import time
from datetime import datetime, timezone
from threading import Condition
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence

from arkor_sync._common.clock import Clock
from arkor_sync._common.threads import OwnThread
from arkor_sync.errors import ArkorError, text_of

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob

_REST = 2.0  # seconds between two requests
_PATIENCE = 0.1  # seconds until a page shows the last list


@dataclasses.dataclass(frozen=True)
class Listing:
    """The jobs of the project, as they were at one moment.

    Attributes:
        version: It grows when a job has changed, come or gone.
        jobs: The jobs, in the cloud's order.
        read_at: When the cloud listed them; None if it has not yet.
        problem: Why the cloud could not be asked after that; None if it could.
    """

    version: int = 0
    jobs: Sequence[TrainingJob] = ()
    read_at: Optional[datetime] = None
    problem: Optional[str] = None
    _versions: Mapping[str, int] = dataclasses.field(default_factory=dict, repr=False)

    def changed_since(self, version: int) -> List[TrainingJob]:
        """Return the jobs that have changed or come since a version."""
        if version >= self.version:
            return []
        return [job for job in self.jobs if self._versions[job.id] > version]

    def _followed_by(self, jobs: Sequence[TrainingJob], version: int) -> Listing:
        """Return the next listing, as the cloud has just given it."""
        before = {job.id: job for job in self.jobs}
        versions: Dict[str, int] = {}
        for job in jobs:
            same = before.pop(job.id, None) == job
            versions[job.id] = self._versions[job.id] if same else version
        changed = bool(before) or version in versions.values() or self.read_at is None
        now = datetime.now(timezone.utc)
        return Listing(version if changed else self.version, jobs, now, None, versions)


class JobList:
    """The jobs of the project, as the cloud listed them a moment ago.

    The cloud is asked when somebody needs the jobs, at most every two seconds and once at a time,
    on a thread of its own: a page does not wait long for a list that it has in an older form.

    Args:
        client: Asks the cloud.
    """

    def __init__(self, client: CloudApiClient) -> None:
        self._client = client
        self._condition = Condition()
        self._asking = False
        self._last = Listing()
        self._error: Optional[BaseException] = None  # a fault, not one of the cloud
        self._due = 0.0  # by `Clock.now()`; 0 is long ago
        self._changes = 0  # how often `forget` was called

    def read(self) -> Listing:
        """Return the jobs. If the cloud cannot be asked, the last ones, and the problem.

        Who comes first, or after `forget`, waits for the cloud; others for a part of a second.
        """
        with self._condition:
            if Clock.now() >= self._due and not self._asking:
                OwnThread(self._ask, "arkor-studio-jobs").start()
                self._asking = True
            last = self._last
            is_first = last.read_at is None and last.problem is None
            patience = None if is_first or not self._due else _PATIENCE
            self._condition.wait_for(lambda: not self._asking, patience)
            error, self._error = self._error, None
            if error is not None:
                raise error
            return self._last

    def forget(self) -> None:
        """Ask the cloud at the next `read`, since a job was changed here."""
        with self._condition:
            self._changes += 1
            self._due = 0.0

    def _ask(self) -> None:
        last, changes = self._last, self._changes
        # The clock makes versions that grow over a restart of the server, and hold for the other
        # processes of a server, since what changes from now on is found later than now.
        version = max(last.version + 1, time.time_ns() // 1_000_000)
        error: Optional[BaseException] = None
        try:
            last = last._followed_by(self._client.jobs.list(), version)
        except ArkorError as problem:
            last = dataclasses.replace(last, problem=text_of(problem))
        except BaseException as fault:
            error = fault
        with self._condition:
            self._asking, self._last, self._error = False, last, error
            if error is None and changes == self._changes:  # else it may be from before the change
                self._due = Clock.now() + _REST
            self._condition.notify_all()
