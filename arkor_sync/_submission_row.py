"""The row of one submission in a store, and its lease. Runs on the caller's thread."""

from __future__ import annotations

import dataclasses
from typing import Callable, Optional, Tuple

from arkor_sync._common.clock import Clock
from arkor_sync._common.locks import Flag
from arkor_sync._common.log import get_logger
from arkor_sync._submission_search import Found, fits
from arkor_sync.errors import (
    LeaseHeldError,
    RunAborted,
    StoreUnavailableError,
    SubmissionUnknownError,
)
from arkor_sync.stores import LeasedStore
from arkor_sync.stores.backend import REFUSED, SUBMITTED, SUBMITTING, UNKNOWN, Intent

logger = get_logger("arkor_sync.submitting")

POLL = 0.25  # seconds between two looks at a row that another process has
PATIENCE = 15.0  # seconds that the store is tried, once it is known what became of a job

NOT_CREATED = "no job was created; submit() with this key sends it"
ELSEWHERE = (
    "it was submitted to another project or cloud, and is left alone: recover it with a client of "
    "that one, or look there and say what became of it, with settle_submission()"
)


@dataclasses.dataclass(frozen=True)
class Submission:
    """What became of a submission.

    Attributes:
        key: The program's name for it.
        name: The job's name, as it is sent: the trainer's name and the key.
        status: `submitted`; from `recover_submissions` also `submitting` (it is not sent, or not
            settled: `detail` says why), `refused` or `unknown`.
        job_id: The job; None where it is not known.
        detail: Why it is refused or unknown, and what else there is to say; or None.
        others: More jobs of this name that a recovery has found, if any. They go on, and cost.
    """

    key: str
    name: str
    status: str
    job_id: Optional[str] = None
    detail: Optional[str] = None
    others: Tuple[str, ...] = ()


class Row:
    """The row of one submission, and its lease.

    Attributes:
        name: The job's name, as it is sent.
        asked: When its lease was asked for.
    """

    def __init__(self, store: LeasedStore, key: str, name: str, ttl: float) -> None:
        self.name = name
        self.asked = Clock.now()
        self._store = store
        self._key = key
        self._ttl = ttl
        self._epoch = 0
        self._row_name = ""

    def take(self, row_name: str) -> Intent:
        """Read the row, and take its lease if nobody has it and it is not final."""
        self.asked = Clock.now()
        store = self._store
        intent = store.backend.open_submission(self._key, row_name, store.owner, self._ttl)
        self._epoch = intent.epoch
        self._row_name = row_name
        return intent

    def open(
        self, row_name: str, deadline: float, aborted: Callable[[], Optional[Tuple[object]]]
    ) -> Intent:
        """Do so, and wait while another process has the lease."""
        while True:
            reason = aborted()
            if reason:
                raise RunAborted(f"{self.name!r} was aborted before it was submitted", *reason)
            intent = self.take(row_name)
            is_final = intent.status in (SUBMITTED, REFUSED)
            if intent.mine or is_final or not fits(intent.name, row_name):
                return intent
            left = deadline - Clock.now()
            if left <= 0:
                raise held(intent)
            Flag().wait_in_slices(min(left, POLL))

    def close(
        self, status: str, job_id: Optional[str] = None, detail: Optional[str] = None
    ) -> bool:
        """Write down what became of it, and end the lease. The store is tried for a while.

        Returns:
            False if another process has the lease, or the store cannot be reached.
        """
        store = self._store
        ends = Clock.now() + PATIENCE
        while True:
            try:
                return store.backend.close_submission(
                    self._key, store.owner, self._epoch, status, job_id, detail
                )
            except StoreUnavailableError as error:
                if Clock.now() >= ends:
                    logger.warning(
                        "the submission %r (job %s) is not noted as %s: %s",
                        self._key,
                        job_id,
                        status,
                        error,
                    )
                    return False
                Flag().wait_in_slices(POLL)

    def submitted(self, job_id: str) -> Submission:
        """Write down the job that this process has submitted.

        Where it was stopped for longer than its lease lasts, another process may have submitted
        one too. Then that one is the job, and this one is reported.
        """
        if self.close(SUBMITTED, job_id):
            return self.result(SUBMITTED, job_id)
        try:
            intent = self.take(self._row_name)
        except StoreUnavailableError:
            intent = None
        if intent is not None and intent.mine and self.close(SUBMITTED, job_id):
            return self.result(SUBMITTED, job_id)
        if intent is not None and intent.job_id not in (None, job_id):
            return self._report((str(intent.job_id), job_id))
        # Else whoever has the row next finds the job by its name.
        logger.warning("job %s was submitted with the key %r, and not noted", job_id, self._key)
        return self.result(SUBMITTED, job_id)

    def settle(self, intent: Intent, found: Found) -> Optional[Submission]:
        """Attach to the job that was found; return None if it is certain that there is none.

        Raises:
            SubmissionUnknownError: That is not certain, or it was not when it was looked up before.
        """
        if found.jobs:
            return self.attach(found.jobs)
        doubt = found.doubt
        if not doubt and intent.status == UNKNOWN:
            doubt = intent.detail or "an earlier list may have been cut"
        if not doubt:
            return None
        self.close(UNKNOWN, detail=doubt)
        raise SubmissionUnknownError(
            f"it is not known whether there is a job {self.name!r} (key {self._key!r}): {doubt}. "
            "It is not submitted again. If you see the job, call settle_submission(store, key, "
            "job_id); if there is none, settle_submission(store, key)",
            self._key,
            self.name,
        )

    def attach(self, job_ids: Tuple[str, ...]) -> Submission:
        """Keep the oldest of these jobs, and report the others."""
        submission = self._report(job_ids)
        self.close(SUBMITTED, submission.job_id, submission.detail)
        return submission

    def _report(self, job_ids: Tuple[str, ...]) -> Submission:
        job_id, *others = job_ids
        detail = None
        if others:
            detail = f"more jobs of this name: {', '.join(others)}"
            logger.warning(
                "job %s is kept for the key %r; there are %s. They go on, and cost",
                job_id,
                self._key,
                detail,
            )
        return self.result(SUBMITTED, job_id, detail, tuple(others))

    def drop(self) -> None:
        """Remove the row: nothing was created. The next `submit` begins anew."""
        if self.close(SUBMITTING, detail=NOT_CREATED):
            try:
                self._store.backend.forget_submission(self._key)
            except StoreUnavailableError as error:
                logger.warning("the submission %r is not removed: %s", self._key, error)

    def result(
        self,
        status: str,
        job_id: Optional[str],
        detail: Optional[str] = None,
        others: Tuple[str, ...] = (),
    ) -> Submission:
        return Submission(self._key, self.name, status, job_id, detail, others)


def held(intent: Intent) -> LeaseHeldError:
    """Say who has the lease of a row."""
    owner = intent.owner or "another process"
    left = max(0.0, intent.expires_in)
    return LeaseHeldError(
        f"the submission {intent.key!r} is submitted or looked up by {owner} (epoch "
        f"{intent.epoch}) for {left:.0f} s at the most; try again after that"
    )
