"""Submitting at most one job for each key, and finding it again. Runs on the caller's thread.

The intent is written to the store before the request, and the job is sent under a name that carries
the key. A process may die at any point:

* The row of the intent has a lease. It lasts for the request, which is given up on this side before
  that, and for a time after it in which the cloud may still work on a request whose sender died.
* Whoever takes the row's lease over looks for a job of exactly this name. There is one: that is the
  job. There are more: the oldest one is, the others are reported, and none is cancelled.
* There is none: the job is submitted again, but only where the list of jobs is complete. The
  protocol has no paging and does not say whether a list was cut. So a list that is as long as
  servers like to cut theirs, or that cannot be read, proves nothing: the submission is `unknown`
  until a job of this name is found, or a person settles it.

One thing cannot be excluded without an idempotency key of the cloud: a process that is stopped
(SIGSTOP, a frozen machine) just before its request, and goes on after its lease has ended.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence, Tuple, Union

from arkor_sync._common.arguments import check, check_client, is_seconds, refusal
from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger
from arkor_sync._common.text import safe_line, safe_text
from arkor_sync._submission_row import ELSEWHERE, NOT_CREATED, Row, Submission, held
from arkor_sync._submission_search import (
    Found,
    find_jobs,
    fingerprint,
    fits,
    is_same_project,
    job_name,
    name_of_row,
    parts_of_row,
    scope_of,
)
from arkor_sync.cloud.submission import Submitter, maybe_created
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorError,
    ArkorTimeoutError,
    ArkorUsageError,
    CloudApiError,
    CredentialsError,
    ProjectStateError,
    RunAborted,
    RunError,
    SubmissionUnknownError,
    add_note,
    text_of,
)
from arkor_sync.stores import LeasedStore
from arkor_sync.stores.backend import REFUSED, SUBMITTED, SUBMITTING, UNKNOWN, Intent
from arkor_sync.trainer import Trainer

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob

__all__ = ["Submission", "recover_submissions", "settle_submission", "submit"]

logger = get_logger("arkor_sync.submitting")

MAX_KEY = 100  # characters
LOOK = 120.0  # seconds that the lease of a row lasts while it is looked up

PASSING = frozenset({401, 402, 403, 404, 408, 425, 426, 429})
"""Refusals that are about who asks, or about the moment, and not about the job."""


def submit(
    trainer: Trainer,
    *,
    key: str,
    store: LeasedStore,
    timeout: float = 30.0,
    request_limit: float = 60.0,
    settle_time: float = 60.0,
) -> Submission:
    """Submit a job, unless that was done with this key before, in any process. It is not followed.

    After it `trainer.follow()` and `follow(submission.job_id)` follow the job.

    Args:
        trainer: What to train, from `create_trainer`.
        key: The program's name for it, such as the id of an order. It stands in the job's name.
        store: Keeps the submissions: an `SQLCursorStore`, a `RedisCursorStore`.
        timeout: Seconds to wait while another process submits it, or died in doing so.
        request_limit: Seconds after which the request is given up.
        settle_time: Seconds after that in which the cloud may still create the job. Nobody looks
            for it, or sends it again, before they have passed.

    Returns:
        The submission, with its `job_id`.

    Raises:
        CloudApiError: The cloud refuses the job. A later call with the key raises it again without
            a request, until `settle_submission(store, key)` is called; not where the reason is who
            asks, or the moment (401, 429 and alike).
        ArkorConnectionError: The request got no answer. A later call finds out what became of it.
        SubmissionUnknownError: Nobody can tell whether there is a job; a person has to settle it.
        LeaseHeldError: Another process submits it, or died in doing so. Try again later.
        ArkorUsageError: An argument cannot work, or the key was used for another configuration.
        StoreUnavailableError: The store cannot be reached. Nothing was sent.
    """
    _check_store(store)
    check_key(key)
    check("trainer", trainer, isinstance(trainer, Trainer), "what create_trainer() returns")
    for label, value in (("request_limit", request_limit), ("settle_time", settle_time)):
        check(label, value, is_seconds(value) and value > 0, "seconds above 0")
    check("timeout", timeout, is_seconds(timeout), "seconds from 0")
    client, submitter = trainer._client, trainer._submitter
    if getattr(client, "retry", None) == "all":
        wanted = "a client with retry='safe': another may create the job twice"
        raise refusal("trainer", trainer, wanted, got="one whose client has retry='all'")
    if submitter.key not in (None, key) or (submitter.job is not None and submitter.key is None):
        wanted = "a new one: its job was submitted already, or has another key"
        raise refusal("trainer", trainer, wanted, got=repr(trainer))
    row = Row(store, key, job_name(trainer.name, key), request_limit + settle_time)
    scope = scope_of(client)
    row_name = name_of_row(row.name, fingerprint(trainer.config), scope)
    submitter.key = key
    intent = row.open(row_name, Clock.now() + timeout, trainer._find_abort)
    is_known = intent.status == SUBMITTED and is_same_project(intent.name, row_name)
    if not fits(intent.name, row_name) and not is_known:  # a cloud may get another address
        if intent.mine:
            row.close(intent.status, detail=intent.detail)
        raise _other_use(key, intent, row.name, scope)
    if intent.status == REFUSED:
        raise _refusal(intent.detail or "")
    if intent.status == SUBMITTED:
        submission = row.result(SUBMITTED, intent.job_id, intent.detail)
    else:
        ends = row.asked + request_limit
        found = Found()
        if intent.epoch > 1:
            found = find_jobs(_read_list(client), row.name)
        submission = row.settle(intent, found) or _send(trainer, row, ends)
    submitter.found = submission.job_id
    return submission


def recover_submissions(
    store: LeasedStore,
    client: CloudApiClient,
    *,
    trainer_for: Optional[Callable[[str], Optional[Trainer]]] = None,
) -> List[Submission]:
    """Settle all submissions that nobody works at: those of processes that died, and the unknown.

    It is for a regular job, such as one of cron; any number may run at the same time.

    Args:
        store: Keeps the submissions.
        client: A client of the project that the jobs are in. Those of another project, or another
            cloud, are left alone: their `detail` says so.
        trainer_for: Returns what to train for a key, or None. Where no job was created, it is
            submitted now. Without it that is left to the next `submit` with the key.

    Returns:
        What became of each: first those that are left alone. `unknown` ones need a person: see
        `SubmissionUnknownError`.

    Raises:
        StoreUnavailableError: The store cannot be reached.
    """
    _check_store(store)
    check_client(client)
    taken: List[Tuple[Row, Intent]] = []
    settled: List[Submission] = []
    here = scope_of(client)
    for seen in store.backend.submissions((SUBMITTING, UNKNOWN)):
        if seen.expires_in > 0:
            continue
        name, scope = parts_of_row(seen.name)
        row = Row(store, seen.key, name, LOOK)
        if not fits(scope, here):
            settled.append(row.result(seen.status, None, ELSEWHERE))
            continue
        intent = row.take(seen.name)
        if intent.mine:
            taken.append((row, intent))
    # Only now: a list from before a lease was taken may lack what its last holder has submitted.
    jobs = _read_list(client) if taken else []
    for row, intent in taken:
        try:
            submission = row.settle(intent, find_jobs(jobs, row.name))
        except SubmissionUnknownError as error:
            logger.warning("%s", error)
            submission = row.result(UNKNOWN, None, str(error))
        if submission is None:
            row.close(SUBMITTING, detail=NOT_CREATED)
            submission = row.result(SUBMITTING, None, NOT_CREATED)
            if trainer_for is not None:
                submission = _submit_again(trainer_for, submission, store)
        settled.append(submission)
    return settled


def settle_submission(store: LeasedStore, key: str, job_id: Optional[str] = None) -> None:
    """Say what became of a submission that is `unknown` or `refused`. A person has looked.

    Args:
        store: Keeps the submissions.
        key: Its key.
        job_id: The job that was created. None: there is none, and the next `submit` with the key
            sends one, of any configuration.

    Raises:
        ArkorUsageError: There is no such submission, or its job is known.
        LeaseHeldError: A process submits it, or looks it up, at this moment.
    """
    _check_store(store)
    check_key(key)
    is_id = job_id is None or (isinstance(job_id, str) and bool(job_id.strip()))
    check("job_id", job_id, is_id, "the id of a job, or None")
    rows = store.backend.submissions((SUBMITTING, UNKNOWN, REFUSED))
    found = next((each for each in rows if each.key == key), None)
    if found is None:
        got = f"{key!r}, which is no submission, or one whose job is known"
        raise refusal("key", key, "a key that recover_submissions() has listed", got=got)
    if job_id is None:
        if not store.backend.forget_submission(key):
            raise held(found)
        return
    row = Row(store, key, parts_of_row(found.name)[0], LOOK)
    if found.status == REFUSED and not store.backend.forget_submission(key):
        raise held(found)
    intent = row.take(found.name)
    if not intent.mine or not row.close(SUBMITTED, job_id):
        raise held(intent)


def _other_use(key: str, intent: Intent, name: str, scope: str) -> ArkorUsageError:
    """Say what a key was used for, if that was something else."""
    before, kept = parts_of_row(intent.name)
    what, wanted = repr(before), "the same again, or another key"
    if before == name and fits(kept, scope):
        what += " with another configuration"
    elif before == name:
        what += " in another project or cloud"
        wanted += "; or look there, and say what became of it with settle_submission()"
    return refusal("key", key, wanted, got=f"{key!r}, which was used for {what}")


def _read_list(client: CloudApiClient) -> Union[Sequence[TrainingJob], ArkorError]:
    try:
        return client.jobs.list()
    except ArkorError as error:
        return error


_TOO_LONG = object()  # the reason of an abort


def _send(trainer: Trainer, row: Row, ends: float) -> Submission:
    """Make the request, and write down what became of it."""

    def given_up() -> Optional[Tuple[object]]:
        return (_TOO_LONG,) if Clock.now() >= ends else trainer._find_abort()

    try:
        job = Submitter(trainer._client, row.name, trainer.config, given_up).submit(None)
    except Exception as error:
        error = _late(error, row.name) or error
        _note_failure(row, error)
        raise error from error.__cause__
    submission = row.submitted(job.id)
    if submission.job_id == job.id:
        trainer._submitter.job = job
    return submission


def _late(error: Exception, name: str) -> Optional[ArkorTimeoutError]:
    """Make another error of that of a request that took too long."""
    if not isinstance(error, RunAborted) or error.reason is not _TOO_LONG:
        return None
    late = ArkorTimeoutError(f"it took too long: {error}")
    late.sent = _may_have_created(error, name)
    return late


def _note_failure(row: Row, error: Exception) -> None:
    """Write down what an error of the request says about the job."""
    if _is_refusal(error):
        row.close(REFUSED, detail=str(error))
    elif not _may_have_created(error, row.name):
        row.drop()
    else:
        add_note(error, "submit() with the same key finds out, once the time to settle is over")


def _is_refusal(error: Exception) -> bool:
    """Whether the cloud has refused the job for good."""
    is_answer = isinstance(error, CloudApiError) and 400 <= error.status < 500
    return is_answer and getattr(error, "status", 0) not in PASSING


def _may_have_created(error: BaseException, name: str) -> bool:
    if isinstance(error, RunAborted) and error.__cause__ is not None:
        return _may_have_created(error.__cause__, name)  # the answer has come meanwhile
    if isinstance(error, RunAborted):
        return maybe_created(name) in str(error)
    if isinstance(error, ArkorConnectionError):
        return error.sent
    if isinstance(error, CloudApiError):
        return error.status >= 500
    # Where there is no thread, no credentials or no project, nothing was sent.
    unsent = (ArkorUsageError, CredentialsError, ProjectStateError, RunError)
    return not isinstance(error, unsent)


def _refusal(detail: str) -> CloudApiError:
    """Make the error again that the cloud answered with."""
    status, _, message = detail.partition(": ")  # what str(error) gave
    return CloudApiError.for_status(int(status) if status.isdecimal() else 400, message)


def _submit_again(
    trainer_for: Callable[[str], Optional[Trainer]], before: Submission, store: LeasedStore
) -> Submission:
    try:
        trainer = trainer_for(before.key)
        if trainer is None:
            return before
        return submit(trainer, key=before.key, store=store, timeout=0)
    except Exception as error:  # also of the program's function: the others are to be settled
        text = f"{type(error).__name__}: {safe_line(text_of(error))}"
        logger.warning("the submission %r is not sent again: %s", before.key, text)
        status = REFUSED if _is_refusal(error) else SUBMITTING
        status = UNKNOWN if isinstance(error, SubmissionUnknownError) else status
        return dataclasses.replace(before, status=status, detail=text)


def _check_store(store: object) -> None:
    wanted = "a store that keeps submissions: an SQLCursorStore or a RedisCursorStore"
    check("store", store, isinstance(store, LeasedStore), wanted)


def check_key(key: object) -> None:
    fits = isinstance(key, str) and 0 < len(key) <= MAX_KEY and key == key.strip()
    fits = fits and isinstance(key, str) and safe_text(key) == key and not set(key) & set("\t\n")
    wanted = f"a text of 1 to {MAX_KEY} characters, none of them a control character, without "
    check("key", key, fits, f"{wanted}space at its ends")
